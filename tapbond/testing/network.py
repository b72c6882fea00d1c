"""Links that exist only here, and the rtnetlink that changes them."""

import errno
from typing import Any, Self

import msgspec

from tapbond.errors import LinkRequestError, NoSuchInterfaceError
from tapbond.linkmessage import Interface
from tapbond.links import Links
from tapbond.model import Link
from tapbond.netns import Netns
from tapbond.rtnetlink import Rtnetlink
from tapbond.testing.clock import VirtualClock

FIRST_IFINDEX = 1_000_000
"""No machine has so many links: what asks a real kernel for one of these hears ENODEV."""


class FakeNetwork:
    """The links of a network namespace, in memory.

    Args:
        clock: CLOCK_MONOTONIC in ns.
        netns: its number.
    """

    def __init__(self, clock: VirtualClock, netns: int = 0) -> None:
        self.netns = netns
        self.devices: dict[int, Link] = {}
        """The truth, by ifindex: what ETHTOOL_GLINK would say."""
        self.device_addresses: dict[int, set[Interface]] = {}
        self.silent = False
        """While set, changes are not told (linkwatch holds them back); tell() tells them."""
        self.rtnetlink = FakeRtnetlink(self)
        self.links = FakeLinks(self, clock)
        self._next_ifindex = FIRST_IFINDEX

    def add(self, name: str, mac: str, **properties: Any) -> Link:
        """Plug a link in: up and with a carrier, unless ``properties`` (of Link) say otherwise."""
        defaults: dict[str, Any] = {
            "ifindex": self._next_ifindex,
            "up": True,
            "carrier": True,
            "netns": self.netns,
        }
        self._next_ifindex += 1
        link = Link(name=name, mac=mac, **(defaults | properties))
        self.devices[link.ifindex] = link
        self._tell_unless_silent()
        return link

    def change(self, name: str, /, **properties: Any) -> Link:
        """Change properties of a link, its name included; return it."""
        link = msgspec.structs.replace(self.device(name), **properties)
        self.devices[link.ifindex] = link
        self._tell_unless_silent()
        return link

    def delete(self, name: str) -> None:
        """Unplug a link."""
        link = self.device(name)
        del self.devices[link.ifindex]
        self.device_addresses.pop(link.ifindex, None)
        self._tell_unless_silent()

    def move(self, name: str, other: "FakeNetwork") -> Link:
        """Move a link to another network: down, without addresses, with another ifindex if its own is taken."""
        link = self.device(name)
        self.delete(name)
        ifindex = other._next_ifindex if link.ifindex in other.devices else link.ifindex  # noqa: SLF001
        moved = msgspec.structs.replace(link, ifindex=ifindex, netns=other.netns, up=False)
        other.devices[ifindex] = moved
        other._tell_unless_silent()  # noqa: SLF001
        return moved

    def set_addresses(self, name: str, addresses: set[Interface]) -> None:
        """Give a link these addresses and no others."""
        self.device_addresses[self.device(name).ifindex] = addresses
        self._tell_unless_silent()

    def device(self, name: str) -> Link:
        """Return the link of this name.

        Raises:
            NoSuchInterfaceError: there is none.
        """
        for link in self.devices.values():
            if link.name == name:
                return link
        raise NoSuchInterfaceError(name)

    def tell(self) -> None:
        """Tell everything that has not been told yet, as rtnetlink would."""
        self.silent = False
        self.links.take_in()

    def _tell_unless_silent(self) -> None:
        if not self.silent:
            self.links.take_in()


class FakeLinks(Links):
    """The Links of a FakeNetwork: its listeners are called at once when something changes.

    Args:
        network: whose links.
        clock: CLOCK_MONOTONIC in ns.
    """

    def __init__(self, network: FakeNetwork, clock: VirtualClock) -> None:
        super().__init__(network.rtnetlink, clock)
        self.pending_read = 0
        """How often read_pending() was called."""
        self._network = network

    async def open(self) -> None:
        """Read everything."""
        self.take_in()

    async def refresh(self) -> None:
        """Read everything again, withheld news included: a dump asks the devices."""
        self.take_in()

    async def close(self) -> None:
        """Do nothing."""

    def read_pending(self) -> None:
        """Take in what is not withheld."""
        self.pending_read += 1
        if not self._network.silent:
            self.take_in()

    def take_in(self) -> None:
        """Tell the listeners how the network differs from what they know."""
        now_ns = self._clock()
        for ifindex in self.by_index.keys() - self._network.devices.keys():
            self._drop(self.by_index[ifindex], now_ns)
        for link in tuple(self._network.devices.values()):
            self._store(link, now_ns)
            known = self._addresses.setdefault(link.ifindex, set())
            addresses = self._network.device_addresses.get(link.ifindex, set())
            if known != addresses:
                self._addresses[link.ifindex] = set(addresses)
                self._tell_addresses(link.ifindex)


class FakeRtnetlink(Rtnetlink):
    """Changes the links of a FakeNetwork and writes down what it was asked for.

    Args:
        network: whose links.
    """

    def __init__(self, network: FakeNetwork) -> None:
        self.requests: list[tuple[Any, ...]] = []
        """``("set_mtu", "eth0", 1400)`` and so on, oldest first; those that failed included."""
        self.failures: dict[str, list[BaseException]] = {}
        """What a method of this name raises instead of changing anything: one a call, oldest first."""
        self.netns = network.netns
        self.neighbours: dict[int, FakeNetwork] = {}
        """Other networks by the number of their namespace."""
        self._network = network

    async def open(self) -> Self:
        """Do nothing."""
        return self

    async def close(self) -> None:
        """Do nothing."""

    async def run(self, call: Any) -> Any:
        """Run it: one thread is as good as another."""
        return call()

    async def request(self, what: str, call: Any) -> Any:
        """Refuse: there is no kernel here to send ``call`` to."""
        raise NotImplementedError(what, call)

    async def links(self) -> list[Link]:
        """Return all links."""
        return list(self._network.devices.values())

    async def addresses(self) -> dict[int, set[Interface]]:
        """Return the addresses of all links by ifindex."""
        return {ifindex: set(found) for ifindex, found in self._network.device_addresses.items()}

    async def set_mtu(self, link: Link, mtu: int) -> None:
        """Set the MTU in bytes."""
        self._alter("set_mtu", link, mtu, mtu=mtu)

    async def set_queue_len(self, link: Link, frames: int) -> None:
        """Write it down; a Link does not tell it."""
        self._alter("set_queue_len", link, frames)

    async def set_mac(self, link: Link, mac: str) -> None:
        """Set the MAC address."""
        self._alter("set_mac", link, mac, mac=mac)

    async def move(self, link: Link, netns: Netns, name: str | None = None) -> None:
        """Move the link to the FakeNetwork that ``neighbours`` has for this namespace."""
        self._ask("move", link, name)
        self._network.move(self._now(link).name, self.neighbours[netns.inode])

    async def set_up(self, link: Link, up: bool) -> None:
        """Set the link administratively up or down."""
        self._alter("set_up", link, up, up=up)

    async def set_master(self, link: Link, master: int) -> None:
        """Make the link a port of ``master``."""
        self._alter("set_master", link, master, master=master)

    async def set_addr_gen_mode(self, link: Link, mode: int) -> None:
        """Set IN6_ADDR_GEN_MODE_*."""
        self._alter("set_addr_gen_mode", link, mode, addr_gen_mode=mode)

    async def add_address(self, link: Link, address: Interface) -> None:
        """Give the link an address."""
        self._ask("add_address", link, str(address))
        found = self._network.device_addresses.get(link.ifindex, set())
        self._network.set_addresses(self._now(link).name, found | {address})

    async def remove_address(self, link: Link, address: Interface) -> None:
        """Take an address off the link."""
        self._ask("remove_address", link, str(address))
        found = self._network.device_addresses.get(link.ifindex, set())
        self._network.set_addresses(self._now(link).name, found - {address})

    async def set_alias(self, link: Link, alias: str) -> None:
        """Set the alias."""
        self._alter("set_alias", link, alias, alias=alias)

    async def add_altname(self, link: Link, name: str) -> None:
        """Give the link another name, unless a link has it."""
        taken = any(name == device.name or name in device.altnames for device in self._network.devices.values())
        self._ask("add_altname", link, name)
        if taken:
            raise LinkRequestError(f"{link.name}: cannot add the name {name}", errno.EEXIST, "File exists")
        now = self._now(link)
        self._network.change(now.name, altnames=now.altnames | {name})

    async def remove_altname(self, link: Link, name: str) -> None:
        """Take one of its other names off the link."""
        self._ask("remove_altname", link, name)
        now = self._now(link)
        if name not in now.altnames:
            raise LinkRequestError(f"{link.name}: cannot remove the name {name}", errno.ENOENT, "No such file")
        self._network.change(now.name, altnames=now.altnames - {name})

    async def add_bridge(self, name: str) -> Link:
        """Make a bridge that is down; return it."""
        self.requests.append(("add_bridge", name))
        self._fail("add_bridge")
        return self._network.add(name, "02:00:00:00:00:ff", kind="bridge", up=False, carrier=False)

    async def find(self, name: str) -> Link | None:
        """Return the link of this name, None where there is none."""
        return next((link for link in self._network.devices.values() if link.name == name), None)

    async def delete(self, link: Link) -> None:
        """Delete a link."""
        self._ask("delete", link)
        self._network.delete(self._now(link).name)

    def _alter(self, method: str, link: Link, value: object, **properties: Any) -> None:
        self._ask(method, link, value)
        self._network.change(self._now(link).name, **properties)

    def _ask(self, method: str, link: Link, *arguments: object) -> None:
        """Write a request down and find out whether it works: links are known by their ifindex."""
        self.requests.append((method, link.name, *arguments))
        self._fail(method)
        self._now(link)

    def _fail(self, method: str) -> None:
        if failures := self.failures.get(method):
            raise failures.pop(0)

    def _now(self, link: Link) -> Link:
        if link.ifindex not in self._network.devices:
            raise NoSuchInterfaceError(link.name)
        return self._network.devices[link.ifindex]
