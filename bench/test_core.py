"""The core by itself: selection, VLAN re-insertion, and a batch through the pump on socketpairs.

Run with: pytest bench/test_core.py
"""

import asyncio
import socket
from collections.abc import Iterator

import pytest
from pytest_benchmark.fixture import BenchmarkFixture

from tapbond._core import ffi, lib
from tapbond.datapath.pump import Pump
from tapbond.model import Decision, ReceiveMode, Role, SlaveFacts
from tapbond.policy import decide

FRAMES = 64
MACS = bytes.fromhex("0200000000fa020000000053")


def test_decide(benchmark: BenchmarkFixture) -> None:
    slaves = [SlaveFacts(port=port, role=role, up=True, carrier=True) for port, role in enumerate(Role)]
    benchmark(decide, ReceiveMode.ACTIVE, slaves, 0)


def test_select_sender(benchmark: BenchmarkFixture) -> None:
    selection = ffi.new("struct tb_selection *")
    selection.order_len = 2
    selection.order[1] = 1
    benchmark(lib.tb_select_sender, selection, 1)


@pytest.mark.parametrize("size", [60, 1514, 65000])
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
        for _ in range(FRAMES):
            source.send(frame)
        for _ in range(FRAMES):
            sink.recv(1 << 16)

    benchmark(batch)
