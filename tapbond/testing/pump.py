"""A data path that carries nothing, and does as it is told."""

import asyncio
from dataclasses import dataclass, field

from tapbond.datapath import PumpEvent, PumpEventKind, PumpListener
from tapbond.errors import NoSuchInterfaceError, TapbondError
from tapbond.filters import EVERYTHING, Filters
from tapbond.model import COUNTER_FIELDS, Counters, Decision, Link, ReceiveMode
from tapbond.policy import decide
from tapbond.testing.clock import NS_PER_S, VirtualClock
from tapbond.testing.network import FakeNetwork

PORTS_MAX = 32


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
        self.rounds: list[int | None] = []
        """Who was the sender at each announcement by the pump: at each switch, and at each announce_again()."""
        self.sent: list[tuple[int, bytes]] = []
        """What was given to send(), oldest first."""
        self.announcements: list[bytes] = []
        self.mac = ""
        self.ports: dict[int, _Port] = {}
        self.direct: dict[int, bool] = {}
        """Whether each port sends past its qdisc."""
        self.filters: Filters = EVERYTHING
        """The last ones given to hear()."""
        self.tolerant = self.silent = False
        """The last ones given to tune()."""
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

    def hear(self, filters: Filters) -> None:
        """Remember them."""
        self.filters = filters

    def apply(self, decision: Decision, seen_serial: int) -> int:
        """Put a decision in force; return its generation."""
        self._check_open()
        self.applied.append((decision, seen_serial))
        self._generation += 1
        self._publish()
        return self._generation

    def tune(self, drain_ns: int, *, tolerant: bool, silent: bool) -> None:
        """Take note."""
        self._check_open()
        self._drain_ns = drain_ns
        self.tolerant, self.silent = tolerant, silent

    def set_announcements(self, mac: str, frames: list[bytes]) -> None:
        """Remember them."""
        self._check_open()
        self.mac, self.announcements = mac, list(frames)

    def announce(self, port: int) -> None:
        """Write it down in ``announced``."""
        self.announced.append(port)

    def announce_again(self) -> None:
        """Write it down in ``rounds``."""
        self._check_open()
        self.rounds.append(self._sender)

    def send(self, port: int, frame: bytes) -> None:
        """Write it down in ``sent``."""
        self.sent.append((port, frame))

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
        if self._sender is not None:
            self.rounds.append(self._sender)
        self._await = {PumpEventKind.FIRST_TX, PumpEventKind.FIRST_RX} if self._sender is not None else set()
        self.tell(PumpEventKind.SWITCHED, self._sender, error)
        if self.decision.drain and former is not None:
            delay_s = self._drain_ns / NS_PER_S
            asyncio.get_running_loop().call_later(delay_s, self.tell, PumpEventKind.DRAINED)

    def _check_open(self) -> None:
        if self.closed:
            raise RuntimeError("the pump is closed")
