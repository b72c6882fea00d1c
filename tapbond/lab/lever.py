"""Changes to links whose moment matters: one rtnetlink message, encoded before the clock is read.

pyroute2 takes about half a millisecond to encode and send a message, which is as much as a switchover.
"""

from __future__ import annotations

import itertools
import os
import socket
import struct
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .namespace import Namespace

_NLMSGHDR = struct.Struct("=IHHII")
_IFINFOMSG = struct.Struct("=BxHiII")
_RTATTR = struct.Struct("=HH")
_NLMSGERR = struct.Struct("=i")
_REQUEST_AND_ACK = 0x1 | 0x4
_CREATE_NEW = 0x200 | 0x400
_RTM_NEWLINK = 16
_RTM_DELLINK = 17
_RTM_SETLINK = 19
_IFLA_ADDRESS = 1
_IFLA_IFNAME = 3
_IFLA_MTU = 4
_IFLA_MASTER = 10
_IFLA_PROTINFO = 12 | 0x8000  # NLA_F_NESTED: without, the kernel reads one byte of an old kind
_IFLA_LINKINFO = 18
_IFLA_GROUP = 27
_IFLA_NET_NS_FD = 28
_IFLA_BRPORT_STATE = 1
_IFLA_INFO_KIND = 1
_IFLA_INFO_DATA = 2
_VETH_INFO_PEER = 1
_IFF_UP = 1
_TIMEOUT_S = 10.0
_INDEXES = itertools.count(1001, 2)
"""Of this end of each veth pair, the peer's is one more: far from those that the kernel gives."""


def _attribute(kind: int, payload: bytes) -> bytes:
    length = _RTATTR.size + len(payload)
    return _RTATTR.pack(length, kind) + payload + bytes(-length % 4)


def _text(kind: int, text: str) -> bytes:
    return _attribute(kind, text.encode() + b"\0")


def _number(kind: int, number: int) -> bytes:
    return _attribute(kind, struct.pack("=I", number))


class Lever:
    """One rtnetlink socket inside a namespace (rtnetlink(7)).

    Each method changes the link with that index and returns time.monotonic_ns() as it was right before the
    kernel was called; the change is complete when it returns. OSError if the kernel refuses.
    """

    def __init__(self, namespace: Namespace) -> None:
        self._socket = namespace.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._socket.settimeout(_TIMEOUT_S)

    def set_up(self, index: int, up: bool) -> int:
        """Set a link administratively up or down."""
        return self._send(_RTM_SETLINK, index, flags=_IFF_UP if up else 0, change=_IFF_UP)

    def set_group_up(self, group: int, up: bool) -> int:
        """Set all links of a group up or down by one message (ip-link(8), group)."""
        return self._send(
            _RTM_NEWLINK, 0, _number(_IFLA_GROUP, group), flags=_IFF_UP if up else 0, change=_IFF_UP, create=False
        )

    def delete(self, index: int) -> int:
        """Delete a link, as an unplug does."""
        return self._send(_RTM_DELLINK, index)

    def rename(self, index: int, name: str) -> int:
        """Rename a link."""
        return self._send(_RTM_SETLINK, index, _text(_IFLA_IFNAME, name))

    def set_mtu(self, index: int, mtu: int) -> int:
        """Set a link's MTU in bytes."""
        return self._send(_RTM_SETLINK, index, _number(_IFLA_MTU, mtu))

    def join(self, index: int, bridge: int) -> int:
        """Make a link a port of a bridge and set it up."""
        return self._send(_RTM_SETLINK, index, _number(_IFLA_MASTER, bridge), flags=_IFF_UP, change=_IFF_UP)

    def set_port_state(self, index: int, state: int) -> int:
        """Set the state of a port of a bridge: BR_STATE_* of linux/if_bridge.h."""
        port = _attribute(_IFLA_PROTINFO, _attribute(_IFLA_BRPORT_STATE, bytes([state])))
        return self._send(_RTM_SETLINK, index, port, family=socket.AF_BRIDGE)

    def create_veth(self, name: str, mac: str | None, mtu: int, peer: tuple[Namespace, str]) -> int:
        """Create a veth pair (veth(4)): one end here, its ``peer`` end in another namespace; both are down.

        ``mac``: this end's, a random one if None. ``mtu``: both ends', in bytes. The ends never have the same
        index: by that the kernel knows a link with another one under it, whose carrier events are not held back
        for up to a second (linkwatch_urgent_event() of net/core/link_watch.c). Left to itself it gives both ends
        one index by chance, and then a bridge forwards half a second after its port's carrier is back.
        """
        peer_namespace, peer_name = peer
        address = _attribute(_IFLA_ADDRESS, bytes.fromhex(mac.replace(":", ""))) if mac else b""
        number = _number(_IFLA_MTU, mtu)
        index = next(_INDEXES)
        other_end = _IFINFOMSG.pack(socket.AF_UNSPEC, 0, index + 1, 0, 0) + number
        other_end += _text(_IFLA_IFNAME, peer_name) + _number(_IFLA_NET_NS_FD, peer_namespace.fd)
        veth = _attribute(_IFLA_INFO_DATA, _attribute(_VETH_INFO_PEER, other_end))
        info = _attribute(_IFLA_LINKINFO, _text(_IFLA_INFO_KIND, "veth") + veth)
        return self._send(_RTM_NEWLINK, index, _text(_IFLA_IFNAME, name) + number + address + info)

    def _send(
        self,
        kind: int,
        index: int,
        attributes: bytes = b"",
        flags: int = 0,
        change: int = 0,
        family: int = socket.AF_UNSPEC,
        create: bool = True,
    ) -> int:
        body = _IFINFOMSG.pack(family, 0, index, flags, change) + attributes
        how = _REQUEST_AND_ACK | (_CREATE_NEW if create and kind == _RTM_NEWLINK else 0)
        message = _NLMSGHDR.pack(_NLMSGHDR.size + len(body), kind, how, 1, 0) + body
        at = time.monotonic_ns()
        self._socket.send(message)
        reply = self._socket.recv(65536)
        (error,) = _NLMSGERR.unpack_from(reply, _NLMSGHDR.size)
        if error:
            raise OSError(-error, f"link {index}: {os.strerror(-error)}")
        return at

    def close(self) -> None:
        """Close the socket."""
        self._socket.close()
