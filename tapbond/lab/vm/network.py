"""The networks of virtual machines: TAPs on bridges, and a far host behind them.

    guest              switch (namespace)             core (namespace)                 far (namespace)
    NIC ──────── tap ┐
    NIC ──────── tap ┴ br0 ── up ────────── source ┐
                                                   ├ br0 ── far ──────────────────── eth0 10.53.0.2/24
    NIC ──────── tap ─ br0 ── up ───── destination ┘
    guest              another switch

The bridges have no STP and flood multicast. A switch is a host with its bridge; where there is only one, the far
host is plugged to it directly.
"""

from __future__ import annotations

import fcntl
import os
import struct
from contextlib import ExitStack
from typing import TYPE_CHECKING, Any, Final, Self

from tapbond.lab.lever import Lever
from tapbond.lab.namespace import Namespace
from tapbond.lab.topology import FAR_V4, HOST_V4, NO_IPV6_LINK_LOCAL, make_bridge

if TYPE_CHECKING:
    from collections.abc import Iterable

GUEST_V4: Final = HOST_V4
FAR_MAC: Final = "02:00:00:00:00:02"

_TUNSETIFF = 0x400454CA
_IFF_TAP = 0x0002
_IFF_NO_PI = 0x1000
_IFF_VNET_HDR = 0x4000
_MTU = 9000
_NUD_PERMANENT = 0x80
_NUD_NOARP = 0x40
_NTF_MASTER = 0x04


def _open_tap(name: str) -> int:
    fd = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        flags = _IFF_TAP | _IFF_NO_PI | _IFF_VNET_HDR
        fcntl.ioctl(fd, _TUNSETIFF, struct.pack("16sH22x", name.encode(), flags))
    except BaseException:
        os.close(fd)
        raise
    return fd


class Switch:
    """A namespace with a bridge, and TAPs on it for a machine.

    Args:
        name: of the namespace, for messages.
        taps: their names.

    Raises:
        OSError: no right to make namespaces or TAPs.
    """

    def __init__(self, name: str, taps: Iterable[str] = ()) -> None:
        self.taps: dict[str, int] = {}
        """File descriptors for QEMU; they stay open here too, so that a TAP outlives its machine."""
        with ExitStack() as stack:
            self.namespace = stack.enter_context(Namespace(name))
            self._bridge = make_bridge(self.namespace, _MTU)
            for tap in taps:
                self.taps[tap] = self.namespace.run(_open_tap, tap)
                stack.callback(os.close, self.taps[tap])
                self.join(tap)
            self._stack = stack.pop_all()

    def join(self, name: str) -> None:
        """Make a link of the namespace a port of the bridge."""
        index = self.namespace.index_of(name)

        def join(ipr: Any) -> None:
            ipr.link("set", index=index, mtu=_MTU, master=self._bridge, IFLA_AF_SPEC=NO_IPV6_LINK_LOCAL)
            ipr.link("set", index=index, state="up")

        self.namespace.netlink(join)

    def pin(self, mac: str, port: str) -> None:
        """Say where a MAC is, as ``bridge fdb replace MAC dev PORT master static``."""
        index = self.namespace.index_of(port)
        self.namespace.netlink(
            lambda ipr: ipr.fdb("replace", ifindex=index, lladdr=mac, state=_NUD_NOARP, flags=_NTF_MASTER)
        )

    def unpin(self, mac: str) -> None:
        """Take that back, at whatever port it is.

        A static entry that is not ``sticky`` follows a MAC that speaks at another port (br_fdb_update() of
        net/bridge/br_fdb.c), as it does when the guest has moved.
        """

        def remove(ipr: Any) -> None:
            for entry in ipr.fdb("dump"):
                if entry.get("lladdr") == mac and entry["state"] & _NUD_NOARP:
                    ipr.fdb("del", ifindex=entry["ifindex"], lladdr=mac, flags=_NTF_MASTER)

        self.namespace.netlink(remove)

    def close(self) -> None:
        """Give everything back."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Network:
    """Switches, and the far host behind them.

    Args:
        switches: each with the names of its TAPs; the far host is plugged to the only one, or to a core
            between them.
        guest_mac: the far host knows it without asking, so that each direction can be tried without the other.

    Raises:
        OSError: no right to make namespaces or TAPs.
    """

    def __init__(self, switches: dict[str, tuple[str, ...]], guest_mac: str) -> None:
        with ExitStack() as stack:
            self.switches = {name: stack.enter_context(Switch(name, taps)) for name, taps in switches.items()}
            self.far = stack.enter_context(Namespace("far"))
            core = next(iter(self.switches.values()))
            if len(self.switches) > 1:
                core = stack.enter_context(Switch("core"))
                for name, switch in self.switches.items():
                    _cable(stack, switch.namespace, "up", core.namespace, name)
                    switch.join("up")
                    core.join(name)
            _cable(stack, self.far, "eth0", core.namespace, "far", FAR_MAC)
            core.join("far")
            self._address_far(guest_mac)
            self._stack = stack.pop_all()

    def _address_far(self, guest_mac: str) -> None:
        index = self.far.index_of("eth0")

        def address(ipr: Any) -> None:
            ipr.link("set", index=index, IFLA_AF_SPEC=NO_IPV6_LINK_LOCAL)
            ipr.link("set", index=index, state="up")
            ipr.addr("add", index=index, address=FAR_V4, prefixlen=24)
            ipr.neigh("replace", ifindex=index, dst=GUEST_V4, lladdr=guest_mac, state=_NUD_PERMANENT)

        self.far.netlink(address)

    def close(self) -> None:
        """Give everything back."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def _cable(
    stack: ExitStack, here: Namespace, name: str, there: Namespace, peer: str, mac: str | None = None
) -> None:
    lever = Lever(here)
    stack.callback(lever.close)
    lever.create_veth(name, mac, _MTU, (there, peer))
