"""Which link becomes whose slave, and what is said to one that does not."""

from itertools import permutations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapbond.errors import RefusedError
from tapbond.model import Link, Role, Slots
from tapbond.registry import STACKED_KINDS, Registry

MAC = "52:54:00:00:00:01"
OTHER = "52:54:00:00:00:02"
NAMED = {"standby": "eth0", "primary": "eth1"}


def link(name: str, ifindex: int = 2, **properties: object) -> Link:
    return Link(**({"name": name, "ifindex": ifindex, "mac": MAC} | properties))


def registry(standby: str | None = None, primary: str | None = None, slots: Slots = Slots.ANY) -> Registry:
    return Registry("tb0", MAC, standby, primary, slots=slots)


def refusal(slots: Registry, candidate: Link, role: Role, *others: Link) -> str:
    with pytest.raises(RefusedError) as caught:
        slots.check(candidate, role, {other.ifindex: other for other in (candidate, *others)})
    assert caught.value.name == candidate.name
    assert str(caught.value) == f"{candidate.name}: {caught.value.reason}"
    return caught.value.reason


# Who is meant.


@pytest.mark.parametrize(("name", "role"), [("eth0", Role.STANDBY), ("eth1", Role.PRIMARY), ("eth2", None)])
def test_by_name(name: str, role: Role | None) -> None:
    assert registry(**NAMED).wanted_role(link(name, mac=OTHER)) is role


def test_by_mac() -> None:
    assert registry(standby="eth0").wanted_role(link("eth7")) is Role.PRIMARY


def test_by_permanent_mac() -> None:
    moved = link("eth7", mac=OTHER, permanent_mac=MAC)
    assert registry(standby="eth0").wanted_role(moved) is Role.PRIMARY
    assert registry(standby="eth0").has_mac(moved)


def test_another_mac_is_none_of_ours() -> None:
    assert registry(standby="eth0").wanted_role(link("eth7", mac=OTHER, permanent_mac=OTHER)) is None
    assert registry().wanted_role(link("tunnel", mac="")) is None


def test_without_names_the_first_link_is_the_standby_and_the_next_the_primary() -> None:
    slots = registry()
    assert slots.wanted_role(link("a")) is Role.STANDBY
    slots.take(Role.STANDBY, link("a", 2))
    assert slots.wanted_role(link("b", 3)) is Role.PRIMARY
    slots.take(Role.PRIMARY, link("b", 3))
    assert slots.wanted_role(link("c", 4)) is Role.PRIMARY
    slots.free(link("", 2))
    assert slots.wanted_role(link("c", 4)) is Role.STANDBY


def test_a_link_that_is_plugged_in_again_under_another_name_gets_its_slot_back() -> None:
    slots = registry(**NAMED)
    slots.take(Role.STANDBY, link("eth0", 2))
    slots.take(Role.PRIMARY, link("eth1", 3))
    slots.free(link("", 3))
    assert slots.wanted_role(link("eth5", 9)) is Role.PRIMARY
    slots.take(Role.PRIMARY, link("eth1", 3))
    slots.free(link("", 2))
    assert slots.wanted_role(link("eth5", 9)) is Role.STANDBY


@pytest.mark.parametrize("kind", sorted(STACKED_KINDS))
def test_a_link_stacked_on_another_borrows_its_mac_and_must_be_named(kind: str) -> None:
    assert registry(standby="eth0").wanted_role(link("stacked", kind=kind)) is None
    assert registry(standby="eth0", primary="stacked").wanted_role(link("stacked", kind=kind)) is Role.PRIMARY


@pytest.mark.parametrize("kind", ["vlan", "bridge", "tun", "bond", "team", "macvlan", "dummy", "vxlan"])
def test_the_kinds_that_are_stacked(kind: str) -> None:
    assert kind in STACKED_KINDS


@pytest.mark.parametrize("kind", ["", "veth", "virtio_net"])
def test_the_kinds_that_are_not(kind: str) -> None:
    assert registry(standby="eth0").wanted_role(link("eth5", kind=kind)) is Role.PRIMARY


def test_holds() -> None:
    slots = registry()
    slots.take(Role.PRIMARY, link("eth1", 3))
    assert slots.holds(link("", 3)) is Role.PRIMARY
    assert slots.holds(link("", 2)) is None


# Who is refused, and what is said.


def test_a_free_slot_takes_a_link_that_fits() -> None:
    registry(**NAMED).check(link("eth1"), Role.PRIMARY, {})


def test_not_ethernet() -> None:
    assert refusal(registry(), link("wg0", ethernet=False), Role.PRIMARY) == "not an Ethernet link"


@pytest.mark.parametrize("role", [Role.PRIMARY, Role.STANDBY])
def test_a_slot_that_is_taken(role: Role) -> None:
    slots = registry()
    slots.take(role, link("eth1", 3))
    expected = f"attempting to register as {role} when eth1 is already present"
    way_out = " (tapbond add tb0 eth2 --prio N takes it as a backup)"
    assert refusal(slots, link("eth2", 4), role) == expected + way_out


def test_there_is_room_for_any_number_of_backups() -> None:
    slots = registry()
    for ifindex in range(3, 20):
        slots.check(link(f"eth{ifindex}", ifindex), Role.BACKUP, {})
        slots.take(Role.BACKUP, link(f"eth{ifindex}", ifindex))


def test_slots_kernel_has_two() -> None:
    slots = registry(slots=Slots.KERNEL)
    assert (
        refusal(slots, link("eth2", 4), Role.BACKUP)
        == "tb0 has two slots only (--slots kernel, --rx kernel): no backups"
    )


def test_the_words_of_the_kernel() -> None:
    slots = registry(slots=Slots.KERNEL)
    slots.take(Role.PRIMARY, link("eth1", 3))
    expected = "eth2: attempting to register as primary when eth1 is already present"
    with pytest.raises(RefusedError, match=f"^{expected}$"):
        slots.check(link("eth2", 4), Role.PRIMARY, {})


def test_a_link_that_has_the_other_slot() -> None:
    slots = registry()
    slots.take(Role.STANDBY, link("eth0", 2))
    assert refusal(slots, link("eth0", 2), Role.PRIMARY) == "already the standby of tb0"


def test_a_port_of_a_bridge() -> None:
    bridge = link("br0", 9, kind="bridge")
    expected = "already a port of br0 (free it: ip link set eth1 nomaster)"
    assert refusal(registry(), link("eth1", master=9), Role.PRIMARY, bridge) == expected


def test_a_port_of_something_that_cannot_be_seen() -> None:
    expected = "already a port of ifindex 9 (free it: ip link set eth1 nomaster)"
    assert refusal(registry(), link("eth1", master=9), Role.PRIMARY) == expected


def test_another_mac_with_the_way_out() -> None:
    expected = f"its MAC {OTHER} is not tb0's {MAC} (ip link set eth1 address {MAC}; or --mac-policy set)"
    assert refusal(registry(), link("eth1", mac=OTHER), Role.PRIMARY) == expected
    assert refusal(registry(), link("eth1", mac=OTHER, permanent_mac=MAC), Role.PRIMARY) == expected


links = st.builds(
    Link,
    ifindex=st.integers(2, 9),
    name=st.sampled_from(["eth0", "eth1", "eth2", "ens7"]),
    mac=st.sampled_from([MAC, OTHER, ""]),
    permanent_mac=st.sampled_from([MAC, OTHER, ""]),
    ethernet=st.booleans(),
    master=st.sampled_from([0, 9]),
    kind=st.sampled_from(["", "veth", "vlan", "bridge"]),
)
names = st.sampled_from([None, "eth0", "eth1"])


def plug(slots: Registry, candidate: Link) -> None:
    """Register a link as membership does."""
    if slots.holds(candidate) is None and (role := slots.wanted_role(candidate)) is not None:
        try:
            slots.check(candidate, role, {})
        except RefusedError:
            return
        slots.take(role, candidate)


@given(st.lists(links, max_size=8, unique_by=lambda found: found.ifindex), names, names)
def test_whatever_is_plugged_in_every_slave_fits(
    found: list[Link], standby: str | None, primary: str | None
) -> None:
    slots = registry(standby, primary)
    for candidate in found:
        plug(slots, candidate)
    for _, slave in slots.taken.values():
        assert slave.ethernet
        assert slave.mac == MAC
        assert slave.master == 0
    roles = [role for role, _ in slots.taken.values()]
    assert len(set(roles)) == len(roles)


@pytest.mark.parametrize("order", list(permutations(("eth0", "eth1", "eth2"))))
def test_named_links_get_their_slots_in_any_order(order: tuple[str, ...]) -> None:
    slots = registry(**NAMED)
    for ifindex, name in enumerate(order, 2):
        plug(slots, link(name, ifindex, mac=OTHER if name == "eth2" else MAC))
    assert {role: slave.name for role, slave in slots.taken.values()} == {
        Role.STANDBY: "eth0",
        Role.PRIMARY: "eth1",
    }


@given(links, names, names)
def test_asking_changes_nothing(found: Link, standby: str | None, primary: str | None) -> None:
    slots = registry(standby, primary)
    slots.take(Role.STANDBY, link("eth0", 99))
    before = (dict(slots.taken), dict(slots.named))
    first = slots.wanted_role(found)
    assert slots.wanted_role(msgspec.structs.replace(found)) is first
    assert (slots.taken, slots.named) == before
