"""The metrics, made of a status at the time that they are asked for."""

import platform
from collections.abc import Iterable, Iterator

from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    InfoMetricFamily,
    Metric,
)

from tapbond.metrics.switchovers import NONE, SwitchoverCounts
from tapbond.model import MiiStatus
from tapbond.state import Status

OF_SLAVE = ("master", "slave")
COUNTERS = {
    "tx_packets": ("tx_frames", "Frames sent; a segment of up to 64 KiB that the NIC cuts counts as one."),
    "rx_packets": ("rx_frames", "Frames received and delivered to the host."),
    "tx_bytes": ("tx_bytes", "Bytes of the frames sent."),
    "rx_bytes": ("rx_bytes", "Bytes of the frames received and delivered."),
    "tx_dropped": ("tx_dropped", "Frames of the host that were not sent; slave=none: no slave was there to."),
    "rx_dropped": ("rx_dropped", "Frames received that could not be delivered; slave=none: by the TAP itself."),
    "tx_resent": ("tx_resent", "Frames that this slave sent after another had failed to."),
    "rx_resent": ("rx_duplicate", "Frames that came a second time, over another slave, and were left out."),
}
DROPPED = ("tx_dropped", "rx_dropped")


def families(status: Status, counts: SwitchoverCounts) -> Iterator[Metric]:
    """Yield all families of one failover."""
    master, slaves = status.name, status.slaves
    yield _gauge("tapbond_slaves", "Slaves that are registered.", ("master",), [((master,), len(slaves))])
    active = [((master, slave.name), int(slave.active)) for slave in slaves]
    yield _gauge("tapbond_active", "1: the slave that sends.", OF_SLAVE, active)
    fit = [((master, one.name, str(one.role)), int(one.mii_status is not MiiStatus.DOWN)) for one in slaves]
    yield _gauge("tapbond_slave_up", "1: the slave may be used.", (*OF_SLAVE, "role"), fit)
    yield _switchovers(master, counts)
    yield _took(master, counts)
    for name, (field, text) in COUNTERS.items():
        yield _counter(status, name, field, text)
    rtts = [
        ((master, slave.name, probe.target), probe.rtt_ns / 1e9)
        for slave in slaves
        for probe in slave.probes
        if probe.rtt_ns is not None
    ]
    text = "From the last answered probe of a path to its answer."
    yield _gauge("tapbond_probe_rtt_seconds", text, (*OF_SLAVE, "target"), rtts)
    build = {"version": status.version, "python": platform.python_version()}
    yield InfoMetricFamily("tapbond_build", "What runs here.", value=build)


def _gauge(
    name: str, text: str, labels: Iterable[str], samples: Iterable[tuple[tuple[str, ...], float]]
) -> GaugeMetricFamily:
    family = GaugeMetricFamily(name, text, labels=tuple(labels))
    for values, value in samples:
        family.add_metric(values, value)
    return family


def _counter(status: Status, name: str, field: str, text: str) -> CounterMetricFamily:
    family = CounterMetricFamily(f"tapbond_{name}", text, labels=OF_SLAVE)
    for slave in status.slaves:
        family.add_metric((status.name, slave.name), getattr(slave.counters, field))
    if name in DROPPED:
        of_slaves = sum(getattr(slave.counters, field) for slave in status.slaves)
        family.add_metric((status.name, NONE), max(0, getattr(status.counters, field) - of_slaves))
    return family


def _switchovers(master: str, counts: SwitchoverCounts) -> CounterMetricFamily:
    labels = ("master", "from", "to", "reason")
    family = CounterMetricFamily("tapbond_switchovers", "Changes of the slave that sends.", labels=labels)
    for key, count in counts.by_key.items():
        family.add_metric((master, *key), count)
    return family


def _took(master: str, counts: SwitchoverCounts) -> HistogramMetricFamily:
    text = "From the detection of what led to a switchover to its decision."
    family = HistogramMetricFamily("tapbond_switchover_seconds", text, labels=("master",))
    family.add_metric((master,), counts.buckets(), counts.seconds)
    return family
