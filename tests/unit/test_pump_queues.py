"""Several pumps that act as one: a queue keeps to itself, what one sees holds for all, and is said once."""

import asyncio
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rig import (
    BROADCAST,
    LONG_DRAIN_NS,
    MAC,
    OWN,
    ZERO_VNET,
    Rig,
    frame,
    inbound,
    pair,
    receive,
    running,
    send,
    until,
    waiting,
)

from tapbond._core import lib
from tapbond.announce import rarp
from tapbond.datapath import PumpEventKind
from tapbond.datapath.pump import Pump
from tapbond.datapath.sockets import SlaveSockets
from tapbond.model import Decision

HELLO = b"\xff" * 6 + OWN + b"\x80\x35" + b"hello" * 10
GUEST = b"\x52\x54\x00\x00\x00\x01"
QUEUES = (1, 2, 4)
QUEUES_MAX = 64


def said(ends: list[socket.socket]) -> list[bytes]:
    """Return the announcements that have come out of a slave, by whichever queue."""
    return [one[10:] for end in ends for one in waiting(end) if one.startswith(ZERO_VNET)]


@pytest.mark.parametrize("queues", QUEUES)
async def test_each_queue_has_its_own_way_through_every_slave(queues: int) -> None:
    async with running(queues=queues) as rig:
        for port in (0, 1):
            await rig.order(port, 1 - port)
            for queue in range(queues):
                number = port * queues + queue
                await send(rig.hosts[queue], [frame(number)])
                assert await receive(rig.fars[port][queue], 1) == [frame(number)]
                await send(rig.fars[port][queue], [inbound(number)])
                assert await receive(rig.hosts[queue], 1) == [inbound(number)]
        for end in (*rig.hosts, *rig.fars[0], *rig.fars[1]):
            assert waiting(end) == []


@pytest.mark.parametrize("queues", QUEUES)
async def test_what_is_adopted_is_adopted_by_every_queue(queues: int) -> None:
    async with running(queues=queues) as rig:
        for n in range(60):
            port = (n + 1) % 2
            await rig.order(port, 1 - port)
            for host in rig.hosts:
                host.send(frame(n))
            for far in rig.fars[port]:
                assert await receive(far, 1) == [frame(n)]


async def test_counters_are_sums() -> None:
    async with running(queues=3) as rig:
        for queue, host in enumerate(rig.hosts):
            await send(host, [frame(n) for n in range(queue + 1)])
            await send(rig.fars[0][queue], [inbound(n) for n in range(2)])
        await rig.counted(0, tx_frames=6, rx_frames=6)
        await rig.order()
        for host in rig.hosts:
            await send(host, [frame(1)])
        await rig.counted(None, tx_dropped=3, tx_frames=6)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("out"), st.integers(0, 3), st.integers(1, 8)),
        st.tuples(st.just("in"), st.integers(0, 3), st.integers(1, 8)),
        st.tuples(st.just("switch"), st.integers(0, 1), st.just(0)),
    ),
    min_size=1,
    max_size=25,
)


class Ledger:
    """What was sent by which queue, and what has come out at the other end."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.active = 0
        self.sent: dict[tuple[str, int], int] = {}
        self.out = {(port, queue): [] for port in rig.fars for queue in range(4)}
        self.back: dict[int, list[bytes]] = {queue: [] for queue in range(4)}

    def take(self) -> None:
        for (port, queue), found in self.out.items():
            found.extend(waiting(self.rig.fars[port][queue]))
        for queue, found in self.back.items():
            found.extend(waiting(self.rig.hosts[queue]))

    async def do(self, what: str, number: int, count: int) -> None:
        if what == "switch":
            self.active = number
            order = Decision(
                order=(number, 1 - number), receive=frozenset(), receive_sender=True, drain=True, requested=None
            )
            self.rig.pump.apply(order, 0)
            return
        first = self.sent.get((what, number), 0)
        self.sent[what, number] = first + count
        end = self.rig.hosts[number] if what == "out" else self.rig.fars[self.active][number]
        make = frame if what == "out" else inbound
        await send(end, [make(n) for n in range(first, first + count)])
        self.take()

    def complete(self) -> bool:
        self.take()
        arrived = sum(map(len, self.out.values())) + sum(map(len, self.back.values()))
        return arrived >= sum(self.sent.values())

    def check(self) -> None:
        for queue in range(4):
            by_port = [self.out[port, queue] for port in (0, 1)]
            assert all(found == sorted(found) for found in by_port)
            assert sorted(by_port[0] + by_port[1]) == [frame(n) for n in range(self.sent.get(("out", queue), 0))]
            assert sorted(self.back[queue]) == [inbound(n) for n in range(self.sent.get(("in", queue), 0))]


@given(steps=STEPS)
@settings(max_examples=30, deadline=None)
def test_over_planned_switches_nothing_is_lost_doubled_or_out_of_order(
    steps: list[tuple[str, int, int]],
) -> None:
    async def story() -> None:
        async with running(queues=4) as rig:
            ledger = Ledger(rig)
            for what, number, count in steps:
                await ledger.do(what, number, count)
                if what == "switch":  # what comes by the new way before it is in force is not to be delivered yet
                    await rig.adopted(rig.pump._generation)
            await until(ledger.complete, "all frames")
            ledger.check()
            sums = {what: sum(n for (way, _), n in ledger.sent.items() if way == what) for what in ("out", "in")}
            await rig.counted(None, tx_frames=sums["out"], rx_frames=sums["in"], rx_duplicate=0, tx_dropped=0)

    asyncio.run(story())


# What one of them sees.


@pytest.mark.parametrize("failing", [0, 1, 3])
async def test_a_fault_in_one_queue_moves_all_and_is_told_and_announced_once(failing: int) -> None:
    async with running(queues=4) as rig:
        rig.pump.set_announcements(MAC, [HELLO])
        rig.fars[0][failing].close()
        await send(rig.hosts[failing], [frame(1)])
        found = await receive(rig.fars[1][failing], 2)
        assert found == [ZERO_VNET + HELLO, frame(1)]
        (fault,) = await rig.told_of(PumpEventKind.PORT_FAULT)
        assert fault.port == 0
        await until(lambda: all(_sends_by(rig, queue, 1) for queue in range(4)), "all queues to follow")
        await rig.order(1, 0)
        await rig.caught_up()
        switched = rig.told(PumpEventKind.SWITCHED)
        assert [(event.port, event.error) for event in switched] == [(0, 0), (1, fault.error)]
        assert len(rig.told(PumpEventKind.PORT_FAULT)) == 1
        assert sum(rig.pump.counters(port).announced for port in (0, 1)) == 1
        await rig.counted(None, tx_resent=1, tx_dropped=0)


def _sends_by(rig: Rig, queue: int, port: int) -> bool:
    """Return whether a frame of the host leaves a queue by this slave."""
    rig.hosts[queue].send(frame(b"which"))
    return any(one.endswith(b"which") for one in waiting(rig.fars[port][queue]))


async def test_a_fault_in_all_queues_is_told_once() -> None:
    async with running(queues=4) as rig:
        for far in rig.fars[0]:
            far.close()
        for host in rig.hosts:
            host.send(frame(1))
        for far in rig.fars[1]:
            await receive(far, 1)
        await rig.order(1, 0, seen=rig.seen())
        await rig.caught_up()
        assert len(rig.told(PumpEventKind.PORT_FAULT)) == 1
        assert len(rig.told(PumpEventKind.SWITCHED)) == 2


async def test_a_settled_fault_is_settled_in_every_queue_and_may_come_again() -> None:
    async with running(queues=2) as rig:
        for round_ in (1, 2):
            rig.fars[0][1].close()
            await send(rig.hosts[1], [frame(round_)])
            await receive(rig.fars[1][1], 1)
            fault = (await rig.told_of(PumpEventKind.PORT_FAULT, round_))[-1]
            await until(lambda: _sends_by(rig, 0, 1), "the other queue to follow")
            await rig.order(0, 1, seen=fault.serial)
            assert rig.pump.sender() == 0
            await until(lambda: _sends_by(rig, 0, 0), "the other queue to come back")


async def test_what_another_queue_saw_fail_is_not_tried() -> None:
    async with running(3, queues=4, kind=socket.SOCK_SEQPACKET) as rig:
        rig.fars[1][3].close()
        await rig.told_of(PumpEventKind.PORT_FAULT)
        rig.fars[0][0].close()
        await until(lambda: all(_sends_by(rig, queue, 2) for queue in range(4)), "all queues to follow")
        await rig.order(2, seen=rig.seen())
        await rig.caught_up()
        assert [event.port for event in rig.told(PumpEventKind.PORT_FAULT)] == [1, 0]
        assert [event.port for event in rig.told(PumpEventKind.SWITCHED)] == [0, 2]


async def test_a_slave_that_takes_the_place_of_a_failed_one_is_not_blamed() -> None:
    async with running(queues=2) as rig:
        rig.fars[0][1].close()
        await send(rig.hosts[1], [frame(1)])
        await receive(rig.fars[1][1], 1)
        await rig.pump.detach(0)
        for far in rig.fars[0]:
            far.close()
        assert rig.plug() == 0
        await rig.order(0, 1)
        for queue, host in enumerate(rig.hosts):
            await send(host, [frame(2)])
            assert await receive(rig.fars[0][queue], 1) == [frame(2)]


# Once, not once a queue.


@pytest.mark.parametrize("queues", QUEUES)
async def test_a_planned_switch_is_told_and_announced_once(queues: int) -> None:
    async with running(queues=queues) as rig:
        rig.pump.set_announcements(MAC, [HELLO])
        await rig.order(1, 0)
        for queue in range(queues):
            await send(rig.hosts[queue], [frame(1)])
            await send(rig.fars[1][queue], [inbound(1)])
        await rig.counted(1, tx_frames=queues, rx_frames=queues)
        await rig.order(1, 0, drain=False)
        await rig.caught_up()
        assert said(rig.fars[1]) == [HELLO]
        assert said(rig.fars[0]) == []
        assert [event.port for event in rig.told(PumpEventKind.SWITCHED)] == [0, 1]
        for kind in (PumpEventKind.FIRST_TX, PumpEventKind.FIRST_RX):
            assert [event.port for event in rig.told(kind)] == [1]


async def test_another_round_is_sent_once() -> None:
    async with running(queues=4) as rig:
        rig.pump.set_announcements(MAC, [HELLO])
        for _ in range(3):
            rig.pump.announce_again()
        await rig.order(0, 1)
        assert said(rig.fars[0]) == [HELLO] * 3


async def test_who_spoke_by_several_queues_is_announced_once() -> None:
    async with running(queues=3) as rig:
        for queue in (1, 2):
            await send(rig.hosts[queue], [frame(1, source=GUEST)])
            await receive(rig.fars[0][queue], 1)
        await rig.order(1, 0)
        assert said(rig.fars[1]) == [rarp(GUEST)]


async def test_a_drain_is_over_once() -> None:
    async with running(queues=4, drain_ns=1_000_000) as rig:
        await rig.order(1, 0)
        await rig.told_of(PumpEventKind.DRAINED)
        await rig.order(0, 1)
        await rig.told_of(PumpEventKind.DRAINED, 2)
        await rig.order(1, 0, drain=False)
        await rig.caught_up()
        assert len(rig.told(PumpEventKind.DRAINED)) == 2


async def test_the_loss_of_the_tap_is_told_once() -> None:
    async with running(queues=4, kind=socket.SOCK_SEQPACKET) as rig:
        for host in rig.hosts:
            host.close()
        await rig.told_of(PumpEventKind.TAP_FAULT)
        await rig.order(1)
        await rig.caught_up()
        assert len(rig.told(PumpEventKind.TAP_FAULT)) == 1


# Make before break.


async def test_every_queue_receives_before_the_announcement() -> None:
    """Whoever has heard it may answer by any queue."""
    async with running(queues=4) as rig:
        rig.pump.set_announcements(MAC, [HELLO])
        for n in range(40):
            port = (n + 1) % 2
            order = Decision(
                order=(port, 1 - port), receive=frozenset(), receive_sender=True, drain=True, requested=None
            )
            rig.pump.apply(order, 0)
            await until(lambda port=port: said(rig.fars[port]), "the announcement")
            for far in rig.fars[port]:
                far.send(inbound(n))
            for host in rig.hosts:
                assert await receive(host, 1) == [inbound(n)]


async def test_nothing_leaves_by_the_former_slave_after_the_announcement() -> None:
    """It would lead the network's switch back."""
    async with running(queues=4) as rig:
        rig.pump.set_announcements(MAC, [HELLO])
        for n in range(60):
            former, port = n % 2, (n + 1) % 2
            for host in rig.hosts:
                for part in range(5):
                    host.send(frame(n * 10 + part))
            order = Decision(
                order=(port, former), receive=frozenset(), receive_sender=True, drain=True, requested=None
            )
            rig.pump.apply(order, 0)
            by_new: list[bytes] = []

            def announced(port: int = port, by_new: list[bytes] = by_new) -> bool:
                by_new.extend(one for far in rig.fars[port] for one in waiting(far))
                return ZERO_VNET + HELLO in by_new

            await until(announced, "the announcement")
            count = sum(len(waiting(far)) for far in rig.fars[former])
            await rig.counted(None, tx_frames=(n + 1) * 20)
            announced()
            assert count + len(by_new) - 1 == 20
            assert [waiting(far) for far in rig.fars[former]] == [[]] * 4


async def test_every_queue_drains_the_former_slave() -> None:
    async with running(queues=4, drain_ns=LONG_DRAIN_NS) as rig:
        for queue, far in enumerate(rig.fars[0]):
            far.send(inbound(queue))
        await rig.order(1, 0)
        for queue, far in enumerate(rig.fars[0]):
            far.send(inbound(10 + queue))
            assert await receive(rig.hosts[queue], 2) == [inbound(queue), inbound(10 + queue)]


# Who else speaks through the TAP.


async def test_an_echo_is_known_in_every_queue() -> None:
    async with running(queues=2) as rig:
        await rig.order(0, receive={0, 1})
        await send(rig.hosts[0], [frame(1, source=GUEST)])
        await receive(rig.fars[0][0], 1)
        await send(rig.fars[1][1], [frame(1, to=BROADCAST, source=GUEST)])
        await rig.counted(1, rx_dropped=1)
        assert waiting(rig.hosts[1]) == []


async def test_who_moved_away_is_forgotten_by_every_queue() -> None:
    async with running(queues=2) as rig:
        for host, far in zip(rig.hosts, rig.fars[0], strict=True):
            await send(host, [frame(1, source=GUEST)])
            await receive(far, 1)
        await send(rig.fars[0][1], [frame(2, to=BROADCAST, source=GUEST)])
        await receive(rig.hosts[1], 1)
        await rig.order(1, 0)
        assert said(rig.fars[1]) == []
        await send(rig.hosts[0], [frame(3, source=GUEST)])  # as the last frame of this queue was
        await receive(rig.fars[1][0], 1)
        await rig.order(0, 1)
        assert said(rig.fars[0]) == [rarp(GUEST)]


# Beginning and end.


class Late(SlaveSockets):
    """Its second queue hears nothing until its link is up: until then another socket does for it."""

    def __init__(self, sockets: list[socket.socket], later: socket.socket) -> None:
        super().__init__(sockets)
        self.shared = False
        self.up = False
        self._later = later

    def share(self, count: int) -> bool:
        assert count == 2
        if self.up:
            self._retired, self._sockets[1:] = self._sockets[1:], [self._later]
            self.shared = True
        return self.up


async def test_a_slave_whose_link_comes_up_is_shared_from_then_on() -> None:
    async with running(1, queues=2) as rig:
        ends = [pair() for _ in range(3)]
        for _, near in ends:
            lib.tb_port_gate(near.fileno(), 0)
        late = Late([near for _, near in ends[:2]], ends[2][1])
        port = rig.pump._attach(late)
        await rig.order(port, 0)
        for far, direct in ((ends[1][0], False), (ends[2][0], True)):
            late.up = direct
            rig.pump.send_direct(port, direct)
            await rig.adopted(rig.pump._generation)
            await send(rig.hosts[1], [frame(direct)])
            assert await receive(far, 1) == [frame(direct)]
        await send(ends[2][0], [inbound(1)])
        await send(ends[0][0], [inbound(2)])
        assert await receive(rig.hosts[1], 1) == [inbound(1)]
        assert await receive(rig.hosts[0], 1) == [inbound(2)]
        await rig.caught_up()
        assert [event.port for event in rig.told(PumpEventKind.SWITCHED)] == [0, port]
        await rig.pump.detach(port)
        assert all(near.fileno() == -1 for _, near in ends)
        for far, _ in ends:
            far.close()


async def test_a_slave_comes_and_goes_while_traffic_runs() -> None:
    async with running(queues=4) as rig:
        for n in range(20):
            port = rig.plug()
            await rig.order(port, 0, 1)
            for queue, host in enumerate(rig.hosts):
                await send(host, [frame(n)])
                assert await receive(rig.fars[port][queue], 1) == [frame(n)]
            await rig.order(0, 1)
            await rig.pump.detach(port)
            for far in rig.fars.pop(port):
                far.close()
            del rig.far[port]
        await rig.counted(None, tx_frames=80, tx_dropped=0)


async def test_sixty_four_queues() -> None:
    async with running(queues=QUEUES_MAX) as rig:
        await rig.order(1, 0)
        for queue, host in enumerate(rig.hosts):
            await send(host, [frame(queue)])
            assert await receive(rig.fars[1][queue], 1) == [frame(queue)]
        with pytest.raises(OSError, match="No space left"):
            Pump(rig.tap.fileno(), more_queues=[rig.tap.fileno()] * QUEUES_MAX)


def test_a_queue_that_is_no_descriptor_is_refused() -> None:
    host, tap = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK)
    with host, tap, pytest.raises(OSError, match="Bad file descriptor"):
        Pump(tap.fileno(), more_queues=[-1])
