"""The core by itself: selection, VLAN re-insertion, and a batch of 64 frames through the pump on socketpairs.

Run with: pytest bench/test_core.py
"""

import asyncio
import socket
from collections.abc import Iterator

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from tapbond._core import ffi, lib
from tapbond.datapath.pump import Pump
from tapbond.lab._traffic import lib as traffic
from tapbond.model import Decision, ReceiveMode, Role, SlaveFacts
from tapbond.policy import decide

FRAMES = 64
MACS = bytes.fromhex("0200000000fa020000000053")


@pytest.mark.parametrize("slaves", [2, 32])
def test_decide(benchmark: BenchmarkFixture, slaves: int) -> None:
    roles = [Role.STANDBY, Role.PRIMARY, *[Role.BACKUP] * (slaves - 2)]
    facts = [SlaveFacts(port=port, role=role, up=True, carrier=True) for port, role in enumerate(roles)]
    benchmark(decide, ReceiveMode.ACTIVE, facts, 0)


@pytest.mark.parametrize("slaves", [2, 32])
def test_select_sender(benchmark: BenchmarkFixture, slaves: int) -> None:
    """The last one is it: all others are suspended. Some 100 ns of it are cffi's call."""
    selection = ffi.new("struct tb_selection *")
    selection.order_len = slaves
    for place in range(slaves):
        selection.order[place] = place
    suspended = (1 << slaves - 1) - 1
    assert lib.tb_select_sender(selection, suspended) == slaves - 1
    benchmark(lib.tb_select_sender, selection, suspended)


@pytest.mark.parametrize("sources", [1, 64])
def test_sources_learn(benchmark: BenchmarkFixture, sources: int) -> None:
    """Who else speaks through the TAP: each frame that it sends is looked at."""
    table = ffi.gc(lib.tb_sources_new(), lib.tb_sources_free)
    frames = [
        ffi.new("uint8_t[]", bytes(10) + MACS[:6] + bytes([2, 0, 0, 0, 1, number]) + bytes(48))
        for number in range(sources)
    ]

    def learn() -> None:
        for frame in frames:
            lib.tb_sources_learn(table, frame, 70, 1)

    benchmark(learn)


@pytest.mark.parametrize("size", [60, 512, 1514, 9014, 65000])
def test_vlan_insert(benchmark: BenchmarkFixture, size: int) -> None:
    buffer = ffi.new("uint8_t[]", 16 + size)
    benchmark(lib.tb_vlan_insert, buffer + 4, 10 + size, 0x8100, 5)


@pytest.fixture
def pipeline() -> Iterator[tuple[socket.socket, socket.socket]]:
    """The host's end of a TAP and the wire's end of a slave, a pump between them."""
    host, tap = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    wire, slave = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    for end in (host, tap, wire, slave):
        end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 22)
    tap.setblocking(False)
    with asyncio.Runner() as runner:

        async def start() -> Pump:
            pump = Pump(tap.fileno())
            port = pump.attach_socket(slave)
            pump.start(Deaf())
            order = Decision(order=(port,), receive=frozenset(), receive_sender=True, drain=False, requested=None)
            pump.apply(order, 0)
            return pump

        pump = runner.run(start())
        yield host, wire
        runner.run(pump.close())
    for end in (host, tap, wire):
        end.close()


class Deaf:
    """Hears the pump, and does nothing."""

    def pump_event(self, event: object) -> None:
        pass


@pytest.mark.parametrize("size", [60, 512, 1514, 9014])
@pytest.mark.parametrize("direction", ["transmit", "receive"])
def test_batch(
    benchmark: BenchmarkFixture, pipeline: tuple[socket.socket, socket.socket], direction: str, size: int
) -> None:
    source, sink = pipeline if direction == "transmit" else pipeline[::-1]
    frame = bytes(10) + MACS + bytes(size - len(MACS))

    def batch() -> None:
        assert traffic.lab_relay(source.fileno(), sink.fileno(), frame, len(frame), FRAMES) == 0

    benchmark(batch)
