"""The network of the lab: links, a switch and a far host.

    host                          switch                       far
    tb0 (tapbond's, not the lab's)
    eth0 (standby) ────────────── sw0 ┐
    eth1 (primary) ────────────── sw1 ┼ br0 ── swf ─────────── eth0 10.53.0.2/24 fd53::2/64
                                       (a bridge, no STP, multicast is flooded)

eth0 and eth1 have the same MAC, are down and have no address; everything else is up. A :class:`Pair` is
the same two hosts with nothing to fail over: what a measurement is compared with.

    host                                                       far
    eth0 10.53.0.1/24 fd53::1/64 ──── (sw0 br0 swf) ────────── eth0 10.53.0.2/24 fd53::2/64
"""

from __future__ import annotations

import socket
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, Final, Self

from .lever import Lever
from .namespace import Namespace

HOST_V4: Final = "10.53.0.1"
FAR_V4: Final = "10.53.0.2"
HOST_V6: Final = "fd53::1"
FAR_V6: Final = "fd53::2"
MAC: Final = "02:00:00:00:00:53"

_PREFIX_V4 = 24
_PREFIX_V6 = 64
# Duplicate address detection would take a second, and its sysctl is read-only in containers.
_IFA_F_NODAD = 0x02
_NUD_PERMANENT = 0x80
_BR_STATE_DISABLED = 0
_BR_STATE_FORWARDING = 3
NO_IPV6_LINK_LOCAL = {
    "attrs": [("AF_INET6", {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", 1)]})],
}


@dataclass(slots=True)
class _Port:
    """One link of the host and the switch port at its other end, by index."""

    host: int
    switch: int


def _address(namespace: Namespace, ifname: str, v4: str, v6: str) -> None:
    index = namespace.index_of(ifname)

    def give(ipr: Any) -> None:
        ipr.link("set", index=index, state="up")
        ipr.addr("replace", index=index, address=v4, prefixlen=_PREFIX_V4)
        ipr.addr("replace", index=index, address=v6, prefixlen=_PREFIX_V6, flags=_IFA_F_NODAD)

    namespace.netlink(give)


def make_bridge(switch: Namespace, mtu: int) -> int:
    """Make ``br0`` without STP or snooping, and put it up; return its index."""

    def make(ipr: Any) -> int:
        ipr.link("add", ifname="br0", kind="bridge", br_stp_state=0, br_mcast_snooping=0)
        index = int(ipr.link_lookup(ifname="br0")[0])
        ipr.link("set", index=index, mtu=mtu, IFLA_AF_SPEC=NO_IPV6_LINK_LOCAL)
        ipr.link("set", index=index, state="up")
        return index

    return switch.netlink(make)


class _Net:
    """Namespaces and levers that are closed together, also if building fails half-way."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        try:
            self.host = self._namespace("host")
            self.far = self._namespace("far")
        except BaseException:
            self._stack.close()
            raise

    def _namespace(self, name: str) -> Namespace:
        return self._stack.enter_context(Namespace(name))

    def _lever(self, namespace: Namespace) -> Lever:
        lever = Lever(namespace)
        self._stack.callback(lever.close)
        return lever

    def close(self) -> None:
        """Give everything back: programs started inside, links, namespaces, threads."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


class Lab(_Net):
    """Two links from ``host`` through a switch to ``far``, and the ways in which they fail.

    The methods that make something happen return the time.monotonic_ns() taken right before the kernel call
    that does it. KeyError: no such link is plugged in. OSError: the kernel refused.
    """

    def __init__(self, mtu: int = 1500, mac: str = MAC) -> None:
        super().__init__()
        self.mtu = mtu
        self.mac = mac
        self._ports: dict[str, _Port] = {}
        try:
            self.switch = self._namespace("switch")
            self._host_lever = self._lever(self.host)
            self._switch_lever = self._lever(self.switch)
            self._bridge = make_bridge(self.switch, mtu)
            self._lever(self.far).create_veth("eth0", None, mtu, (self.switch, "swf"))
            self._switch_lever.join(self.switch.index_of("swf"), self._bridge)
            _address(self.far, "eth0", FAR_V4, FAR_V6)
            self.plug("eth0")
            self.plug("eth1")
        except BaseException:
            self.close()
            raise

    def down(self, ifname: str) -> int:
        """Set a link of the host administratively down."""
        return self._host_lever.set_up(self._ports[ifname].host, up=False)

    def up(self, ifname: str) -> int:
        """Set a link of the host administratively up."""
        return self._host_lever.set_up(self._ports[ifname].host, up=True)

    def lose_carrier(self, ifname: str) -> int:
        """Take a link's carrier away: the switch's end of the cable goes down, and forgets its MACs."""
        return self._switch_lever.set_up(self._ports[ifname].switch, up=False)

    def restore_carrier(self, ifname: str) -> int:
        """Give a link its carrier back."""
        return self._switch_lever.set_up(self._ports[ifname].switch, up=True)

    def silence(self, ifname: str) -> int:
        """Let the switch drop all that passes a link's port, without a word: the carrier stays on."""
        return self._switch_lever.set_port_state(self._ports[ifname].switch, _BR_STATE_DISABLED)

    def heal(self, ifname: str) -> int:
        """Let a silenced port forward again."""
        return self._switch_lever.set_port_state(self._ports[ifname].switch, _BR_STATE_FORWARDING)

    def unplug(self, ifname: str) -> int:
        """Delete a link, and the switch's end with it."""
        at = self._host_lever.delete(self._ports[ifname].host)
        del self._ports[ifname]
        return at

    def plug(self, ifname: str, mac: str | None = None) -> int:
        """Let a link appear in the host, down; the switch's end (sw1 for eth1) is set up right after it.

        ``mac``: the lab's if None. It is a new link: another index than one of that name had before.
        ValueError: a link of that name is plugged in already.
        """
        if ifname in self._ports:
            raise ValueError(f"{ifname}: already plugged in")
        port = "sw" + ifname.removeprefix("eth")
        at = self._host_lever.create_veth(ifname, mac or self.mac, self.mtu, (self.switch, port))
        switch = self.switch.index_of(port)
        self._switch_lever.join(switch, self._bridge)
        self._ports[ifname] = _Port(self.host.index_of(ifname), switch)
        return at

    def rename(self, old: str, new: str) -> int:
        """Rename a link of the host, by which name it goes from then on."""
        at = self._host_lever.rename(self._ports[old].host, new)
        self._ports[new] = self._ports.pop(old)
        return at

    def set_mtu(self, ifname: str, mtu: int) -> int:
        """Set the MTU of a link of the host, in bytes; the switch's end keeps its own."""
        return self._host_lever.set_mtu(self._ports[ifname].host, mtu)

    def address_failover(self, ifname: str = "tb0") -> None:
        """Set the failover interface in the host up, with 10.53.0.1/24 and fd53::1/64 (OSError: missing)."""
        _address(self.host, ifname, HOST_V4, HOST_V6)

    def switch_port_of(self, mac: str | None = None) -> str | None:
        """Return the port behind which the switch believes a MAC (the lab's if None) is, or None.

        It is what ``bridge fdb`` shows: entries learnt, not the ports' own addresses.
        """
        wanted = (mac or self.mac).lower()

        def learnt(ipr: Any) -> list[int]:
            return [
                entry["ifindex"]
                for entry in ipr.fdb("dump")
                if entry.get("lladdr") == wanted and not entry["state"] & _NUD_PERMANENT
            ]

        indexes = self.switch.netlink(learnt)
        return self.switch.run(socket.if_indextoname, indexes[0]) if indexes else None


class Pair(_Net):
    """``host`` and ``far`` joined by a bare veth pair, or through a bridge: the baseline of a measurement."""

    def __init__(self, mtu: int = 1500, bridge: bool = False) -> None:
        super().__init__()
        try:
            if bridge:
                self._connect_through_bridge(mtu)
            else:
                self._lever(self.host).create_veth("eth0", None, mtu, (self.far, "eth0"))
            _address(self.host, "eth0", HOST_V4, HOST_V6)
            _address(self.far, "eth0", FAR_V4, FAR_V6)
        except BaseException:
            self.close()
            raise

    def _connect_through_bridge(self, mtu: int) -> None:
        switch = self._namespace("switch")
        bridge = make_bridge(switch, mtu)
        for port, namespace in (("sw0", self.host), ("swf", self.far)):
            self._lever(namespace).create_veth("eth0", None, mtu, (switch, port))
            self._lever(switch).join(switch.index_of(port), bridge)
