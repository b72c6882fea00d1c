"""What is put on each subject, and what is read from it."""

from __future__ import annotations

import json
import shutil
import subprocess
import time
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from tapbond.bench.account import Account
from tapbond.bench.background import Background
from tapbond.bench.figures import quantile
from tapbond.errors import TapbondError
from tapbond.lab.busy import busy
from tapbond.lab.echo import Echo
from tapbond.lab.flood import Flood, FloodState
from tapbond.lab.topology import FAR_V4
from tapbond.lab.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from tapbond.bench.bed import Bed
    from tapbond.lab.namespace import Namespace

    Measure = Callable[[Bed, str, float], dict[str, float]]

BOTH = ("to far", "from far")
ROUND_TRIP = ("round trip",)
IPERF_PORT, FLOOD_PORT, ECHO_PORT = 5201, 5401, 5402
MTU = 1500
WARM_UP_S = 0.1
FIRST_TRIP_S = 10.0
HEADERS = 14 + 20 + 8
"""Ethernet, IPv4 and UDP."""
GSO_PAYLOAD, GSO_SEGMENTS = 1472, 40
NS_PER_S = 1e9
NS_PER_US = 1e3
GBIT = 1e9
TRIPS_A_SECOND_MAX = 200_000


class Load(NamedTuple):
    """One of them."""

    name: str
    label: str
    metric: str
    """What the table shows: a key of what ``measure`` returns."""
    higher: bool
    """More is better."""
    directions: tuple[str, ...]
    measure: Measure
    """Takes the bed, one of the directions, and for how many seconds."""
    mtu: int = MTU
    missing: Callable[[], str | None] = lambda: None
    """Returns why it cannot be had here, or None."""
    columns: tuple[str, ...] = ()
    """Further metrics for the table."""


def iperf_missing() -> str | None:
    """Return why TCP cannot be measured, or None."""
    return None if shutil.which("iperf3") else "iperf3 is not installed (Debian: apt-get install iperf3)"


def tcp(bed: Bed, direction: str, seconds: float, streams: int) -> dict[str, float]:
    """Return Gbit/s received through TCP, and the share of a processor that each process took for it.

    iperf3 takes whole seconds only, and at least one.
    """
    whole = max(1, round(seconds))
    options = ["-P", str(streams), *(["-R"] if direction == "from far" else [])]
    with bed.far.spawn(["iperf3", "-s", "-1"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            wait_until(lambda: _listens(bed.far), what="the iperf3 server")
            account, begin = Account(bed.pids), time.monotonic_ns()
            client = ["iperf3", "-J", "-t", str(whole), "-c", FAR_V4, *options]
            report = json.loads(bed.host.check_output(client, whole + 20.0))
            elapsed, spent = time.monotonic_ns() - begin, account.spent_ns()
            server.wait(10)
        except subprocess.CalledProcessError as error:
            raise TapbondError(f"iperf3: {_iperf_error(error.stdout)}") from error
        finally:
            server.kill()
    shares = {f"cpu {name}": ns / elapsed for name, ns in spent.items()}
    return {"Gbit/s": report["end"]["sum_received"]["bits_per_second"] / GBIT, **shares}


def _iperf_error(output: str) -> str:
    try:
        return str(json.loads(output)["error"])
    except (ValueError, KeyError):
        return "it failed"


def _listens(far: Namespace) -> bool:
    """Return whether iperf3 listens, without connecting to it."""
    table = far.run(lambda: Path("/proc/thread-self/net/tcp6").read_text() + "\n" + _tcp4())
    rows = [row.split() for row in table.splitlines() if ":" in row]
    return any(row[1].endswith(f":{IPERF_PORT:04X}") and row[3] == "0A" for row in rows)


def _tcp4() -> str:
    return Path("/proc/thread-self/net/tcp").read_text()


def flood(bed: Bed, direction: str, seconds: float, size: int, segment: int = 0) -> dict[str, float]:
    """Return what arrives of UDP at full rate, and what a frame costs whom, in ns of processor time."""
    source, sink = bed.ends(direction)
    with Flood(source.namespace, sink.namespace, sink.address, FLOOD_PORT, size=size, segment=segment) as running:
        time.sleep(WARM_UP_S)
        account, before = Account(bed.pids), running.state()
        time.sleep(seconds)
        after, spent = running.state(), account.spent_ns()
    return flood_figures(before, after, spent, size)


def flood_figures(before: FloodState, after: FloodState, spent: Mapping[str, int], size: int) -> dict[str, float]:
    """Return a flood's figures from two readings: pure."""
    elapsed = (after.at_ns - before.at_ns) / NS_PER_S
    frames = (after.received - before.received) / size
    costs = {**spent, "sender": after.tx_cpu_ns - before.tx_cpu_ns, "sink": after.rx_cpu_ns - before.rx_cpu_ns}
    per_frame = {f"ns/frame {name}": ns / frames for name, ns in costs.items()} if frames else {}
    return {
        "frames/s": frames / elapsed,
        "Gbit/s": (after.received - before.received) * 8 / GBIT / elapsed,
        "sent/s": (after.sent - before.sent) / elapsed,
        "sink overflow/s": (after.overflow - before.overflow) / elapsed,
        **per_frame,
    }


def round_trips(
    bed: Bed, seconds: float, state: Callable[[Bed], AbstractContextManager[None]]
) -> dict[str, float]:
    """Return quantiles of UDP round trips in µs, while the machine is in a state."""
    trips_max = int((seconds + WARM_UP_S) * TRIPS_A_SECOND_MAX)
    with state(bed), Echo(bed.host, bed.far, FAR_V4, ECHO_PORT, trips_max=trips_max) as echo:
        wait_until(lambda: echo.trips, FIRST_TRIP_S, "a first round trip")  # after a flood that takes a while
        time.sleep(WARM_UP_S)
        skipped, lost_before = echo.trips, echo.lost
        time.sleep(seconds)
        trips, lost = echo.trips_ns()[skipped:], echo.lost - lost_before
    if not trips:
        raise TapbondError("no round trip came to an end")
    ordered = sorted(trips)
    shares = {"p50 µs": 0.5, "p99 µs": 0.99, "p99.9 µs": 0.999}
    found = {name: quantile(ordered, share) / NS_PER_US for name, share in shares.items()}
    return {**found, "trips/s": len(trips) / seconds, "lost": float(lost)}


def _tcp_load(name: str, label: str, streams: int, mtu: int) -> Load:
    return Load(
        name,
        label,
        "Gbit/s",
        higher=True,
        directions=BOTH,
        measure=lambda bed, direction, seconds: tcp(bed, direction, seconds, streams),
        mtu=mtu,
        missing=iperf_missing,
    )


def _frames_load(size: int) -> Load:
    return Load(
        f"udp{size}",
        f"UDP, frames of {size} bytes at full rate",
        "frames/s",
        higher=True,
        directions=BOTH,
        measure=lambda bed, direction, seconds: flood(bed, direction, seconds, size - HEADERS),
        columns=("ns/frame *",),
    )


def _trips_load(name: str, label: str, state: Callable[[Bed], AbstractContextManager[None]]) -> Load:
    return Load(
        name,
        label,
        "p50 µs",
        higher=False,
        directions=ROUND_TRIP,
        measure=lambda bed, _direction, seconds: round_trips(bed, seconds, state),
        columns=("p99 µs", "p99.9 µs"),
    )


LOADS: dict[str, Load] = {
    load.name: load
    for load in (
        _tcp_load("tcp", "TCP, one stream", 1, 1500),
        _tcp_load("tcp4", "TCP, four streams", 4, 1500),
        _tcp_load("tcp-9000", "TCP, one stream, MTU 9000", 1, 9000),
        _tcp_load("tcp4-9000", "TCP, four streams, MTU 9000", 4, 9000),
        _frames_load(60),
        _frames_load(512),
        _frames_load(1514),
        Load(
            "gso",
            f"UDP with GSO, {GSO_SEGMENTS} datagrams of {GSO_PAYLOAD} bytes a send",
            "Gbit/s",
            higher=True,
            directions=BOTH,
            measure=lambda bed, direction, seconds: flood(bed, direction, seconds, GSO_PAYLOAD, GSO_SEGMENTS),
        ),
        _trips_load("rr", "UDP round trips, idle machine", lambda _bed: nullcontext()),
        _trips_load("rr-busy", "UDP round trips, processors kept awake", lambda _bed: busy()),
        _trips_load("rr-traffic", "UDP round trips, beside 10 000 frames/s each way", Background),
    )
}
FAILOVER = "failover"
"""A load of its own kind: tapbond.bench.outages."""
NAMES = (*LOADS, FAILOVER)
