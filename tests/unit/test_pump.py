"""The pump: frames pass whole and in order, selections are adopted, and nothing is left behind."""

import asyncio
import contextlib
import random
import socket
import threading
from pathlib import Path

import pytest
from rig import (
    FRAME_MAX,
    GROUP,
    MAC,
    OWN,
    PEER,
    VNET,
    ZERO_VNET,
    Rig,
    fill,
    frame,
    inbound,
    pair,
    receive,
    running,
    send,
    until,
    waiting,
)

from tapbond._core import ffi, lib
from tapbond.datapath import PumpEventKind
from tapbond.datapath.pump import Pump
from tapbond.errors import TapbondError
from tapbond.model import COUNTER_FIELDS, Counters, Decision

SUPER_FRAME = 65535 + 14 + 10
SIZES = (10 + 14, 10 + 60, 10 + 1514, 10 + 9014, SUPER_FRAME)


@pytest.mark.parametrize("size", SIZES)
async def test_a_frame_passes_both_ways_with_its_header(size: int) -> None:
    async with running() as rig:
        out, back = frame(b"", size=size), inbound(b"", size=size)
        await send(rig.host, [out])
        assert await receive(rig.far[0], 1) == [out]
        await send(rig.far[0], [back])
        assert await receive(rig.host, 1) == [back]
        counters = await rig.counted(0, tx_frames=1, rx_frames=1)
        assert (counters.tx_bytes, counters.rx_bytes) == (size - 10, size - 10)
        assert waiting(rig.far[1]) == []


async def test_a_burst_larger_than_the_batch_keeps_its_order() -> None:
    out, back = [frame(n) for n in range(500)], [inbound(n) for n in range(500)]
    async with running() as rig:
        _, sent = await asyncio.gather(send(rig.host, out), receive(rig.far[0], 500))
        assert sent == out
        _, received = await asyncio.gather(send(rig.far[0], back), receive(rig.host, 500))
        assert received == back
        await rig.counted(0, tx_frames=500, rx_frames=500, tx_dropped=0, rx_dropped=0)


async def test_bursts_of_all_sizes_keep_their_order_and_content() -> None:
    chance = random.Random(7)  # noqa: S311  (the same sizes every time)
    async with running() as rig:
        for burst in range(20):
            sizes = [chance.choice(SIZES) for _ in range(10)]
            out = [frame(burst * 10 + n, size=size) for n, size in enumerate(sizes)]
            back = [inbound(burst * 10 + n, size=size) for n, size in enumerate(sizes)]
            _, _, sent, received = await asyncio.gather(
                send(rig.host, out), send(rig.far[0], back), receive(rig.far[0], 10), receive(rig.host, 10)
            )
            assert sent == out
            assert received == back


@pytest.mark.parametrize("size", [1, 9, 10, 10 + 13, FRAME_MAX + 1, FRAME_MAX + 5000])
async def test_runt_and_oversize_frames_are_counted_and_not_delivered(size: int) -> None:
    async with running() as rig:
        await send(rig.far[0], [bytes(size), inbound(1)])
        assert await receive(rig.host, 1) == [inbound(1)]
        await rig.counted(0, rx_errors=1, rx_frames=1)


async def test_the_largest_frame_that_fits_passes() -> None:
    async with running() as rig:
        await send(rig.far[0], [inbound(1, size=FRAME_MAX)])
        assert await receive(rig.host, 1) == [inbound(1, size=FRAME_MAX)]


async def test_runts_of_the_host_do_not_spoil_the_counters() -> None:
    async with running() as rig:
        await send(rig.host, [b"abc", frame(1)])
        await until(lambda: frame(1) in waiting(rig.far[0]), "the frame after the runt")
        assert rig.pump.counters(0).tx_bytes < 100


async def test_nobody_ready_means_dropped_counted_and_never_blocked() -> None:
    async with running() as rig:
        await rig.order()
        assert rig.pump.sender() is None
        await send(rig.host, [frame(n) for n in range(1000)])
        await rig.counted(None, tx_dropped=1000, tx_frames=0)
        await rig.order(1)
        await send(rig.host, [frame(1)])
        assert await receive(rig.far[1], 1) == [frame(1)]


# A full socket buffer.


async def test_a_full_buffer_loses_nothing_and_goes_on() -> None:
    async with running() as rig:
        sent = await fill(rig)
        assert rig.pump.counters(0).tx_frames < len(sent)
        assert await receive(rig.far[0], len(sent)) == sent
        counters = await rig.counted(0, tx_frames=len(sent), tx_dropped=0, tx_errors=0)
        assert counters.tx_resent == 0


async def test_a_full_buffer_does_not_hold_up_the_other_direction() -> None:
    async with running() as rig:
        await fill(rig)
        for n in range(20):
            await send(rig.far[0], [inbound(n)])
            assert await receive(rig.host, 1) == [inbound(n)]


async def test_switching_while_blocked_moves_what_is_held_to_the_new_sender() -> None:
    async with running() as rig:
        sent = await fill(rig)
        taken = rig.pump.counters(0).tx_frames
        await rig.order(1, 0)
        assert await receive(rig.far[1], len(sent) - taken) == sent[taken:]
        assert await receive(rig.far[0], taken) == sent[:taken]


async def test_a_blocked_sender_that_is_detached_loses_nothing_that_is_held() -> None:
    async with running() as rig:
        sent = await fill(rig)
        taken = rig.pump.counters(0).tx_frames
        await rig.pump.detach(0)
        assert await receive(rig.far[1], len(sent) - taken) == sent[taken:]


async def test_with_nobody_left_what_is_held_is_counted_as_dropped() -> None:
    async with running() as rig:
        sent = await fill(rig)
        taken = rig.pump.counters(0).tx_frames
        await rig.order()
        await rig.counted(None, tx_dropped=len(sent) - taken)


# Selections.


async def test_of_many_selections_the_last_one_wins() -> None:
    async with running() as rig:
        for n in range(10_000):
            last = rig.pump.apply(
                Decision(order=(n % 2,), receive=frozenset(), receive_sender=True, drain=True, requested=None),
                0,
            )
        await rig.adopted(last)
        assert lib.tb_pump_adopted(rig.pump._pump) == last
        assert rig.pump.sender() == 1
        await send(rig.host, [frame(1)])
        assert await receive(rig.far[1], 1) == [frame(1)]


async def test_generations_are_adopted_in_order_and_none_twice() -> None:
    async with running() as rig:
        for n in range(200):
            await rig.order(n % 2)
        await rig.caught_up()
        generations = [event.generation for event in rig.told(PumpEventKind.ADOPTED)]
        assert generations == sorted(set(generations))


async def test_the_same_selection_again_switches_nothing() -> None:
    async with running() as rig:
        for _ in range(5):
            await rig.order(0, 1)
        await rig.caught_up()
        assert len(rig.told(PumpEventKind.SWITCHED)) == 1


async def test_slaves_come_and_go_under_load_a_hundred_times() -> None:
    async with running(1) as rig:
        plugging = loading = True
        sent = arrived = 0

        async def load() -> None:
            nonlocal loading, sent
            while plugging:
                await send(rig.host, [frame(sent + n) for n in range(20)])
                sent += 20
                await send(rig.far[0], [inbound(0)])
                await asyncio.sleep(0)
            loading = False

        async def drink() -> None:
            nonlocal arrived
            while loading or rig.pump.total().tx_frames < sent:
                waiting(rig.host)
                for end in tuple(rig.far.values()):
                    arrived += len(waiting(end))
                await asyncio.sleep(0)

        async def plug() -> None:
            nonlocal arrived, plugging
            for n in range(100):
                port = rig.plug()
                await rig.order(port, 0)
                await until(lambda port=port: rig.pump.counters(port).tx_frames, "a frame on the new slave")
                if n % 2:
                    await rig.order(0)
                await rig.pump.detach(port)
                arrived += len(waiting(rig.far[port]))
                rig.far.pop(port).close()
            plugging = False

        await asyncio.wait_for(asyncio.gather(load(), drink(), plug()), 20)
        await until(lambda: rig.pump.total().tx_frames == sent, "all frames sent")
        arrived += len(waiting(rig.far[0]))
        assert arrived == sent
        assert rig.pump.total().tx_dropped == 0


async def test_a_slave_detached_without_another_leaves_nobody() -> None:
    async with running(1) as rig:
        await rig.pump.detach(0)
        assert rig.pump.sender() is None
        await rig.caught_up()
        assert rig.told(PumpEventKind.SWITCHED)[-1].port is None


async def test_another_slave_in_the_same_place_is_another_slave() -> None:
    async with running(1) as rig:
        await send(rig.host, [frame(1)])
        await receive(rig.far[0], 1)
        await rig.pump.detach(0)
        rig.far.pop(0).close()
        assert rig.plug() == 0
        assert rig.pump.counters(0) == Counters()
        await rig.order(0)
        await send(rig.host, [frame(2)])
        assert await receive(rig.far[0], 1) == [frame(2)]
        assert rig.pump.counters(0).tx_frames == 1
        assert rig.pump.total().tx_frames == 2


async def test_all_places_can_be_taken_and_no_more() -> None:
    async with running(lib.TB_PORTS_MAX) as rig:
        far, near = pair()
        with pytest.raises(TapbondError, match="no more than 32 slaves"):
            rig.pump.attach_socket(near)
        assert near.fileno() < 0
        far.close()
        for port in reversed(range(lib.TB_PORTS_MAX)):
            await rig.order(port)
            await send(rig.host, [frame(port)])
            assert await receive(rig.far[port], 1) == [frame(port)]


# Announcements.


async def test_announcements_go_out_on_the_new_sender_before_any_frame_of_the_host() -> None:
    told = [PEER + OWN + b"\x80\x35" + bytes([n]) * (46 + n % 37) for n in range(32)]
    async with running() as rig:
        rig.pump.set_announcements(MAC, told)
        await fill(rig)
        await rig.order(1, 0)
        found = await receive(rig.far[1], 33)
        assert found[:32] == [ZERO_VNET + announcement for announcement in told]
        assert found[32].startswith(VNET)
        assert rig.pump.counters(1).announced == 32
        assert rig.pump.counters(0).announced == 0


async def test_a_fault_announces_too() -> None:
    async with running() as rig:
        rig.pump.set_announcements(MAC, [b"\xff" * 60])
        rig.far[0].close()
        await send(rig.host, [frame(1)])
        assert await receive(rig.far[1], 2) == [ZERO_VNET + b"\xff" * 60, frame(1)]


async def test_announcements_beyond_the_pumps_room_are_sent_by_hand() -> None:
    told = [bytes([n]) * 60 for n in range(100)]
    async with running() as rig:
        rig.pump.set_announcements(MAC, told)
        await rig.order(1, 0)
        rig.pump.announce(1)
        assert await receive(rig.far[1], 100) == [ZERO_VNET + announcement for announcement in told]


async def test_announcements_that_are_too_long_are_left_out() -> None:
    async with running() as rig:
        rig.pump.set_announcements(MAC, [bytes(lib.TB_ANNOUNCE_LEN + 1), b"\x01" * lib.TB_ANNOUNCE_LEN])
        await rig.order(1, 0)
        assert await receive(rig.far[1], 1) == [ZERO_VNET + b"\x01" * lib.TB_ANNOUNCE_LEN]
        assert rig.pump.counters(1).announced == 1


async def test_no_announcement_where_nobody_is_new() -> None:
    async with running() as rig:
        rig.pump.set_announcements(MAC, [b"\xff" * 60])
        await rig.order(0)
        await rig.order(0, 1)
        await send(rig.host, [frame(1)])
        assert await receive(rig.far[0], 1) == [frame(1)]


# Times and counters.


async def test_first_frames_are_told_once_a_switch() -> None:
    async with running() as rig:
        for sender in (0, 1):
            await rig.order(sender)
            for n in range(3):
                await send(rig.host, [frame(n)])
                await send(rig.far[sender], [inbound(n)])
            await receive(rig.host, 3)
            await receive(rig.far[sender], 3)
            first_tx = await rig.told_of(PumpEventKind.FIRST_TX, sender + 1)
            first_rx = await rig.told_of(PumpEventKind.FIRST_RX, sender + 1)
            switched = rig.told(PumpEventKind.SWITCHED)
            assert [event.port for event in first_tx] == [event.port for event in first_rx] == [*range(sender + 1)]
            assert switched[-1].when_ns < min(first_tx[-1].when_ns, first_rx[-1].when_ns)


async def test_serials_and_times_only_grow() -> None:
    async with running() as rig:
        for n in range(50):
            await rig.order(n % 2)
            await send(rig.host, [frame(n)])
            await receive(rig.far[n % 2], 1)
        await rig.told_of(PumpEventKind.FIRST_TX, 50)
        serials = [event.serial for event in rig.events]
        times = [event.when_ns for event in rig.events]
        assert serials == list(range(1, len(serials) + 1))
        assert times == sorted(times)
        assert rig.tap_counters()["events_lost"] == 0


async def test_totals_never_run_backwards() -> None:
    async with running() as rig:
        former = Counters()
        for n in range(30):
            port = rig.plug()
            await rig.order(port)
            await send(rig.host, [frame(n)])
            await receive(rig.far[port], 1)
            await send(rig.far[port], [inbound(n)])
            await receive(rig.host, 1)
            await rig.counted(port, tx_frames=1, rx_frames=1)
            sums = sum((rig.pump.counters(place) for place in rig.far), Counters())
            total = rig.pump.total()
            assert all(getattr(total, name) >= getattr(former, name) for name in COUNTER_FIELDS)
            assert all(getattr(total, name) >= getattr(sums, name) for name in COUNTER_FIELDS)
            await rig.pump.detach(port)
            rig.far.pop(port).close()
            former = rig.pump.total()
            assert (former.tx_frames, former.rx_frames) == (n + 1, n + 1)
        last = rig.pump.total()
        await rig.pump.close()
        assert rig.pump.total() == last


# The events.


async def test_events_that_nobody_reads_hold_up_nothing() -> None:
    host, tap = pair()
    far, near = pair()
    lib.tb_port_gate(near.fileno(), 0)
    pump = lib.tb_pump_new(tap.fileno())
    try:
        assert lib.tb_pump_start(pump) == 0
        selection = ffi.new("struct tb_selection *")
        for port in range(lib.TB_PORTS_MAX):
            selection.port[port].fd = -1
        selection.port[0].fd, selection.port[0].id = near.fileno(), 1
        selection.order_len = 1
        for _ in range(400):
            generation = lib.tb_pump_publish(pump, selection)
            await until(lambda generation=generation: lib.tb_pump_adopted(pump) >= generation)
        await send(host, [frame(1)])
        assert await receive(far, 1) == [frame(1)]
        counters = ffi.new("struct tb_tap_counters *")
        lib.tb_pump_tap_counters(pump, counters)
        event = ffi.new("struct tb_event *")
        serials = []
        while lib.tb_pump_next_event(pump, event):
            serials.append(event.serial)
        assert serials == list(range(1, 257))
        assert counters.events_lost == 400 + 2 - 256  # with SWITCHED and FIRST_TX
    finally:
        lib.tb_pump_free(pump)
        for end in (host, tap, far, near):
            end.close()


async def test_a_detach_ends_even_when_its_event_was_lost() -> None:
    async with running() as rig:
        loop, core = asyncio.get_running_loop(), rig.pump._pump
        event = ffi.new("struct tb_event *")
        loop.remove_reader(lib.tb_pump_event_fd(core))
        while not rig.tap_counters()["events_lost"]:
            await rig.order(0, 1)
        lost = rig.tap_counters()["events_lost"]
        detaching = asyncio.create_task(rig.pump.detach(1))
        await until(lambda: rig.tap_counters()["events_lost"] > lost, "the lost event")
        while lib.tb_pump_next_event(core, event):
            pass
        await rig.barrier(0)
        rig.far[0].close()
        await send(rig.host, [frame(1)])  # a fault, of which the pump tells
        loop.add_reader(lib.tb_pump_event_fd(core), rig.pump._read_events)
        await asyncio.wait_for(detaching, 2)


async def test_a_listener_that_raises_does_not_hold_up_the_events_after_it() -> None:
    async with running() as rig:
        complaints: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, context: complaints.append(context))
        take = rig.pump_event

        def stumble(event: object) -> None:
            rig.pump_event = take
            raise RuntimeError(event)

        rig.pump_event = stumble
        await rig.order(1)
        await rig.caught_up()
        await until(lambda: complaints, "the complaint")


# Ends.


def descriptors() -> set[tuple[int, str]]:
    found = set()
    for path in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):
            found.add((int(path.name), str(path.readlink())))
    return {(fd, what) for fd, what in found if "/proc/" not in what}


def pump_threads() -> int:
    names = (path.read_text() for path in Path("/proc/self/task").glob("*/comm"))
    return sum(name.strip() == "tapbond-pump" for name in names)


async def test_nothing_is_left_behind() -> None:
    async with running():
        pass  # whatever is made once in a process is made now
    before, threads = descriptors(), set(threading.enumerate())
    await until(lambda: pump_threads() == 0, "the thread to be gone")  # the kernel is a moment behind a join
    async with running() as rig:
        await until(lambda: pump_threads() == 1, "the thread to have its name")
        await send(rig.host, [frame(1)])
        await receive(rig.far[0], 1)
        await rig.pump.detach(1)
    assert descriptors() <= before
    await until(lambda: pump_threads() == 0, "the thread to be gone")
    assert {thread for thread in threading.enumerate() if not thread.name.startswith("asyncio_")} <= threads


async def test_starting_and_stopping_again_and_again() -> None:
    async with running():
        before = descriptors()
        for _ in range(100):
            rig = Rig()
            rig.pump.start(rig)
            await rig.close()
        assert descriptors() <= before


async def test_a_pump_that_never_ran_is_closed_like_any() -> None:
    rig = Rig()
    await rig.close()
    await rig.pump.close()
    assert rig.pump.total() == Counters()


async def test_closing_while_traffic_runs() -> None:
    for _ in range(20):
        async with running() as rig:
            stop = threading.Event()

            def flood(end: socket.socket, what: bytes, stop: threading.Event = stop) -> None:
                while not stop.is_set():
                    with contextlib.suppress(BlockingIOError, OSError):
                        end.send(what)

            threads = [
                threading.Thread(target=flood, args=(rig.host, frame(1))),
                threading.Thread(target=flood, args=(rig.far[0], inbound(1))),
            ]
            for thread in threads:
                thread.start()
            try:
                await until(lambda rig=rig: rig.pump.total().tx_frames > 10, "traffic")
                await rig.pump.close()
            finally:
                stop.set()
                for thread in threads:
                    thread.join()


async def test_a_closed_pump_refuses_instead_of_crashing() -> None:
    rig = Rig()
    rig.pump.start(rig)
    await rig.close()
    with pytest.raises(RuntimeError, match="closed"):
        rig.pump.set_announcements(MAC, [])
    with pytest.raises(RuntimeError, match="closed"):
        rig.pump.counters(0)
    assert rig.pump.sender() is None


async def test_a_tap_that_ends_is_told_once() -> None:
    async with running(kind=socket.SOCK_SEQPACKET) as rig:
        rig.host.close()
        (fault,) = await rig.told_of(PumpEventKind.TAP_FAULT)
        assert fault.error != 0
        await rig.order(1)
        assert len(rig.told(PumpEventKind.TAP_FAULT)) == 1


async def test_groups_are_sent_like_any_frame() -> None:
    async with running() as rig:
        await send(rig.host, [frame(1, to=GROUP)])
        assert await receive(rig.far[0], 1) == [frame(1, to=GROUP)]


def test_a_pump_without_a_tap_is_refused() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        Pump(-1)
