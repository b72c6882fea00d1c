"""What a TAP wants to hear, as memberships of packet sockets; and how it is passed on."""

import errno
import socket
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tapbond.datapath.hearing import PACKET_ADD_MEMBERSHIP, PACKET_DROP_MEMBERSHIP, PACKET_MREQ, Hearing
from tapbond.errors import TapbondError
from tapbond.filters import (
    EVERYTHING,
    PACKET_MR_ALLMULTI,
    PACKET_MR_MULTICAST,
    PACKET_MR_PROMISC,
    PACKET_MR_UNICAST,
    Filters,
    difference,
)
from tapbond.model import Link
from tapbond.reception import Reception
from tapbond.testing import FakeNetwork, FakePump, VirtualClock, run

GROUP = bytes.fromhex("01005e010203")
STATION = bytes.fromhex("020000000077")

addresses = st.binary(min_size=6, max_size=6)
filters = st.builds(Filters.of_tap, st.lists(addresses, max_size=5), st.integers(0, 3), st.integers(0, 2))


def test_groups_and_stations_are_told_apart_by_the_group_bit() -> None:
    wanted = Filters.of_tap([GROUP, STATION], 1, 0)
    assert wanted == Filters(multicast=frozenset((GROUP,)), unicast=frozenset((STATION,)))
    assert wanted.memberships() == {(PACKET_MR_MULTICAST, GROUP), (PACKET_MR_UNICAST, STATION)}


def test_the_promiscuity_that_comes_of_the_unicast_list_is_none() -> None:
    assert not Filters.of_tap([GROUP], 0, 0).promisc
    assert Filters.of_tap([GROUP], 1, 0).promisc
    assert not Filters.of_tap([STATION], 1, 0).promisc
    assert Filters.of_tap([STATION], 2, 0).promisc
    assert Filters.of_tap([], 0, 1).allmulti


def test_everything_is_promisc_and_allmulti() -> None:
    assert EVERYTHING.memberships() == {(PACKET_MR_PROMISC, b""), (PACKET_MR_ALLMULTI, b"")}


@given(filters, filters)
def test_the_difference_leads_from_one_to_the_other(old: Filters, new: Filters) -> None:
    added, dropped = difference(old, new)
    assert not set(added) & set(dropped)
    assert (old.memberships() | set(added)) - set(dropped) == new.memberships()
    assert difference(new, new) == ([], [])


class FakeSocket(socket.socket):
    """Remembers its memberships as the kernel counts them; refuses the addresses in ``refused``."""

    def __init__(self, refused: frozenset[bytes] = frozenset(), code: int = errno.ENOSPC) -> None:
        super().__init__()
        self.members: list[tuple[int, bytes]] = []
        self.most = 0
        self._refused, self._code = refused, code

    def setsockopt(self, _level: int, option: int, value: Any, _length: Any = None) -> None:
        ifindex, kind, length, address = PACKET_MREQ.unpack(value)
        assert ifindex == 7
        if address[:length] in self._refused:
            raise OSError(self._code, "no")
        if option == PACKET_ADD_MEMBERSHIP:
            self.members.append((kind, address[:length]))
        else:
            assert option == PACKET_DROP_MEMBERSHIP
            self.members.remove((kind, address[:length]))
        self.most = max(self.most, len(self.members))


LINK = Link(ifindex=7, name="eth1", mac="02:00:00:00:00:53")


@given(st.lists(filters, max_size=6))
def test_a_socket_asks_for_just_what_is_wanted_last(wishes: list[Filters]) -> None:
    with FakeSocket() as port:
        hearing = Hearing(port, LINK)
        for wish in wishes:
            hearing.set(wish)
            assert set(port.members) == wish.memberships()
            assert len(port.members) == len(set(port.members))


def test_what_is_wanted_comes_before_what_is_not() -> None:
    """Else there would be a moment in which a frame is missed."""
    with FakeSocket() as port:
        hearing = Hearing(port, LINK)
        hearing.set(EVERYTHING)
        hearing.set(Filters.of_tap([GROUP], 0, 0))
        assert port.most == 3


def test_a_refused_membership_keeps_none_of_the_others_away() -> None:
    with FakeSocket(frozenset((GROUP,))) as port:
        Hearing(port, LINK).set(Filters.of_tap([GROUP, STATION], 1, 1))
        assert set(port.members) == {(PACKET_MR_UNICAST, STATION), (PACKET_MR_ALLMULTI, b"")}


def test_a_link_that_has_gone_needs_no_memberships() -> None:
    with FakeSocket(frozenset((GROUP, STATION)), errno.ENODEV) as port:
        Hearing(port, LINK).set(Filters.of_tap([GROUP, STATION], 1, 0))
        assert port.members == []


class Tap:
    """What a TAP answers, one after the other."""

    def __init__(self, *answers: Filters | Exception | None) -> None:
        self._answers = list(answers)

    async def read(self) -> Filters | None:
        answer = self._answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def test_what_cannot_be_read_is_everything() -> None:
    clock = VirtualClock()
    pump = FakePump(clock, FakeNetwork(clock))
    assert pump.filters == EVERYTHING
    wanted = Filters.of_tap([GROUP], 0, 0)
    tap = Tap(wanted, None, wanted, OSError("no"), wanted, TapbondError("no"))

    async def main() -> None:
        reception = Reception("tb0", tap.read, pump)
        for _ in range(3):
            await reception.look()
            assert pump.filters == wanted
            await reception.look()
            assert pump.filters == EVERYTHING

    run(main(), clock)
