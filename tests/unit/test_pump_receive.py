"""The pump: whose frames are delivered, before, during and after a switch."""

import socket

from rig import BROADCAST, GROUP, OWN, PEER, Rig, frame, inbound, receive, running, send, waiting

from tapbond._core import lib
from tapbond.datapath import PumpEventKind
from tapbond.model import Decision

SHORT_DRAIN_NS = 1_000_000


async def delivered(rig: Rig, port: int, *frames: bytes) -> list[bytes]:
    """Send frames on a slave, and return those that come out at the host."""
    await send(rig.far[port], frames)
    await rig.barrier(port)
    return waiting(rig.host)


async def test_only_the_sender_receives() -> None:
    async with running() as rig:
        assert await delivered(rig, 0, inbound(1)) == [inbound(1)]
        await send(rig.far[1], [inbound(2)])
        await rig.order(1, drain=False)
        assert await delivered(rig, 1, inbound(3)) == [inbound(3)]


async def test_a_closed_gate_drops_frames_in_the_kernel() -> None:
    async with running() as rig:
        await send(rig.far[1], [inbound(n) for n in range(100)])
        await rig.order(0, 1)
        counters = rig.pump.counters(1)
        assert (counters.rx_frames, counters.rx_dropped, counters.rx_errors) == (0, 0, 0)


async def test_a_gate_is_opened_and_closed_any_number_of_times() -> None:
    far, near = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with far, near:
        near.setblocking(False)
        for _ in range(3):
            for _ in range(2):
                assert lib.tb_port_gate(near.fileno(), 0) == 0
            far.send(b"dropped")
            assert waiting(near) == []
            for _ in range(2):
                assert lib.tb_port_gate(near.fileno(), 1) == 0
            far.send(b"passed")
            assert waiting(near) == [b"passed"]


async def test_after_a_switch_unicast_on_the_old_slave_is_delivered_until_the_drain_ends() -> None:
    async with running() as rig:
        await rig.order(1, 0)
        assert await delivered(rig, 0, inbound(1)) == [inbound(1)]
        assert await delivered(rig, 0, inbound(2, to=GROUP), inbound(3, to=BROADCAST)) == []
        await rig.counted(0, rx_frames=1, rx_dropped=2)
        assert await delivered(rig, 1, inbound(4, to=GROUP), inbound(5)) == [inbound(4, to=GROUP), inbound(5)]
        assert rig.told(PumpEventKind.DRAINED) == []


async def test_the_drain_ends_by_itself() -> None:
    async with running(drain_ns=SHORT_DRAIN_NS) as rig:
        await rig.order(1, 0)
        (drained,) = await rig.told_of(PumpEventKind.DRAINED)
        switched = rig.told(PumpEventKind.SWITCHED)[-1]
        assert SHORT_DRAIN_NS * 0.9 <= drained.when_ns - switched.when_ns < 1_000_000_000
        await send(rig.far[0], [inbound(1)])
        assert await delivered(rig, 1, inbound(2)) == [inbound(2)]


async def test_a_drain_of_nothing_is_none() -> None:
    async with running(drain_ns=0) as rig:
        await rig.order(1, 0)
        assert await delivered(rig, 1, inbound(1)) == [inbound(1)]
        await rig.caught_up()
        assert rig.told(PumpEventKind.DRAINED) == []


async def test_a_drain_ends_with_the_slave_that_drained() -> None:
    async with running() as rig:
        await rig.order(1)
        await rig.pump.detach(0)
        await rig.told_of(PumpEventKind.DRAINED)


async def test_switching_back_ends_one_drain_and_begins_another() -> None:
    async with running() as rig:
        for n in range(6):
            sender = (n + 1) % 2
            await rig.order(sender)
            assert await delivered(rig, sender, inbound(n, to=GROUP)) == [inbound(n, to=GROUP)]
            assert await delivered(rig, 1 - sender, inbound(n, to=BROADCAST), inbound(n)) == [inbound(n)]


async def test_copies_on_both_slaves_within_the_drain_are_delivered_once() -> None:
    for first, second in ((0, 1), (1, 0)):
        async with running() as rig:
            await rig.order(1, 0)
            copies = [inbound(n) for n in range(200)]
            assert await delivered(rig, first, *copies) == copies
            assert await delivered(rig, second, *copies) == []
            await rig.counted(second, rx_duplicate=200, rx_frames=0)
            await rig.counted(first, rx_duplicate=0, rx_frames=200)


async def test_copies_that_alternate_are_delivered_once() -> None:
    async with running() as rig:
        await rig.order(1, 0)
        for n in range(50):
            order = (0, 1) if n % 2 else (1, 0)
            assert await delivered(rig, order[0], inbound(n)) == [inbound(n)]
            assert await delivered(rig, order[1], inbound(n)) == []


async def test_a_frame_sent_twice_on_one_path_arrives_twice() -> None:
    async with running() as rig:
        await rig.order(1, 0)
        for port in (0, 1):
            assert await delivered(rig, port, inbound(port), inbound(port)) == [inbound(port)] * 2


async def test_a_frame_sent_twice_and_copied_twice_arrives_twice() -> None:
    async with running() as rig:
        await rig.order(1, 0)
        assert await delivered(rig, 0, inbound(1), inbound(1)) == [inbound(1)] * 2
        assert await delivered(rig, 1, inbound(1), inbound(1)) == []
        assert await delivered(rig, 1, inbound(1)) == [inbound(1)]


async def test_frames_that_differ_in_one_byte_are_no_copies() -> None:
    async with running() as rig:
        await rig.order(1, 0)
        size = 10 + 1514
        base = bytearray(inbound(0, size=size))
        assert await delivered(rig, 0, bytes(base)) == [bytes(base)]
        variants = []
        for place in (10 + 6, 10 + 13, 10 + 14, 100, size - 2, size - 1):
            changed = base.copy()
            changed[place] ^= 1
            variants.append(bytes(changed))
        variants += [bytes(base[:-1]), bytes(base) + b"\0"]
        assert await delivered(rig, 1, *variants) == variants


async def test_the_virtio_header_does_not_make_a_copy_another_frame() -> None:
    async with running() as rig:
        await rig.order(1, 0)
        assert len(await delivered(rig, 0, inbound(1))) == 1
        assert await delivered(rig, 1, bytes(10) + inbound(1)[10:]) == []


async def test_outside_of_a_drain_nothing_is_taken_for_a_copy() -> None:
    async with running(drain_ns=SHORT_DRAIN_NS) as rig:
        assert await delivered(rig, 0, inbound(1)) == [inbound(1)]
        await rig.order(1, 0)
        await rig.told_of(PumpEventKind.DRAINED)
        assert await delivered(rig, 1, inbound(1), inbound(1)) == [inbound(1)] * 2


async def test_what_was_remembered_in_one_drain_is_forgotten_in_the_next() -> None:
    async with running(drain_ns=SHORT_DRAIN_NS) as rig:
        await rig.order(1, 0)
        await rig.told_of(PumpEventKind.DRAINED, 1)
        assert await delivered(rig, 1, inbound(1)) == [inbound(1)]
        await rig.order(0, 1)
        assert await delivered(rig, 0, inbound(1)) == [inbound(1)]


async def test_what_was_queued_on_the_old_slave_at_the_switch_is_delivered() -> None:
    """The pump is stopped while frames arrive, so that the switch finds them waiting."""
    queued = [inbound(n, to=to) for n, to in enumerate((OWN, BROADCAST, GROUP, OWN) * 50)]
    async with running() as rig:
        lib.tb_pump_stop(rig.pump._pump)
        await send(rig.far[0], queued)
        generation = rig.pump.apply(switch_to(1, 0), 0)
        assert lib.tb_pump_start(rig.pump._pump) == 0
        await rig.adopted(generation)
        assert await receive(rig.host, 200) == queued
        await rig.counted(0, rx_frames=200, rx_dropped=0)


def switch_to(*order: int) -> Decision:
    return Decision(order=order, receive=frozenset(), receive_sender=True, drain=True, requested=None)


async def test_frames_from_the_old_slave_come_before_those_from_the_new_one() -> None:
    async with running() as rig:
        lib.tb_pump_stop(rig.pump._pump)
        await send(rig.far[0], [inbound(1)])
        generation = rig.pump.apply(switch_to(1, 0), 0)
        assert lib.tb_pump_start(rig.pump._pump) == 0
        await rig.adopted(generation)
        await send(rig.far[1], [inbound(2)])
        assert await receive(rig.host, 2) == [inbound(1), inbound(2)]


async def test_our_own_frames_reflected_on_another_slave_are_dropped() -> None:
    async with running() as rig:
        await rig.order(0, 1, receive=(0, 1))
        reflected = frame(1, to=BROADCAST, source=OWN)
        assert await delivered(rig, 1, reflected) == []
        await rig.counted(1, rx_dropped=1)
        assert await delivered(rig, 1, inbound(1)) == [inbound(1)]
        assert await delivered(rig, 0, reflected) == [reflected]


async def test_our_own_frames_reflected_during_a_drain_are_dropped() -> None:
    async with running() as rig:
        await rig.order(1, 0)
        assert await delivered(rig, 0, frame(1, to=PEER, source=OWN)) == []


async def test_rx_kernel_refuses_the_standby_though_it_sends() -> None:
    async with running() as rig:
        await rig.order(0, receive={1})
        await send(rig.host, [frame(1)])
        assert await receive(rig.far[0], 1) == [frame(1)]
        await send(rig.far[0], [inbound(1)])
        assert await delivered(rig, 1, inbound(2)) == [inbound(2)]
        assert rig.pump.counters(0).rx_frames == 0


async def test_rx_any_delivers_everything_from_everyone() -> None:
    async with running(3) as rig:
        await rig.order(2, receive={0, 1, 2})
        for port in range(3):
            assert await delivered(rig, port, inbound(7)) == [inbound(7)]
        await rig.order(0, receive={0, 1, 2})
        for port in range(3):
            assert await delivered(rig, port, inbound(8, to=GROUP)) == [inbound(8, to=GROUP)]


async def test_nobody_selected_means_that_nobody_receives() -> None:
    async with running() as rig:
        await rig.order(drain=False)
        await send(rig.far[0], [inbound(1)])
        await rig.order(1)
        assert await delivered(rig, 1, inbound(2)) == [inbound(2)]
        assert rig.pump.counters(0).rx_frames == 0


async def test_the_new_slave_receives_from_the_switch_on() -> None:
    """Make before break: by the time that the selection is in force, its gate is open."""
    async with running() as rig:
        for n in range(50):
            sender = (n + 1) % 2
            await rig.order(sender)
            await send(rig.far[sender], [inbound(n)])
            assert await receive(rig.host, 1) == [inbound(n)]


async def test_a_switch_under_load_loses_and_doubles_nothing() -> None:
    """Every unicast frame takes one path or both; each is delivered exactly once."""
    async with running() as rig:
        sent: list[bytes] = []
        got: list[bytes] = []
        for n in range(60):
            sender = (n // 10) % 2
            await rig.order(sender, 1 - sender)
            burst = [inbound(n * 100 + k) for k in range(20)]
            paths = (0, 1) if n % 10 < 3 and n >= 10 else (sender,)
            for port in paths:
                await send(rig.far[port], burst)
            for port in paths:
                await rig.barrier(port)
            sent += burst
            got += waiting(rig.host)
        assert got == sent
