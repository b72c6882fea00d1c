"""Requests to rtnetlink(7): what tapbond changes on links, through pyroute2 in a thread of its own.

pyroute2's asynchronous sockets do not run on uvloop, and its synchronous ones drive an event loop themselves:
one worker thread keeps both apart, and keeps the requests of one failover in order.
"""

import asyncio
import errno
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Self, TypeVar

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from tapbond.errors import LinkRequestError, NoSuchInterfaceError, RightsError
from tapbond.linkmessage import (
    ALL_ADDRESSES,
    ALL_LINKS,
    RTM_GETLINK,
    Interface,
    address_of,
    known_link,
    link_request,
)
from tapbond.model import Link
from tapbond.netns import Netns, own_inode
from tapbond.rtmessage import RTM_GETADDR
from tapbond.rtsocket import ask, dump, open_socket

T = TypeVar("T")

ADDR_GEN_MODE_NONE = 1


class Rtnetlink:
    """Change links of one network namespace.

    Args:
        netns: which; it stays the caller's, and open. None: that of the thread that calls open().

    Every method raises LinkRequestError when the kernel refuses, NoSuchInterfaceError when the link has gone
    and RightsError without CAP_NET_ADMIN.
    """

    def __init__(self, netns: Netns | None = None) -> None:
        self.netns = 0
        """The number of the namespace, once open: Link.netns of its links."""
        self._where = netns
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="tapbond-rtnetlink")
        self._ipr: IPRoute | None = None

    async def open(self) -> Self:
        """Open the socket.

        Raises:
            RightsError, NamespaceError: the namespace cannot be entered.
        """
        await self.run(self._open)
        return self

    def _open(self) -> None:
        if self._where is not None:
            self._where.enter()
        self.netns = own_inode()
        self._ipr = IPRoute()

    async def close(self) -> None:
        """Close the socket and end the thread; again is harmless."""
        if self._ipr is not None:
            ipr, self._ipr = self._ipr, None
            await self.run(ipr.close)
        self._thread.shutdown(wait=True)

    async def run(self, call: Callable[[], T]) -> T:
        """Run ``call`` in the thread, which is in the namespace.

        Who is cancelled meanwhile learns it when the kernel has answered: what comes next, the undoing, then
        finds the request done and not under way.
        """
        answer = asyncio.get_running_loop().run_in_executor(self._thread, call)
        try:
            return await asyncio.shield(answer)
        except asyncio.CancelledError:
            await asyncio.wait((answer,))
            raise

    async def request(self, what: str, call: Callable[[IPRoute], T]) -> T:
        """Run a request; ``what`` says in an error what was tried on which link."""
        try:
            return await self.run(lambda: call(self._ipr))
        except NetlinkError as error:
            if error.code == errno.ENODEV:
                raise NoSuchInterfaceError(what.split(":", 1)[0]) from error
            if error.code in (errno.EPERM, errno.EACCES):
                raise RightsError(
                    f"{what}: not permitted (needs CAP_NET_ADMIN: be root, or root of a user namespace:"
                    " unshare -Urn)"
                ) from error
            raise LinkRequestError(
                what, error.code, str(error.args[1] if len(error.args) > 1 else error)
            ) from error

    async def links(self) -> list[Link]:
        """Return all links."""
        return await self.request("links", lambda _ipr: _links(self.netns))

    async def addresses(self) -> dict[int, set[Interface]]:
        """Return the addresses of all links by ifindex."""
        return await self.request("addresses", lambda _ipr: _addresses())

    async def _set(self, link: Link, what: str, **attributes: Any) -> None:
        await self.request(f"{link.name}: {what}", lambda ipr: ipr.link("set", index=link.ifindex, **attributes))

    async def set_mtu(self, link: Link, mtu: int) -> None:
        """Set the MTU in bytes."""
        await self._set(link, f"cannot set MTU {mtu}", mtu=mtu)

    async def set_queue_len(self, link: Link, frames: int) -> None:
        """Set txqueuelen: of a TAP, how many frames may wait for its reader (tun_queue_resize() in tun.c)."""
        await self._set(link, f"cannot set txqueuelen {frames}", txqlen=frames)

    async def set_mac(self, link: Link, mac: str) -> None:
        """Set the MAC address."""
        await self._set(link, f"cannot set MAC {mac}", address=mac)

    async def move(self, link: Link, netns: Netns, name: str | None = None) -> None:
        """Move the link into another namespace, down and without its addresses (dev_change_net_namespace()).

        ``name``: of the link there, ``%d`` in it being the first number that is free; None: its own. An ifindex
        that is taken there is replaced by another.
        """
        attributes = {"IFLA_NET_NS_FD": netns.fileno()} | ({"IFLA_IFNAME": name} if name else {})
        await self._set(link, f"cannot move it to {netns.name}", **attributes)

    async def set_up(self, link: Link, up: bool) -> None:
        """Set the link administratively up or down."""
        await self._set(link, f"cannot set {'up' if up else 'down'}", state="up" if up else "down")

    async def set_master(self, link: Link, master: int) -> None:
        """Make the link a port of ``master`` (an ifindex), or of nobody (0)."""
        await self._set(link, "cannot set master", master=master)

    async def set_addr_gen_mode(self, link: Link, mode: int) -> None:
        """Set IN6_ADDR_GEN_MODE_*: through netlink, because /proc/sys is read-only in containers."""
        spec = {"attrs": [("AF_INET6", {"attrs": [("IFLA_INET6_ADDR_GEN_MODE", mode)]})]}
        await self._set(link, f"cannot set addrgenmode {mode}", IFLA_AF_SPEC=spec)

    async def add_address(self, link: Link, address: Interface) -> None:
        """Give the link an address."""
        await self.request(
            f"{link.name}: cannot add {address}",
            lambda ipr: ipr.addr(
                "replace",
                index=link.ifindex,
                address=str(address.ip),
                prefixlen=address.network.prefixlen,
            ),
        )

    async def remove_address(self, link: Link, address: Interface) -> None:
        """Take an address off the link."""
        await self.request(
            f"{link.name}: cannot remove {address}",
            lambda ipr: ipr.addr(
                "del", index=link.ifindex, address=str(address.ip), prefixlen=address.network.prefixlen
            ),
        )

    async def set_alias(self, link: Link, alias: str) -> None:
        """Set IFLA_IFALIAS; empty: none."""
        await self._set(link, "cannot set its alias", IFLA_IFALIAS=alias)

    async def add_altname(self, link: Link, name: str) -> None:
        """Give the link another name (since Linux 5.5); EEXIST: a link has it."""
        await self.request(
            f"{link.name}: cannot add the name {name}",
            lambda ipr: ipr.link("property_add", index=link.ifindex, altname=name),
        )

    async def remove_altname(self, link: Link, name: str) -> None:
        """Take one of its other names off the link; ENOENT: no link has it."""
        await self.request(
            f"{link.name}: cannot remove the name {name}",
            lambda ipr: ipr.link("property_del", index=link.ifindex, altname=name),
        )

    async def add_bridge(self, name: str) -> Link:
        """Make a bridge, which is down; return it."""
        await self.request(f"{name}: cannot add bridge", lambda ipr: ipr.link("add", ifname=name, kind="bridge"))
        if (bridge := await self.find(name)) is None:
            raise NoSuchInterfaceError(name)
        return bridge

    async def find(self, name: str) -> Link | None:
        """Return the link of this name as it is now, None: there is none."""
        return await self.request(name, lambda _ipr: _find(name, self.netns))

    async def delete(self, link: Link) -> None:
        """Delete a link."""
        await self.request(f"{link.name}: cannot delete", lambda ipr: ipr.link("del", index=link.ifindex))


def _links(netns: int) -> list[Link]:
    with open_socket() as rtnetlink:
        return [known_link(payload, netns) for payload in dump(rtnetlink, "links", RTM_GETLINK, ALL_LINKS)]


def _addresses() -> dict[int, set[Interface]]:
    found: dict[int, set[Interface]] = {}
    with open_socket() as rtnetlink:
        for payload in dump(rtnetlink, "addresses", RTM_GETADDR, ALL_ADDRESSES):
            ifindex, address = address_of(payload)
            found.setdefault(ifindex, set()).add(address)
    return found


def _find(name: str, netns: int) -> Link | None:
    with open_socket() as rtnetlink:
        payload = ask(rtnetlink, name, RTM_GETLINK, link_request(name))
    link = None if payload is None else known_link(payload, netns)
    return link if link is not None and link.name == name else None  # it may be a further name (IFLA_ALT_IFNAME)
