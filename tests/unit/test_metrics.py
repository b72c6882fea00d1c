"""Metrics of a status, read back by the parsers of prometheus_client."""

import random
from collections.abc import Iterable

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.core import Metric
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_open
from prometheus_client.parser import text_string_to_metric_families as parse
from statuses import LOST, PRIMARY, PROBED, STANDBY, slave, status, switchover

from tapbond.errors import TapbondError
from tapbond.metrics.address import Address
from tapbond.metrics.page import FRESH_NS, MetricsPage
from tapbond.metrics.switchovers import REASONS, SERIES_MAX, SwitchoverCounts, reason
from tapbond.model import Role
from tapbond.settings import Settings

OPENMETRICS = "application/openmetrics-text; version=1.0.0; charset=utf-8"
NAMES = {
    "tapbond_slaves",
    "tapbond_active",
    "tapbond_slave_up",
    "tapbond_switchovers_total",
    "tapbond_switchover_seconds_bucket",
    "tapbond_switchover_seconds_sum",
    "tapbond_switchover_seconds_count",
    *(f"tapbond_{way}_{what}_total" for way in ("rx", "tx") for what in ("packets", "bytes", "dropped", "resent")),
    "tapbond_probe_rtt_seconds",
    "tapbond_build_info",
}

Samples = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def samples(metrics: Iterable[Metric]) -> Samples:
    found: Samples = {}
    for family in metrics:
        assert family.documentation
        for sample in family.samples:
            key = (sample.name, tuple(sorted(sample.labels.items())))
            assert key not in found, key
            found[key] = sample.value
    return found


def labels(**values: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(values.items()))


def counted() -> SwitchoverCounts:
    counts = SwitchoverCounts()
    counts.add(switchover(1))
    counts.add(switchover(2, decided_ns=1_030_000_000))
    counts.add(switchover(3, from_slave=None, to_slave="eth1", cause="first slave ready"))
    return counts


def page(counts: SwitchoverCounts | None = None) -> MetricsPage:
    return MetricsPage(lambda: status(STANDBY, PRIMARY), counts or counted(), lambda: 0)


def test_every_name_and_no_other() -> None:
    everything = MetricsPage(lambda: status(STANDBY, LOST, rules=PROBED), counted(), lambda: 0)
    assert {name for name, _ in samples(parse(everything.text()))} == NAMES


def test_values() -> None:
    found = samples(parse(page().text()))
    tb0 = {"master": "tb0"}
    assert found["tapbond_slaves", labels(**tb0)] == 2
    assert found["tapbond_active", labels(**tb0, slave="eth0")] == 0
    assert found["tapbond_active", labels(**tb0, slave="eth1")] == 1
    assert found["tapbond_slave_up", labels(**tb0, slave="eth1", role="primary")] == 1
    assert found["tapbond_tx_packets_total", labels(**tb0, slave="eth1")] == 100
    assert found["tapbond_rx_bytes_total", labels(**tb0, slave="eth1")] == 8000
    assert found["tapbond_tx_resent_total", labels(**tb0, slave="eth0")] == 2
    assert found["tapbond_rx_resent_total", labels(**tb0, slave="eth1")] == 1
    assert found["tapbond_tx_dropped_total", labels(**tb0, slave="eth1")] == 5
    assert found["tapbond_tx_dropped_total", labels(**tb0, slave="none")] == 2
    ways = {"from": "eth1", "to": "eth0", "reason": "carrier_lost"}
    assert found["tapbond_switchovers_total", labels(**tb0, **ways)] == 2
    assert found["tapbond_switchover_seconds_bucket", labels(**tb0, le="0.00025")] == 2
    assert found["tapbond_switchover_seconds_bucket", labels(**tb0, le="0.05")] == 3
    assert found["tapbond_switchover_seconds_count", labels(**tb0)] == 3
    assert found["tapbond_switchover_seconds_sum", labels(**tb0)] == pytest.approx(0.0304)


def test_probes_have_a_round_trip_time_once_they_were_answered() -> None:
    live = MetricsPage(lambda: status(LOST, rules=PROBED), SwitchoverCounts(), lambda: 0)
    found = samples(parse(live.text()))
    rtts = {key[1]: value for key, value in found.items() if key[0] == "tapbond_probe_rtt_seconds"}
    assert rtts == {labels(master="tb0", slave="eth1", target="2001:db8::1"): 0.00025}
    assert found["tapbond_slave_up", labels(master="tb0", slave="eth1", role="primary")] == 0


def test_openmetrics_says_the_same() -> None:
    answer = page().answer(OPENMETRICS)
    assert answer.content_type.startswith("application/openmetrics-text; version=1.")
    plain = page().answer("text/plain")
    assert plain.content_type == "text/plain; version=0.0.4; charset=utf-8"
    assert samples(parse_open(answer.body.decode())) == samples(parse(plain.body.decode()))


def test_many_that_ask_at_once_get_one_text() -> None:
    now, asked = [0], []

    def live() -> object:
        asked.append(now[0])
        return status(STANDBY, PRIMARY)

    one = MetricsPage(live, counted(), lambda: now[0])  # type: ignore[arg-type]
    assert one.answer("") is one.answer("text/plain")
    now[0] = FRESH_NS - 1
    one.answer("")
    assert asked == [0]
    now[0] = FRESH_NS
    one.answer("")
    assert asked == [0, FRESH_NS]


def test_a_name_that_is_no_plain_word_is_escaped() -> None:
    odd = slave('e"th\\0', Role.BACKUP)
    live = MetricsPage(lambda: status(odd), SwitchoverCounts(), lambda: 0)
    assert ("tapbond_active", labels(master="tb0", slave='e"th\\0')) in samples(parse(live.text()))


@pytest.mark.parametrize(
    ("cause", "label"),
    [
        ("carrier lost", "carrier_lost"),
        ("send failed: ENETDOWN (Network is down)", "send_errors"),
        ("standby ready", "better_slave_ready"),
        ("something new", "other"),
    ],
)
def test_reasons(cause: str, label: str) -> None:
    assert reason(cause) == label


@given(st.text())
def test_reasons_are_of_a_fixed_set(cause: str) -> None:
    assert reason(cause) in {*REASONS.values(), "other"}


def test_series_are_bounded_and_nothing_is_lost() -> None:
    counts, rng = SwitchoverCounts(), random.Random(1)  # noqa: S311  (seeded on purpose)
    for serial in range(5000):
        counts.add(switchover(serial, from_slave=f"veth{rng.randrange(3000)}", cause=rng.choice(list(REASONS))))
    assert len(counts.by_key) <= SERIES_MAX + len(set(REASONS.values()))
    assert sum(counts.by_key.values()) == 5000
    assert counts.buckets()[-1] == ("+Inf", 5000)


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("9199", "127.0.0.1", 9199),
        ("127.0.0.1:9199", "127.0.0.1", 9199),
        ("localhost:1", "127.0.0.1", 1),
        ("0.0.0.0:65535", "0.0.0.0", 65535),  # noqa: S104  (nothing is bound)
        ("[::1]:9199", "::1", 9199),
    ],
)
def test_addresses(text: str, host: str, port: int) -> None:
    assert Address.parse(text) == Address(host, port)
    assert Address.parse(str(Address(host, port))) == Address(host, port)


@pytest.mark.parametrize(
    "text",
    ["", ":", "x", "0", "65536", "-1", "9.9", "host:9199", "1.2.3:80", "::1:9199", "[::1]", "1.2.3.4:", ":80"],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(TapbondError, match=r"^--metrics .*\(9199, 127.0.0.1:9199, \[::1\]:9199\)$"):
        Address.parse(text)


def test_settings_refuse_them_before_anything_is_changed() -> None:
    with pytest.raises(TapbondError, match=r"--metrics 0: 0 is no port"):
        Settings.of("tb0", {"standby": "eth0", "metrics": "0"})
    with pytest.raises(
        TapbondError, match=r"--metrics-file /run/x: node_exporter reads only files named \*\.prom"
    ):
        Settings.of("tb0", {"standby": "eth0", "metrics_file": "/run/x"})
