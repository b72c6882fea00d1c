"""The pump, when a slave fails: nothing lost, nothing out of order, and told."""

import asyncio
import errno
import resource
import socket
import time

import pytest
from rig import FRAME_MAX, Rig, fill, frame, inbound, receive, running, send, until, waiting

from tapbond._core import lib
from tapbond.datapath import PumpEventKind


async def test_the_frame_that_failed_and_all_after_it_go_over_the_next_slave() -> None:
    out = [frame(n) for n in range(300)]
    async with running() as rig:
        await send(rig.host, out[:100])
        assert await receive(rig.far[0], 100) == out[:100]
        rig.far[0].close()
        _, rest = await asyncio.gather(send(rig.host, out[100:]), receive(rig.far[1], 200))
        assert rest == out[100:]
        counters = await rig.counted(0, tx_resent=1, tx_errors=1, tx_frames=100, tx_dropped=0)
        assert counters.tx_resent == 1
        await rig.counted(1, tx_frames=200, tx_resent=0, tx_errors=0)


async def test_a_fault_is_told_before_the_switch_with_times_in_order() -> None:
    async with running() as rig:
        await rig.caught_up()
        before = len(rig.events)
        began_ns = time.monotonic_ns()
        rig.far[0].close()
        await send(rig.host, [frame(1)])
        await receive(rig.far[1], 1)
        await rig.told_of(PumpEventKind.FIRST_TX)
        fault, switched, first_tx = rig.events[before:]
        assert (fault.kind, fault.port, fault.error) == (PumpEventKind.PORT_FAULT, 0, errno.ECONNREFUSED)
        assert (switched.kind, switched.port) == (PumpEventKind.SWITCHED, 1)
        assert switched.error == errno.ECONNREFUSED
        assert (first_tx.kind, first_tx.port) == (PumpEventKind.FIRST_TX, 1)
        assert began_ns < fault.when_ns <= switched.when_ns <= first_tx.when_ns < time.monotonic_ns()
        assert rig.pump.sender() == 1


async def test_every_slave_fails_in_turn() -> None:
    async with running(5) as rig:
        for port in range(4):
            rig.far[port].close()
        await send(rig.host, [frame(1), frame(2)])
        assert await receive(rig.far[4], 2) == [frame(1), frame(2)]
        await rig.told_of(PumpEventKind.PORT_FAULT, 4)
        assert [event.port for event in rig.told(PumpEventKind.PORT_FAULT)] == [0, 1, 2, 3]
        total = rig.pump.total()
        assert (total.tx_resent, total.tx_errors, total.tx_dropped) == (1, 4, 0)


async def test_when_all_have_failed_frames_are_dropped_and_counted() -> None:
    async with running() as rig:
        for far in rig.far.values():
            far.close()
        await send(rig.host, [frame(n) for n in range(50)])
        total = await rig.counted(None, tx_dropped=50, tx_frames=0)
        assert (total.tx_errors, total.tx_resent) == (2, 0)
        assert rig.pump.sender() is None
        assert (await rig.told_of(PumpEventKind.SWITCHED, 3))[-1].port is None


def revive(rig: Rig, port: int) -> socket.socket:
    """Give a slave whose far end was closed another one, as if its link came back."""
    far, near = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    name = f"\0tapbond-test-{time.monotonic_ns()}"
    again = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    again.bind(name)
    rig.pump._sockets[port].first.connect(name)
    far.close()
    near.close()
    return again


async def test_a_fault_that_is_settled_brings_the_slave_back() -> None:
    async with running() as rig:
        rig.far[0].close()
        await send(rig.host, [frame(1)])
        await receive(rig.far[1], 1)
        (fault,) = await rig.told_of(PumpEventKind.PORT_FAULT)
        rig.far[0] = revive(rig, 0)
        await rig.order(0, 1, seen=fault.serial)
        assert rig.pump.sender() == 0
        await send(rig.host, [frame(2)])
        assert await receive(rig.far[0], 1) == [frame(2)]
        await rig.caught_up()
        assert rig.told(PumpEventKind.SWITCHED)[-1].error == 0


async def test_a_fault_that_could_not_be_told_is_settled_by_any_selection() -> None:
    """Nobody reads the events, and the ring is full when the slave fails: it must not be left out for ever."""
    async with running() as rig:
        asyncio.get_running_loop().remove_reader(lib.tb_pump_event_fd(rig.pump._pump))
        while not rig.tap_counters()["events_lost"]:
            await rig.order(0, 1)
        rig.far[0].close()
        await send(rig.host, [frame(1)])
        assert await receive(rig.far[1], 1) == [frame(1)]
        rig.far[0] = revive(rig, 0)
        await rig.order(0, 1, seen=0)
        await send(rig.host, [frame(2)])
        assert await receive(rig.far[0], 1) == [frame(2)]


async def test_a_fault_that_is_not_settled_is_not_tried_again() -> None:
    async with running() as rig:
        rig.far[0].close()
        await send(rig.host, [frame(1)])
        await receive(rig.far[1], 1)
        (fault,) = await rig.told_of(PumpEventKind.PORT_FAULT)
        await rig.order(0, 1, seen=fault.serial - 1)
        await send(rig.host, [frame(2)])
        assert await receive(rig.far[1], 1) == [frame(2)]
        assert rig.pump.counters(0).tx_errors == 1
        await rig.caught_up()
        assert len(rig.told(PumpEventKind.PORT_FAULT)) == 1


async def test_settling_one_fault_does_not_settle_a_later_one() -> None:
    async with running(3) as rig:
        rig.far[0].close()
        rig.far[1].close()
        await send(rig.host, [frame(1)])
        await receive(rig.far[2], 1)
        first, _ = await rig.told_of(PumpEventKind.PORT_FAULT, 2)
        rig.far[0] = revive(rig, 0)
        await rig.order(1, 0, 2, seen=first.serial)
        assert rig.pump.sender() == 0
        assert rig.pump.counters(1).tx_errors == 1


async def test_a_slave_that_still_fails_is_told_again_and_the_frame_is_not_lost() -> None:
    async with running() as rig:
        rig.far[0].close()
        for n in range(1, 20):
            await send(rig.host, [frame(n)])
            assert await receive(rig.far[1], 1) == [frame(n)]
            faults = await rig.told_of(PumpEventKind.PORT_FAULT, n)
            await rig.order(0, 1, seen=faults[-1].serial)
        assert rig.pump.counters(0).tx_resent == 19


async def test_another_slave_in_the_place_of_one_that_failed_starts_afresh() -> None:
    async with running() as rig:
        rig.far[0].close()
        await send(rig.host, [frame(1)])
        await receive(rig.far[1], 1)
        await rig.pump.detach(0)
        assert rig.plug() == 0
        await rig.order(0, 1)
        assert rig.pump.sender() == 0


async def test_a_frame_that_no_slave_would_take_is_dropped_and_blames_nobody() -> None:
    async with running(0) as rig:
        rig.plug(buffer=8192)
        rig.plug()
        await rig.order(0, 1)
        await send(rig.host, [frame(1), frame(2, size=FRAME_MAX - 100), frame(3)])
        assert await receive(rig.far[0], 2) == [frame(1), frame(3)]
        await rig.counted(0, tx_errors=1, tx_dropped=1, tx_frames=2)
        assert rig.pump.total().tx_dropped == 1
        assert rig.told(PumpEventKind.PORT_FAULT) == []


async def test_a_frame_that_failed_and_was_then_dropped_was_not_resent() -> None:
    async with running(0) as rig:
        rig.plug()
        rig.plug(buffer=8192)
        await rig.order(0, 1)
        rig.far[0].close()
        await send(rig.host, [frame(1, size=FRAME_MAX - 100), frame(2)])
        assert await receive(rig.far[1], 1) == [frame(2)]
        total = await rig.counted(None, tx_frames=1, tx_dropped=1)
        assert total.tx_resent == 0


async def test_a_fault_of_a_slave_that_does_not_send_switches_nothing() -> None:
    async with running(0, kind=socket.SOCK_SEQPACKET) as rig:
        rig.plug(kind=socket.SOCK_SEQPACKET)
        rig.plug(kind=socket.SOCK_SEQPACKET)
        await rig.order(0, 1)
        rig.far[1].close()
        (fault,) = await rig.told_of(PumpEventKind.PORT_FAULT)
        assert fault.port == 1
        await send(rig.host, [frame(1)])
        assert await receive(rig.far[0], 1) == [frame(1)]
        assert len(rig.told(PumpEventKind.SWITCHED)) == 1


async def test_a_sender_that_hangs_up_is_left_before_any_frame_is_sent() -> None:
    async with running(kind=socket.SOCK_SEQPACKET) as rig:
        rig.far[0].close()
        await until(lambda: rig.pump.sender() == 1, "the switch")
        await send(rig.host, [frame(1)])
        assert await receive(rig.far[1], 1) == [frame(1)]
        assert rig.pump.total().tx_errors == 0


async def test_a_blocked_sender_that_fails_hands_on_what_is_held() -> None:
    async with running(kind=socket.SOCK_SEQPACKET) as rig:
        sent = await fill(rig)
        taken = rig.pump.counters(0).tx_frames
        rig.far[0].close()
        assert await receive(rig.far[1], len(sent) - taken) == sent[taken:]


def cpu_s() -> float:
    """Return the CPU time of this process, the pump's thread included."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime


async def idle_share(seconds: float = 0.1) -> float:
    """Return which part of a core the process uses while the test only waits."""
    before, began = cpu_s(), time.monotonic()
    await asyncio.sleep(seconds)
    return (cpu_s() - before) / (time.monotonic() - began)


@pytest.mark.parametrize(
    "what", ["idle", "slave hung up", "slave closed", "all hung up", "tap ended", "draining", "blocked"]
)
async def test_it_does_not_spin(what: str) -> None:
    async with running(kind=socket.SOCK_SEQPACKET) as rig:
        if what == "slave hung up":
            rig.far[0].close()
            await rig.told_of(PumpEventKind.PORT_FAULT)
        elif what == "slave closed":
            port = rig.plug()
            rig.far[port].close()
            await rig.order(port, 0)
            await send(rig.host, [frame(1)])
            await receive(rig.far[0], 1)
        elif what == "all hung up":
            for far in rig.far.values():
                far.close()
            await rig.told_of(PumpEventKind.PORT_FAULT, 2)
        elif what == "tap ended":
            rig.host.close()
            await rig.told_of(PumpEventKind.TAP_FAULT)
        elif what == "draining":
            await rig.order(1)
        elif what == "blocked":
            await fill(rig)
        assert await idle_share() < 0.3


async def test_a_tap_that_ends_while_the_sender_is_blocked_is_told_and_does_not_spin() -> None:
    async with running(kind=socket.SOCK_SEQPACKET) as rig:
        await fill(rig)
        rig.host.close()
        await rig.told_of(PumpEventKind.TAP_FAULT)
        assert await idle_share() < 0.3


async def test_a_tap_that_takes_nothing_is_counted() -> None:
    async with running() as rig:
        rig.host.close()
        await send(rig.far[0], [inbound(n) for n in range(10)])
        await rig.counted(None, rx_dropped=10, rx_frames=0)
        assert rig.tap_counters()["rx_dropped"] == 10


async def test_detaching_a_slave_that_failed() -> None:
    async with running() as rig:
        rig.far[0].close()
        await send(rig.host, [frame(1)])
        assert await receive(rig.far[1], 1) == [frame(1)]
        await rig.pump.detach(0)
        await send(rig.host, [frame(2)])
        assert await receive(rig.far[1], 1) == [frame(2)]
        assert waiting(rig.far[1]) == []


def test_the_device_is_asked_and_says_what_it_is() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        assert lib.tb_link_ready(asking.fileno(), socket.if_nametoindex("lo")) in (0, 1)
        assert lib.tb_link_ready(asking.fileno(), 0x7FFFFFFF) == -errno.ENODEV
    assert lib.tb_link_ready(-1, 1) == -errno.EBADF
