"""Every kernel behaviour that adopting relies on, alone.

host                       switch    far
eth0 10.53.0.1/24  ─────── sw0 ┐
     fd53::1/64                br0 ─ eth0 10.53.0.2/24 fd53::2/64
eth1 (same MAC)    ─────── sw1 ┘
"""

import json
from typing import Any

import pytest

from tapbond.holdings import Holdings
from tapbond.lab import FAR_V4, Lab, wait_until
from tapbond.model import Link
from tapbond.moves import NLM_F_CREATE, NLM_F_REPLACE, Step, add_addresses, move_routes
from tapbond.rtbatch import _do, _dump
from tapbond.rtmessage import RTM_NEWADDR
from tapbond.testing.batch import address, route

pytestmark = [pytest.mark.namespaces, pytest.mark.tools("ip", "ping")]


def ip(lab: Lab, line: str) -> str:
    return lab.host.check_output(["ip", *line.split()])


def link(lab: Lab, name: str) -> Link:
    return Link(ifindex=lab.host.index_of(name), name=name, mac=lab.mac)


def way(lab: Lab, address: str) -> str:
    found: list[dict[str, Any]] = json.loads(ip(lab, f"-j route get {address}"))
    return str(found[0]["dev"])


def perform(lab: Lab, steps: list[Step]) -> list[str]:
    return [str(error) for error in lab.host.run(_do, steps)]


@pytest.mark.parametrize(("prefix", "inside"), [("10.53.0.1/24", "10.53.0.2"), ("fd53::1/64", "fd53::2")])
def test_of_two_links_in_one_subnet_the_first_is_used_until_it_leaves(lab: Lab, prefix: str, inside: str) -> None:
    for name in ("eth0", "eth1"):
        lab.up(name)
        wait_until(lambda name=name: "LOWER_UP" in ip(lab, f"link show {name}"))
        ip(lab, f"addr add {prefix} dev {name}" + (" nodad" if ":" in prefix else ""))
    assert way(lab, inside) == "eth0"
    ip(lab, f"addr del {prefix} dev eth0")
    assert way(lab, inside) == "eth1"


def test_routes_keep_their_source_while_another_link_has_it(lab: Lab) -> None:
    for name in ("eth0", "eth1"):
        lab.up(name)
    ip(lab, "addr add 10.53.0.1/24 dev eth0")
    ip(lab, "addr add 10.53.0.1/24 dev eth1")
    ip(lab, "route add 192.0.2.0/24 via 10.53.0.2 dev eth1 src 10.53.0.1")
    ip(lab, "addr del 10.53.0.1/24 dev eth0")
    assert "192.0.2.0/24" in ip(lab, "route")
    ip(lab, "addr del 10.53.0.1/24 dev eth1")
    assert "192.0.2.0/24" not in ip(lab, "route")


def test_a_port_of_a_bridge_that_is_down_still_sends(lab: Lab) -> None:
    lab.address_failover("eth0")
    ip(lab, f"neigh replace {FAR_V4} lladdr 02:00:00:00:00:02 dev eth0")
    ip(lab, "link add br9 type bridge")
    ip(lab, "link set eth0 master br9")
    before = json.loads(ip(lab, "-s -j link show eth0"))[0]["stats64"]["tx"]["packets"]
    lab.host.spawn(["ping", "-c1", "-W1", FAR_V4]).wait()
    assert json.loads(ip(lab, "-s -j link show eth0"))[0]["stats64"]["tx"]["packets"] > before


def test_the_whole_datagram_is_done_whatever_becomes_of_one_request(lab: Lab) -> None:
    lab.up("eth0")
    eth0 = link(lab, "eth0")
    wrong = route(eth0, "192.0.2.0/24", "203.0.113.1")
    steps = [
        *add_addresses(Holdings(addresses=(address(eth0, "10.53.0.1/24"),)), eth0),
        Step("eth0: cannot add route 192.0.2.0/24", wrong, NLM_F_CREATE),
        Step("eth0: cannot add route 198.51.100.0/24", route(eth0, "198.51.100.0/24", FAR_V4), NLM_F_CREATE),
    ]
    assert perform(lab, steps) == ["eth0: cannot add route 192.0.2.0/24: Nexthop has invalid gateway"]
    assert "198.51.100.0/24 via 10.53.0.2" in ip(lab, "route")


def test_nodad_is_taken_off_an_address_and_nobody_is_asked(lab: Lab) -> None:
    lab.up("eth0")
    eth0 = link(lab, "eth0")
    assert perform(lab, add_addresses(Holdings(addresses=(address(eth0, "fd53::1/64"),)), eth0)) == []
    shown = ip(lab, "-6 addr show dev eth0 scope global")
    assert "fd53::1/64" in shown
    assert "nodad" not in shown
    assert "tentative" not in shown


def test_a_route_is_replaced_in_place_and_another_links_is_not(lab: Lab) -> None:
    for number, name in enumerate(("eth0", "eth1")):
        lab.up(name)
        ip(lab, f"addr add 10.{53 + number}.0.1/24 dev {name}")
    ip(lab, "addr add 10.53.0.1/24 dev eth1")
    ip(lab, "route add default via 10.53.0.2 dev eth0")
    ip(lab, "route append 192.0.2.0/24 via 10.54.0.2 dev eth1")
    ip(lab, "route append 192.0.2.0/24 via 10.53.0.2 dev eth0")
    eth0, eth1 = link(lab, "eth0"), link(lab, "eth1")
    dump = lab.host.run(_dump)
    held = Holdings.of(eth0, dump, 0)
    old = tuple(found for found in held.routes if found.get(5))
    new = Holdings(routes=old).moved(eth0, eth1, 0).routes
    assert perform(lab, move_routes(old, new, dump, eth1)) == []
    routes = ip(lab, "route").splitlines()
    assert [line.split(" dev ")[1].split()[0] for line in routes if " via " in line] == ["eth1"] * 3
    assert sum(line.startswith("192.0.2.0/24") for line in routes) == 2


def test_what_a_dump_shows_is_accepted_as_it_is(lab: Lab) -> None:
    """Attributes that only a dump has do no harm in a request."""
    lab.address_failover("eth0")
    ip(lab, "addr add 10.66.0.1/24 dev eth0 label eth0:x valid_lft 500 preferred_lft 400")
    eth0 = link(lab, "eth0")
    held = Holdings.of(eth0, lab.host.run(_dump), 0).moved(eth0, eth0, 0)
    steps = [Step("", found, NLM_F_CREATE | NLM_F_REPLACE) for found in held.addresses]
    assert len([step for step in steps if step.message.kind == RTM_NEWADDR]) >= 3
    assert perform(lab, steps) == []
