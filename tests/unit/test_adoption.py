"""What a link holds moves to the TAP and back, and whatever goes wrong at whichever step, it is put back."""

import asyncio
import struct
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapbond.addresses import (
    FOREVER,
    IFA_CACHEINFO,
    IFA_F_NODAD,
    IFA_F_NOPREFIXROUTE,
    IFA_LABEL,
    LIFETIMES,
    address_flags,
    address_text,
    moved_address,
)
from tapbond.adopted import Adopted, AdoptionFile
from tapbond.adoption import KEEP_S, Adoption
from tapbond.errors import TapbondError
from tapbond.holdings import NUD_PERMANENT, NUD_PROBE, NUD_REACHABLE, Holdings, moved_neighbour
from tapbond.model import Link
from tapbond.moves import NLM_F_APPEND, NLM_F_REPLACE, Step, add_addresses, move_routes, remove_addresses
from tapbond.routes import (
    CACHEINFO,
    RTA_CACHEINFO,
    RTA_EXPIRES,
    RTA_MULTIPATH,
    RTA_NH_ID,
    RTNEXTHOP,
    legs,
    moved_route,
    outs,
    route_identity,
    route_text,
)
from tapbond.rtmessage import RTM_DELADDR, RTM_DELROUTE, RTM_NEWROUTE, Message, u32
from tapbond.testing import FakeNetwork, VirtualClock, run
from tapbond.testing.batch import FakeBatch, address, neighbour, route


async def here(work: Callable[[], Adopted]) -> Adopted:
    """A virtual clock waits for no thread."""
    return work()


MAC = "52:54:00:00:00:01"
ETH0 = Link(ifindex=2, name="eth0", mac=MAC, up=True, carrier=True)
OTHER = Link(ifindex=3, name="eth2", mac="52:54:00:00:00:03", up=True)
TAP = Link(ifindex=7, name="tb0", mac=MAC, up=True, carrier=True)
HOURS_NS = 3600 * 10**9


# One message.


@given(
    st.binary(min_size=12, max_size=12),
    st.lists(st.tuples(st.integers(1, 0xFFFF), st.binary(max_size=40)), max_size=8),
)
def test_a_message_is_encoded_as_it_was_read(header: bytes, attributes: list[tuple[int, bytes]]) -> None:
    message = Message(RTM_NEWROUTE, header, tuple(attributes))
    assert Message.parse(RTM_NEWROUTE, message.encode()) == message


def test_a_message_that_is_cut_short() -> None:
    whole = route(ETH0, "10.0.0.0/8").encode()
    with pytest.raises(ValueError, match="cut short"):
        Message.parse(RTM_NEWROUTE, whole[:-3])


def lifetimes(preferred: int, valid: int) -> list[tuple[int, bytes]]:
    return [(IFA_CACHEINFO, LIFETIMES.pack(preferred, valid, 5, 5))]


@pytest.mark.parametrize(
    ("before", "elapsed_s", "after"),
    [
        ((FOREVER, FOREVER), 10**6, (FOREVER, FOREVER)),
        ((100, 200), 0, (100, 200)),
        ((100, 200), 150, (0, 50)),
        ((0, FOREVER), 150, (0, FOREVER)),
        ((100, 200), 200, None),
    ],
)
def test_a_lease_goes_on_while_it_moves(
    before: tuple[int, int], elapsed_s: int, after: tuple[int, int] | None
) -> None:
    moved = moved_address(address(ETH0, "10.0.0.1/24", more=lifetimes(*before)), ETH0, TAP, elapsed_s)
    if after is None:
        assert moved is None
    else:
        assert moved is not None
        assert LIFETIMES.unpack(moved.get(IFA_CACHEINFO) or b"")[:2] == after


@pytest.mark.parametrize(
    ("label", "target", "moved"),
    [
        ("eth0", "tb0", "tb0"),
        ("eth0:1", "tb0", "tb0:1"),
        ("wan", "tb0", "tb0"),
        ("eth0:1", "abcdefghijklmno", None),
    ],
)
def test_labels(label: str, target: str, moved: str | None) -> None:
    link = Link(ifindex=7, name=target, mac=MAC)
    found = moved_address(address(ETH0, "10.0.0.1/24", more=[(IFA_LABEL, label.encode() + b"\0")]), ETH0, link)
    assert found is not None
    assert found.get(IFA_LABEL) == (moved or target).encode() + b"\0"


def test_flags_that_the_kernel_finds_out_itself_do_not_move() -> None:
    found = moved_address(address(ETH0, "fd00::1/64", 0x80 | 0x40 | IFA_F_NOPREFIXROUTE), ETH0, TAP)
    assert found is not None
    assert address_flags(found) == IFA_F_NOPREFIXROUTE
    assert address_text(found) == "fd00::1/64"


def test_the_legs_of_a_route_over_several_links() -> None:
    several = RTNEXTHOP.pack(16, 16, 2, 2) + struct.pack("=HHI", 8, 5, 1) + RTNEXTHOP.pack(8, 4, 0, 3)
    before = route(ETH0, "10.0.0.0/8", more=[(RTA_MULTIPATH, several)]).without(4)
    after = moved_route(before, ETH0, TAP)
    assert after is not None
    assert (outs(before), outs(after)) == ({2, 3}, {7, 3})
    found = [(flags, hops, out, len(rest)) for flags, hops, out, rest in legs(after.get(RTA_MULTIPATH) or b"")]
    assert found == [(0, 2, 7, 8), (4, 0, 3, 0)]


@pytest.mark.parametrize(
    ("left_ticks", "elapsed_s", "expires"), [(0, 50, None), (6000, 50, 10), (6000, 60, "gone")]
)
def test_a_route_expires_when_it_would_have(left_ticks: int, elapsed_s: int, expires: object) -> None:
    info = CACHEINFO.pack(0, 0, left_ticks, 0, 0, 0, 0)
    after = moved_route(route(ETH0, "fd00::/64", more=[(RTA_CACHEINFO, info)]), ETH0, TAP, elapsed_s)
    if expires == "gone":
        assert after is None
    else:
        assert after is not None
        assert after.get(RTA_EXPIRES) == (None if expires is None else u32(10))


def test_a_nexthop_object_stays_behind() -> None:
    after = moved_route(route(ETH0, "10.0.0.0/8", "10.1.0.1", more=[(RTA_NH_ID, u32(5))]), ETH0, TAP)
    assert after is not None
    assert after.get(RTA_NH_ID) is None


def test_a_neighbour_that_is_asked_after_is_merely_old() -> None:
    for state, moved in ((NUD_PROBE, 4), (NUD_REACHABLE, NUD_REACHABLE), (NUD_PERMANENT, NUD_PERMANENT)):
        found = moved_neighbour(neighbour(ETH0, "10.0.0.2", MAC, state), TAP)
        assert struct.unpack("=H", found.header[8:10])[0] == moved


# The plan.


def moved(*messages: Message) -> list[Message]:
    return [found for message in messages if (found := moved_route(message, ETH0, TAP)) is not None]


def kinds(steps: Sequence[Step]) -> list[tuple[int, int, str]]:
    how = NLM_F_REPLACE | NLM_F_APPEND
    return [(step.message.kind, step.flags & how, route_text(step.message)) for step in steps]


def test_what_is_reached_directly_goes_first() -> None:
    old = [route(ETH0, "0.0.0.0/0", "192.0.2.1"), route(ETH0, "192.0.2.1/32")]
    steps = move_routes(old, moved(*old), old, TAP)
    assert [route_text(step.message) for step in steps] == ["192.0.2.1/32", "default"]


def test_the_only_route_of_its_key_is_replaced_in_place() -> None:
    old = [route(ETH0, "0.0.0.0/0", "10.0.0.1"), route(ETH0, "0.0.0.0/0", "10.0.0.1", metric=300, table=99)]
    steps = move_routes(old, moved(*old), old, TAP)
    new = RTM_NEWROUTE, NLM_F_REPLACE
    assert kinds(steps) == [(*new, "default"), (*new, "default table 99")]


def test_another_links_route_is_never_replaced() -> None:
    old = [route(ETH0, "0.0.0.0/0", "10.0.0.1")]
    present = [route(OTHER, "0.0.0.0/0", "10.9.0.1"), *old]
    steps = move_routes(old, moved(*old), present, TAP)
    assert kinds(steps) == [(RTM_NEWROUTE, NLM_F_APPEND, "default"), (RTM_DELROUTE, 0, "default")]
    assert outs(steps[1].message) == {ETH0.ifindex}


def test_a_route_that_is_there_already_only_leaves() -> None:
    old = [route(ETH0, "10.0.0.0/24", protocol=2)]
    steps = move_routes(old, moved(*old), [*old, *moved(*old)], TAP)
    assert kinds(steps) == [(RTM_DELROUTE, 0, "10.0.0.0/24")]


def test_addresses_come_in_order_and_leave_backwards() -> None:
    held = Holdings(addresses=(address(ETH0, "10.0.0.1/24"), address(ETH0, "10.0.0.2/24")))
    assert [step.what for step in add_addresses(held, ETH0)] == [
        "eth0: cannot add 10.0.0.1/24",
        "eth0: cannot add 10.0.0.2/24",
    ]
    leaving = remove_addresses(held.addresses, ETH0)
    assert [(step.message.kind, step.what[-11:]) for step in leaving] == [
        (RTM_DELADDR, "10.0.0.2/24"),
        (RTM_DELADDR, "10.0.0.1/24"),
    ]


def test_nobody_is_asked_whether_an_ipv6_address_is_free() -> None:
    steps = add_addresses(Holdings(addresses=(address(ETH0, "fd00::1/64"),)), ETH0)
    assert [address_flags(step.message) for step in steps] == [IFA_F_NODAD, 0]


# Doing it.


def live() -> list[Message]:
    """Return what eth0 and another link hold; the addresses with the routes that the kernel makes."""
    batch = FakeBatch()
    for found in (
        address(ETH0, "10.0.0.1/24"),
        address(ETH0, "10.0.0.2/32", IFA_F_NOPREFIXROUTE),
        address(ETH0, "fd00::1/64"),
        address(OTHER, "10.9.0.1/24"),
    ):
        batch._do(Step("", found))
    return [
        *batch.messages,
        route(ETH0, "0.0.0.0/0", "10.0.0.254"),
        route(OTHER, "0.0.0.0/0", "10.9.0.254", metric=500),
        route(ETH0, "0.0.0.0/0", "10.0.0.254", metric=500),
        route(ETH0, "192.0.2.0/24", "10.0.0.254", table=99),
        route(ETH0, "::/0", "fd00::fe"),
        neighbour(ETH0, "10.0.0.254", MAC),
    ]


class Stage:
    """A process that adopts, over a kernel in memory."""

    def __init__(self, tmp_path: Path, messages: Sequence[Message]) -> None:
        self.clock = VirtualClock()
        self.network = FakeNetwork(self.clock)
        for link in (ETH0, OTHER, TAP):
            self.network.add(link.name, link.mac, ifindex=link.ifindex)
        self.network.links.take_in()
        self.batch = FakeBatch(messages)
        self.file = AdoptionFile(tmp_path / "tb0.adopted")
        self.adoption = self.process()

    def process(self) -> Adoption:
        return Adoption(self.batch, self.network.links, self.file, self.clock, here)

    def killed(self) -> None:
        """The TAP goes with its process; the next one begins."""
        self.batch.die = None
        self.batch.refuse = -1
        self.tap_goes()
        self.adoption = self.process()

    def tap_goes(self) -> None:
        self.batch.vanish(TAP)
        self.network.delete("tb0")

    async def start(self) -> None:
        assert await self.adoption.hold(ETH0, TAP)
        await self.adoption.move(TAP)

    async def stop(self) -> None:
        await self.adoption.give_back()
        await self.adoption.finish()


def steps_of(tmp_path: Path, *, stop: bool) -> int:
    stage = Stage(tmp_path, live())

    async def main() -> int:
        await stage.start()
        started = len(stage.batch.steps)
        if stop:
            await stage.stop()
        return len(stage.batch.steps) - (started if stop else 0)

    steps = run(main(), stage.clock)
    stage.file.clear()
    return steps


def as_set(messages: Sequence[Message]) -> set[object]:
    return {route_identity(m) if m.kind == RTM_NEWROUTE else m for m in messages}


def test_all_moves_and_comes_back(tmp_path: Path) -> None:
    stage = Stage(tmp_path, live())

    async def main() -> None:
        await stage.start()
        assert stage.batch.held(ETH0) == set()
        assert len(stage.batch.held(TAP)) == len(FakeBatch(live()).held(ETH0))
        assert stage.file.read() is not None
        await stage.stop()

    run(main(), stage.clock)
    assert as_set(stage.batch.messages) == as_set(live())
    assert stage.batch.held(TAP) == set()
    assert stage.file.read() is None


def outcome(work: Callable[[], object]) -> str:
    try:
        work()
    except TapbondError as error:
        return str(error)
    except (KeyboardInterrupt, asyncio.CancelledError):
        return "ended"
    return ""


def test_whichever_step_is_refused_at_the_start_all_is_as_it_was(tmp_path: Path) -> None:
    for number in range(steps_of(tmp_path, stop=False)):
        stage = Stage(tmp_path, live())
        stage.batch.refuse = number

        async def main(stage: Stage = stage) -> None:
            try:
                await stage.start()
            finally:
                await stage.stop()

        said = outcome(lambda main=main, stage=stage: run(main(), stage.clock))
        assert said.startswith(("eth0: cannot", "tb0: cannot")), number
        assert as_set(stage.batch.messages) == as_set(live()), stage.batch.steps[number].what
        assert stage.file.read() is None


@pytest.mark.parametrize("how", [KeyboardInterrupt, asyncio.CancelledError])
def test_whichever_step_the_process_is_killed_at_the_next_one_puts_back(
    tmp_path: Path, how: type[BaseException]
) -> None:
    total = steps_of(tmp_path, stop=False) + steps_of(tmp_path, stop=True)
    for number in range(total):
        stage = Stage(tmp_path, live())
        stage.batch.die = number, how()

        async def main(stage: Stage = stage) -> None:
            await stage.start()
            await stage.stop()

        assert outcome(lambda main=main, stage=stage: run(main(), stage.clock)) == "ended", number
        stage.killed()
        run(stage.adoption.resume(), stage.clock)
        assert as_set(stage.batch.messages) == as_set(live()), number
        assert run(stage.adoption.resume(), stage.clock) == ""


def test_a_kill_while_it_is_put_back(tmp_path: Path) -> None:
    for number in range(40):
        stage = Stage(tmp_path, live())
        run(stage.start(), stage.clock)
        stage.killed()
        stage.batch.steps.clear()
        stage.batch.die = number, KeyboardInterrupt()
        if outcome(lambda stage=stage: run(stage.adoption.resume(), stage.clock)) == "":
            assert number > 5
            break
        stage.batch.die = None
        stage.adoption = stage.process()
        run(stage.adoption.resume(), stage.clock)
        assert as_set(stage.batch.messages) == as_set(live()), number
    else:
        pytest.fail("it never came to an end")


def test_what_was_changed_meanwhile_moves_back(tmp_path: Path) -> None:
    stage = Stage(tmp_path, live())
    new = address(TAP, "10.66.0.1/24")

    async def main() -> None:
        await stage.start()
        stage.batch._do(Step("", new))
        gone = next(m for m in stage.batch.messages if m.kind == RTM_NEWROUTE and route_text(m).endswith("99"))
        stage.batch.messages.remove(gone)
        await stage.stop()

    run(main(), stage.clock)
    texts = {route_text(m) for m in stage.batch.held(ETH0) if m.kind == RTM_NEWROUTE}
    assert "10.66.0.0/24" in texts
    assert "192.0.2.0/24 table 99" not in texts
    assert stage.batch.held(TAP) == set()


def test_what_was_changed_is_given_back_also_after_a_kill(tmp_path: Path) -> None:
    stage = Stage(tmp_path, live())

    async def main() -> None:
        await stage.start()
        stage.batch._do(Step("", address(TAP, "10.66.0.1/24")))
        await asyncio.sleep(KEEP_S + 1)
        stage.killed()
        await stage.adoption.resume()

    run(main(), stage.clock)
    assert "10.66.0.0/24" in {route_text(m) for m in stage.batch.held(ETH0) if m.kind == RTM_NEWROUTE}


@pytest.mark.parametrize("renamed", [True, False])
def test_a_tap_that_was_renamed_or_has_gone(tmp_path: Path, renamed: bool) -> None:
    stage = Stage(tmp_path, live())

    async def main() -> None:
        await stage.start()
        stage.batch._do(Step("", address(TAP, "10.66.0.1/24")))
        if renamed:
            stage.network.change("tb0", name="lan0")
        else:
            await asyncio.sleep(KEEP_S + 1)
            stage.tap_goes()
        await stage.stop()

    run(main(), stage.clock)
    assert len(stage.batch.held(ETH0)) == len(FakeBatch(live()).held(ETH0)) + 2
    assert stage.batch.held(TAP) == set()


def test_a_tap_that_stays_keeps_its_own(tmp_path: Path) -> None:
    own = [address(TAP, "10.44.0.1/24"), route(TAP, "10.44.0.0/24", protocol=2)]
    stage = Stage(tmp_path, [*live(), *own])

    async def main() -> None:
        await stage.start()
        await stage.stop()

    run(main(), stage.clock)
    assert as_set(stage.batch.messages) == as_set([*live(), *own])


def test_a_lease_that_ran_out_while_nobody_ran_is_not_given_back(tmp_path: Path) -> None:
    stage = Stage(tmp_path, [address(ETH0, "10.0.0.1/24"), address(ETH0, "10.3.0.1/24", more=lifetimes(60, 60))])
    run(stage.start(), stage.clock)
    stage.killed()
    stage.clock.advance(HOURS_NS)
    run(stage.adoption.resume(), stage.clock)
    assert [address_text(m) for m in stage.batch.messages if m.kind != RTM_NEWROUTE] == ["10.0.0.1/24"]


@pytest.mark.parametrize("messages", [[], [address(ETH0, "fe80::1/64")], [address(OTHER, "10.0.0.1/24")]])
def test_nothing_to_adopt(tmp_path: Path, messages: list[Message]) -> None:
    stage = Stage(tmp_path, messages)

    async def main() -> None:
        assert not await stage.adoption.hold(ETH0, TAP)
        await stage.adoption.move(TAP)
        await stage.stop()

    run(main(), stage.clock)
    assert stage.batch.steps == []
    assert stage.file.read() is None


@pytest.mark.parametrize("properties", [{"mac": "52:54:00:00:00:99"}, None])
def test_a_link_that_is_another_now_is_left_alone_and_the_record_kept(
    tmp_path: Path, properties: dict[str, str] | None
) -> None:
    stage = Stage(tmp_path, live())
    run(stage.start(), stage.clock)
    stage.killed()
    if properties is None:
        stage.network.delete("eth0")
    else:
        stage.network.change("eth0", **properties)
    before = list(stage.batch.messages)
    said = run(stage.adoption.resume(), stage.clock)
    assert said == f"eth0 of tb0: kept, no such interface with MAC {MAC} (or: tapbond restore --forget tb0)"
    assert stage.batch.messages == before
    assert stage.file.read() is not None


def test_the_standby_is_known_whatever_mac_it_is_given_meanwhile(tmp_path: Path) -> None:
    """``--mac-policy set``, and somebody changes the failover's."""
    stage = Stage(tmp_path, live())

    async def main() -> None:
        await stage.start()
        stage.network.change("eth0", mac="52:54:00:00:00:99")
        await stage.stop()

    run(main(), stage.clock)
    assert as_set(stage.batch.messages) == as_set(live())
    assert stage.file.read() is None


def test_what_is_kept_is_not_overwritten_by_another_adoption(tmp_path: Path) -> None:
    stage = Stage(tmp_path, [*live(), address(OTHER, "10.7.0.1/24")])
    run(stage.start(), stage.clock)
    stage.killed()
    stage.network.delete("eth0")
    with pytest.raises(TapbondError, match=r"eth0 are kept since an earlier run: .* tapbond restore --forget tb0"):
        run(stage.process().hold(OTHER, TAP), stage.clock)
    kept = stage.file.read()
    assert kept is not None
    assert kept.name == "eth0"


def test_a_standby_that_is_gone_at_the_end_leaves_all_written_down(tmp_path: Path) -> None:
    stage = Stage(tmp_path, live())
    held = len(Holdings.of(ETH0, live(), 0).addresses)

    async def main() -> None:
        await stage.start()
        stage.network.delete("eth0")
        await stage.stop()
        kept = stage.file.read()
        assert kept is not None
        assert len(kept.held.addresses) == held
        stage.network.add("eth0", MAC, ifindex=12)
        stage.killed()
        await stage.adoption.resume()

    run(main(), stage.clock)
    again = Link(ifindex=12, name="eth0", mac=MAC)
    assert len(Holdings.of(again, stage.batch.messages, 0).addresses) == held
    assert stage.file.read() is None


def test_one_that_was_plugged_in_again_gets_it(tmp_path: Path) -> None:
    stage = Stage(tmp_path, live())

    async def main() -> None:
        await stage.start()
        stage.network.delete("eth0")
        stage.network.add("eth0", MAC, ifindex=12)
        await stage.stop()

    run(main(), stage.clock)
    again = Link(ifindex=12, name="eth0", mac=MAC)
    assert len(stage.batch.held(again)) == len(FakeBatch(live()).held(ETH0))


def test_a_standby_that_another_failover_took_first_is_left_alone(tmp_path: Path) -> None:
    """Both began at once: this one has copied the addresses, and is refused the link."""
    stage = Stage(tmp_path, live())

    async def main() -> None:
        await stage.adoption.hold(ETH0, TAP)
        stage.batch.vanish(ETH0)  # to the other's TAP
        await stage.stop()

    run(main(), stage.clock)
    assert stage.batch.held(ETH0) == stage.batch.held(TAP) == set()
    assert stage.file.read() is None


@pytest.mark.parametrize("content", [b"", b"{}", b"null", b"\xff", b'{"ifindex": 2}'])
def test_a_file_that_cannot_be_read_holds_nothing(tmp_path: Path, content: bytes) -> None:
    stage = Stage(tmp_path, live())
    (tmp_path / "tb0.adopted").write_bytes(content)
    assert run(stage.adoption.resume(), stage.clock) == ""
