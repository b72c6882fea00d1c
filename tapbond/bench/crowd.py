"""Many failovers on one machine: what each costs, and how long until all have left a switch that died.

host                              switches
t0 ═ a0 (standby) ─────────────── sa0 ┐
t1 ═ a1 (standby) ─────────────── sa1 ┴ br0
t0 ═ b0 (primary) ─────────────── sb0 ┐
t1 ═ b1 (primary) ─────────────── sb1 ┴ br1   it dies: all its ports lose their carrier by one message
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Self

import msgspec

from tapbond.bench import fleet
from tapbond.bench.account import memory_kib, processor_ns
from tapbond.bench.figures import Spread, spread
from tapbond.bench.subjects import folder
from tapbond.errors import TapbondError
from tapbond.lab import leash
from tapbond.lab.lever import Lever
from tapbond.lab.namespace import Namespace
from tapbond.lab.process import FailoverProcess
from tapbond.lab.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Sequence

GROUP = 53
"""Of the dying switch's ports (ip-link(8), group)."""
DEADLINE_S = 60.0
SETTLE_S = 2.0
"""Announcements, neighbour discovery and the like are over then; and all have switched, nobody asking."""
NS_PER_MS = 1e6
KIB = 1024.0


class Measured(msgspec.Struct, frozen=True, kw_only=True):
    """One number of failovers, in one kind of home."""

    home: str
    """One process for all, or a process each."""
    count: int
    create_ms: float
    """Until the last was ready."""
    create_each_ms: Spread | None
    """Of each by itself; None where they were started at once."""
    idle_share: float
    """Of a processor, all together."""
    pss_mib: float
    """Memory, all together; pages shared by several processes count in part for each."""
    switch_message_ms: float
    """How long the kernel took to take all the carriers away."""
    switched_ms: Spread
    """From right before that to the decision of each failover."""


class Network:
    """The links of many failovers and their two switches; all gone when closed.

    Args:
        count: of failovers.
    """

    def __init__(self, count: int) -> None:
        with ExitStack() as stack:
            self.host = stack.enter_context(Namespace("host"))
            self._switch = stack.enter_context(Namespace("switch"))
            self._lever = Lever(self._switch)
            stack.callback(self._lever.close)
            lever = Lever(self.host)
            stack.callback(lever.close)
            bridges = [self._make_bridge(f"br{number}") for number in range(2)]
            for number in range(count):
                mac = f"02:00:00:01:{number >> 8:02x}:{number & 255:02x}"
                for link, bridge in zip(fleet.slaves(number), bridges, strict=True):
                    lever.create_veth(link, mac, 1500, (self._switch, f"s{link}"))
                    self._lever.join(self._switch.index_of(f"s{link}"), bridge)
            self._group([f"s{fleet.slaves(number)[1]}" for number in range(count)])
            self._stack = stack.pop_all()

    def _make_bridge(self, ifname: str) -> int:
        def make(ipr: Any) -> int:
            ipr.link("add", ifname=ifname, kind="bridge", br_stp_state=0, br_mcast_snooping=0, state="up")
            return int(ipr.link_lookup(ifname=ifname)[0])

        return self._switch.netlink(make)

    def _group(self, ports: Sequence[str]) -> None:
        def put(ipr: Any) -> None:
            for port in ports:
                ipr.link("set", index=socket.if_nametoindex(port), group=GROUP)

        self._switch.netlink(put)

    def kill_switch(self) -> int:
        """Let the primaries' switch die; return the time.monotonic_ns() from right before."""
        return self._lever.set_group_up(GROUP, up=False)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self._stack.close()


def measure_one_process(count: int, seconds: float) -> Measured:
    """Measure failovers that live in one process; TapbondError: it did not start."""
    with Network(count) as network, ExitStack() as stack:
        begin = time.monotonic_ns()
        child = _spawn_fleet(network.host, count)
        stack.callback(_end_fleet, child)
        created = msgspec.json.decode(_line(child), type=fleet.Created)
        created_ns = time.monotonic_ns()
        idle, memory = _idle([child.pid], seconds)
        at = network.kill_switch()
        message_ns = time.monotonic_ns() - at
        time.sleep(SETTLE_S)
        decided = wait_until(lambda: _fleet_decided(child, count, at), DEADLINE_S, "the last switchover")
        return Measured(
            home="one process",
            count=count,
            create_ms=(created_ns - begin) / NS_PER_MS,
            create_each_ms=spread(created.each_ms),
            idle_share=idle,
            pss_mib=memory,
            switch_message_ms=message_ns / NS_PER_MS,
            switched_ms=spread([(decided_ns - at) / NS_PER_MS for decided_ns in decided]),
        )


def measure_process_each(count: int, seconds: float) -> Measured:
    """Measure failovers that have a process each; TapbondError: one did not start."""
    with Network(count) as network, ExitStack() as stack:
        run_dir = folder(stack)
        begin = time.monotonic_ns()
        running = []
        for number in range(count):
            standby, primary = fleet.slaves(number)
            options = ("--standby", standby, "--primary", primary)
            process = FailoverProcess(network.host, fleet.name(number), *options, run_dir=run_dir)
            running.append(stack.enter_context(process))
        for process in running:
            process.wait_ready(DEADLINE_S)
        created_ns = time.monotonic_ns()
        idle, memory = _idle([process.process.pid for process in running], seconds)
        at = network.kill_switch()
        message_ns = time.monotonic_ns() - at
        time.sleep(SETTLE_S)
        decided = wait_until(lambda: _processes_decided(running, at), DEADLINE_S, "the last switchover")
        return Measured(
            home="a process each",
            count=count,
            create_ms=(created_ns - begin) / NS_PER_MS,
            create_each_ms=None,
            idle_share=idle,
            pss_mib=memory,
            switch_message_ms=message_ns / NS_PER_MS,
            switched_ms=spread([(decided_ns - at) / NS_PER_MS for decided_ns in decided]),
        )


def _spawn_fleet(host: Namespace, count: int) -> subprocess.Popen[bytes]:
    return host.spawn(
        [
            *(sys.executable, "-IS", leash.__file__, str(os.getpid())),
            *(sys.executable, "-m", fleet.__name__, str(count)),
        ],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )


def _end_fleet(child: subprocess.Popen[bytes]) -> None:
    assert child.stdin is not None  # noqa: S101 - a pipe was asked for
    child.stdin.close()
    try:
        child.wait(DEADLINE_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _line(child: subprocess.Popen[bytes]) -> bytes:
    assert child.stdout is not None  # noqa: S101 - a pipe was asked for
    if line := child.stdout.readline():
        return bytes(line)
    raise TapbondError("the process with all failovers ended; what it said is above")


def _fleet_decided(child: subprocess.Popen[bytes], count: int, since_ns: int) -> list[int]:
    """Return when each failover decided, empty while one has not."""
    assert child.stdin is not None  # noqa: S101 - a pipe was asked for
    child.stdin.write(b"\n")
    child.stdin.flush()
    found = msgspec.json.decode(_line(child), type=fleet.Switched)
    if found.active != [fleet.slaves(number)[0] for number in range(count)]:
        return []
    return [record.decided_ns for record in found.last if record and record.detected_ns >= since_ns]


def _processes_decided(running: Sequence[FailoverProcess], since_ns: int) -> list[int]:
    """Return when each failover decided, empty while one has not."""
    decided = []
    for number, process in enumerate(running):
        status = process.status()
        if status.active != fleet.slaves(number)[0] or status.last_switchovers[-1].detected_ns < since_ns:
            return []
        decided.append(status.last_switchovers[-1].decided_ns)
    return decided


def _idle(pids: Sequence[int], seconds: float) -> tuple[float, float]:
    """Return the share of a processor that processes take while nothing passes, and their memory in MiB."""
    time.sleep(SETTLE_S)
    before, begin = sum(map(processor_ns, pids)), time.monotonic_ns()
    time.sleep(seconds)
    share = (sum(map(processor_ns, pids)) - before) / (time.monotonic_ns() - begin)
    return share, sum(map(memory_kib, pids)) / KIB
