"""Stand-ins for the kernel and the pump, for tests of whatever is built on tapbond.

They obey the same interfaces as the real things, never sleep, and time is a value that the test moves::

    clock = VirtualClock()
    network = FakeNetwork(clock)
    pump = FakePump(clock, network)
    run(main(), clock)  # a loop on which an hour of timers passes in no time
"""

import asyncio
import math
import selectors
from collections.abc import Coroutine
from dataclasses import dataclass, field
from typing import Any, Self, TypeVar

import msgspec

from tapbond.datapath import PumpEvent, PumpEventKind, PumpListener
from tapbond.errors import NoSuchInterfaceError, TapbondError
from tapbond.links import Links
from tapbond.model import COUNTER_FIELDS, Counters, Decision, Link, ReceiveMode
from tapbond.policy import decide
from tapbond.rtnetlink import Interface, Rtnetlink

T = TypeVar("T")

NS_PER_S = 1_000_000_000
START_NS = 1_000 * NS_PER_S
"""Where a virtual clock begins: a machine is never up for 0 ns."""
PORTS_MAX = 16
FIRST_IFINDEX = 1_000_000
"""No machine has so many links: what asks a real kernel for one of these hears ENODEV."""


class VirtualClock:
    """CLOCK_MONOTONIC in ns that moves only when it is told to.

    Args:
        now_ns: where it begins.
    """

    def __init__(self, now_ns: int = START_NS) -> None:
        self.now_ns = now_ns

    def __call__(self) -> int:
        """Return the time in ns."""
        return self.now_ns

    def advance(self, ns: int) -> int:
        """Let time pass; return the new time.

        Raises:
            ValueError: it would run backwards.
        """
        if ns < 0:
            raise ValueError("a monotonic clock does not run backwards")
        self.now_ns += ns
        return self.now_ns


class _JumpingSelector(selectors.EpollSelector):
    """Instead of sleeping until the next timer, moves the clock there."""

    def __init__(self, clock: VirtualClock) -> None:
        super().__init__()
        self._clock = clock

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if timeout is None or timeout <= 0:
            return super().select(timeout)
        ready = super().select(0)
        if not ready:
            self._clock.advance(math.ceil(timeout * NS_PER_S))
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on a virtual clock: when nothing is left to do, it is the time of the next timer at once.

    Args:
        clock: its time.
    """

    def __init__(self, clock: VirtualClock) -> None:
        self._virtual_clock = clock
        super().__init__(_JumpingSelector(clock))

    def time(self) -> float:
        """Return the clock's time in seconds."""
        return self._virtual_clock() / NS_PER_S


def run(main: Coroutine[Any, Any, T], clock: VirtualClock) -> T:
    """Run a coroutine on a VirtualLoop, and return its result."""
    with asyncio.Runner(loop_factory=lambda: VirtualLoop(clock)) as runner:
        return runner.run(main)


class FakeNetwork:
    """The links of a network namespace, in memory.

    Args:
        clock: CLOCK_MONOTONIC in ns.
    """

    def __init__(self, clock: VirtualClock) -> None:
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
        defaults: dict[str, Any] = {"ifindex": self._next_ifindex, "up": True, "carrier": True}
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
        self._network = network

    async def open(self) -> Self:
        """Do nothing."""
        return self

    async def close(self) -> None:
        """Do nothing."""

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


@dataclass
class _Port:
    """A place in the FakePump."""

    link: Link
    fault_serial: int = 0
    suspended: bool = False
    counters: dict[str, int] = field(default_factory=lambda: dict.fromkeys(COUNTER_FIELDS, 0))

    def count(self) -> Counters:
        return Counters(**self.counters)


class FakePump:
    """A data path that carries nothing: it follows the decisions and tells events as the C pump does.

    The test says what happens to the frames: fault(), carry(), tap_fault(), count().

    Args:
        clock: CLOCK_MONOTONIC in ns.
        network: whose links it is attached to.
        drain_ns: how long after a switch TB_DRAINED is told.
    """

    def __init__(self, clock: VirtualClock, network: FakeNetwork, drain_ns: int = 50_000_000) -> None:
        self.decision: Decision = decide(ReceiveMode.ACTIVE, (), 0)
        """The one in force."""
        self.applied: list[tuple[Decision, int]] = []
        """All decisions with the serial up to which they settled faults, oldest first."""
        self.announced: list[int] = []
        """The ports given to announce(), oldest first."""
        self.announcements: list[bytes] = []
        self.mac = ""
        self.ports: dict[int, _Port] = {}
        self.direct: dict[int, bool] = {}
        """Whether each port sends past its qdisc."""
        self.closed = False
        self.stalled = False
        """While set, no decision comes into force and detach() waits; adopt() ends it."""
        self._clock = clock
        self._network = network
        self._drain_ns = drain_ns
        self._listener: PumpListener | None = None
        self._sender: int | None = None
        self._generation = 0
        self._adopted = 0
        self._seen_serial = 0
        self._serial = 0
        self._await: set[PumpEventKind] = set()
        self._folded = Counters()
        self._undelivered: list[PumpEvent] = []
        self._adoption = asyncio.Event()

    # What a DataPath does.

    def start(self, listener: PumpListener) -> None:
        """Tell ``listener`` what happens from now on."""
        self._listener = listener

    def attach(self, link: Link) -> int:
        """Take the lowest free port.

        Raises:
            NoSuchInterfaceError: the link has gone.
            TapbondError: all ports are taken.
        """
        if link.ifindex not in self._network.devices:
            raise NoSuchInterfaceError(link.name)
        free = set(range(PORTS_MAX)) - self.ports.keys()
        if not free:
            raise TapbondError(f"no more than {PORTS_MAX} slaves")
        port = min(free)
        self.ports[port] = _Port(link)
        return port

    async def detach(self, port: int) -> None:
        """Free a port."""
        self._folded += self.ports.pop(port).count()
        self._generation += 1
        self._publish()
        while self._adopted < self._generation:
            self._adoption.clear()
            await self._adoption.wait()

    def send_direct(self, port: int, direct: bool) -> None:
        """Remember which way the port sends."""
        self.direct[port] = direct

    def apply(self, decision: Decision, seen_serial: int) -> int:
        """Put a decision in force; return its generation."""
        self._check_open()
        self.applied.append((decision, seen_serial))
        self._generation += 1
        self._publish()
        return self._generation

    def set_announcements(self, mac: str, frames: list[bytes]) -> None:
        """Remember them."""
        self._check_open()
        self.mac, self.announcements = mac, list(frames)

    def announce(self, port: int) -> None:
        """Write it down in ``announced``."""
        self.announced.append(port)

    def ready(self, ifindex: int) -> bool | None:
        """Return what the device in the network is like, whatever has been told of it."""
        device = self._network.devices.get(ifindex)
        return None if device is None else device.up and device.carrier

    def sender(self) -> int | None:
        """Return the port that sends now."""
        return self._sender

    def counters(self, port: int) -> Counters:
        """Return what was counted on a port since it was attached."""
        return self.ports[port].count()

    def total(self) -> Counters:
        """Return what was counted on all ports that ever were."""
        return sum((port.count() for port in self.ports.values()), self._folded)

    async def close(self) -> None:
        """Tell no more; again is harmless."""
        self._folded, self.ports = self.total(), {}
        self._undelivered.clear()
        self.closed = True

    # What a test makes happen.

    def adopt(self) -> None:
        """End a stall: the newest decision comes into force."""
        self.stalled = False
        self._publish()

    def fault(self, port: int, error: int) -> None:
        """Let sending on a port fail, as pump_fault() in csrc/adopt.c tells it."""
        if self.ports[port].suspended:
            return
        self.ports[port].suspended = True
        self.ports[port].fault_serial = self.tell(PumpEventKind.PORT_FAULT, port, error)
        if port == self._sender:
            self._switch(error)

    def carry(self) -> None:
        """Let one frame pass in each direction on the sender; without one, the host's is dropped."""
        if self._sender is None:
            self._folded += Counters(tx_dropped=1)
            return
        self.count(self._sender, tx_frames=1, rx_frames=1)
        for kind in (PumpEventKind.FIRST_TX, PumpEventKind.FIRST_RX):
            if kind in self._await:
                self._await.discard(kind)
                self.tell(kind, self._sender)

    def count(self, port: int, **counters: int) -> None:
        """Add to the counters of a port."""
        for name, value in counters.items():
            self.ports[port].counters[name] += value

    def tap_fault(self, error: int) -> None:
        """Let the TAP fail for good."""
        self.tell(PumpEventKind.TAP_FAULT, None, error)

    def tell(self, kind: PumpEventKind, port: int | None = None, error: int = 0) -> int:
        """Tell an event on the next round of the loop; return its serial."""
        self._serial += 1
        event = PumpEvent(
            kind=kind,
            port=port,
            error=error,
            generation=self._adopted,
            serial=self._serial,
            when_ns=self._clock(),
        )
        if not self._undelivered:
            asyncio.get_running_loop().call_soon(self.deliver)
        self._undelivered.append(event)
        return event.serial

    def deliver(self) -> None:
        """Hand the events that wait to the listener now."""
        while self._undelivered:
            event = self._undelivered.pop(0)
            if self._listener is not None:
                self._listener.pump_event(event)

    # pump_adopt(), pump_switch() and tb_select_sender() in csrc/.

    def _publish(self) -> None:
        if self.stalled:
            return
        self._adopted = self._generation
        if self.applied:
            self.decision, self._seen_serial = self.applied[-1]
        for place in self.ports.values():
            if place.fault_serial <= self._seen_serial:
                place.suspended = False
        if self._select() != self._sender:
            self._switch(0)
        self.tell(PumpEventKind.ADOPTED)
        self._adoption.set()

    def _select(self) -> int | None:
        usable = (port for port in self.decision.order if port in self.ports and not self.ports[port].suspended)
        return next(usable, None)

    def _switch(self, error: int) -> None:
        former, self._sender = self._sender, self._select()
        self._await = {PumpEventKind.FIRST_TX, PumpEventKind.FIRST_RX} if self._sender is not None else set()
        self.tell(PumpEventKind.SWITCHED, self._sender, error)
        if self.decision.drain and former is not None:
            delay_s = self._drain_ns / NS_PER_S
            asyncio.get_running_loop().call_later(delay_s, self.tell, PumpEventKind.DRAINED)

    def _check_open(self) -> None:
        if self.closed:
            raise RuntimeError("the pump is closed")
