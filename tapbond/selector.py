"""Apply the policy: from what is known of the slaves to what the pump does, and the record of it."""

import asyncio
from collections.abc import Callable

import structlog

from tapbond.datapath import DataPath, PumpEvent, PumpEventKind
from tapbond.errors import NoSuchSlaveError, errno_name
from tapbond.links import Links
from tapbond.model import CarrierChanged, Decision, Detector, Event, Link, ReceiveMode, Reselect
from tapbond.policy import decide
from tapbond.slave import LINK_LOST, PROBES_LOST, UNPLUGGED, Slave
from tapbond.switchover import SwitchoverLog

log = structlog.get_logger()

NOQUEUE = "noqueue"
NS_PER_S = 1_000_000_000


class Selector:
    """Decides which slave of a failover is active, and has the data path do it.

    Args:
        name: the failover's.
        rx: whose frames are delivered.
        datapath: started, with this as its listener.
        links: to correct what the pump knows better.
        set_carrier: switches the failover's carrier.
        emit: takes the events.
        failed: is called when the TAP is gone for good.
        clock: CLOCK_MONOTONIC in ns.
        reselect: when a better slave takes over from one in use.
        switched: is called with the slave that sends now, each time that it is another.
        changed: is called each time that this, or who would follow it, has changed.
    """

    def __init__(
        self,
        name: str,
        rx: ReceiveMode,
        datapath: DataPath,
        links: Links,
        *,
        set_carrier: Callable[[bool], None],
        emit: Callable[[Event], None],
        failed: Callable[[str], None],
        clock: Callable[[], int],
        reselect: Reselect = Reselect.ALWAYS,
        switched: Callable[[Slave | None], None] = lambda _slave: None,
        changed: Callable[[], None] = lambda: None,
    ) -> None:
        self.slaves: list[Slave] = []
        self.carrier = False
        self.decision = decide(rx, (), 0)
        self.switchovers = SwitchoverLog(name, datapath.total, emit, vague=LINK_LOST)
        self._name = name
        self._rx = rx
        self._reselect = reselect
        self._switched = switched
        self._changed = changed
        self._datapath = datapath
        self._links = links
        self._set_carrier = set_carrier
        self._emit = emit
        self._failed = failed
        self._clock = clock
        self._started = False
        self._requested: Slave | None = None
        self._seen_serial = 0
        self._settled_serial = 0
        self._generation = 0
        self._timers: dict[str, asyncio.TimerHandle] = {}

    @property
    def active(self) -> Slave | None:
        """The slave that sends, by the last decision."""
        return self._at(self.decision.active)

    @property
    def requested(self) -> Slave | None:
        """The slave chosen by hand, while that holds."""
        return self._requested

    def start(self) -> None:
        """Begin to decide: once for all the slaves that were there from the beginning."""
        self._started = True
        for slave in self.slaves:
            slave.delays.settle()
        self.decide(Detector.CONTROL, self._clock())

    def add(self, slave: Slave, link: Link, when_ns: int) -> None:
        """Take a registered slave into the choice; ``link`` is how it is now."""
        self.slaves.append(slave)
        self.update(slave, link, Detector.CONTROL, when_ns)

    def update(self, slave: Slave, link: Link, detector: Detector, when_ns: int) -> None:
        """Take note of how a slave's link is now."""
        slave.update(link, when_ns, detector)
        self._datapath.send_direct(slave.port, link.qdisc == NOQUEUE)
        self.decide(detector, when_ns)

    def rank(self, slave: Slave, *, prio: int | None = None, sticky: bool | None = None) -> None:
        """Give a slave another rank, and decide by it; None: as it is."""
        if prio is not None:
            slave.prio = prio
        if sticky is not None:
            slave.sticky = sticky
        self.decide(Detector.CONTROL, self._clock(), "rank changed")

    def reselect(self, when: Reselect) -> None:
        """Let better slaves take over at other times, and decide by it."""
        self._reselect = when
        self.decide(Detector.CONTROL, self._clock(), "configuration changed")

    def remove(self, slave: Slave, detector: Detector, when_ns: int, cause: str) -> None:
        """Take a slave out of the choice; its port may be detached then."""
        self.slaves.remove(slave)
        if cause == UNPLUGGED:
            self.switchovers.explain(slave.name, LINK_LOST, cause)
        self.decide(detector, when_ns, cause)

    def retire(self) -> list[Slave]:
        """Let go of all slaves at once, and return them."""
        slaves = self.slaves[:]
        self.slaves.clear()
        self.decide(Detector.CONTROL, self._clock(), "failover destroyed")
        return slaves

    def request(self, slave: Slave | None) -> None:
        """Make a slave active by hand for as long as it is ready; None: choose by the rules again.

        Raises:
            NoSuchSlaveError: it is not ready.
        """
        now_ns = self._clock()
        reason = "" if slave is None else slave.why_not_ready(now_ns)
        if reason == PROBES_LOST and not any(other.linked and other.answered for other in self.slaves):
            reason = ""  # as the policy has it: where no path answers, that says nothing against this one
        if slave is not None and reason:
            raise NoSuchSlaveError(f"{slave.name}: not ready ({reason})")
        self._requested = slave
        self.decide(Detector.CONTROL, now_ns, "switched by hand")

    def decide(self, detector: Detector, when_ns: int, cause: str = "") -> None:
        """Decide anew and act on it; harmless when nothing has changed.

        Args:
            detector: who saw what made it necessary.
            when_ns: when it was seen (CLOCK_MONOTONIC).
            cause: in words, where the slaves' states do not tell.
        """
        if not self._started:
            return
        now_ns = self._clock()
        before, former = self.decision, self._at(self.decision.active) or self._former()
        requested = self._requested.port if self._requested in self.slaves else None
        decision = decide(
            self._rx,
            [slave.facts() for slave in self.slaves],
            now_ns,
            requested,
            active=before.active,
            reselect=self._reselect,
        )
        if decision.requested is None:
            self._requested = None
        self._wake("hold", decision.wake_ns, self._time_is_up)
        if _same(decision, before) and self._seen_serial == self._settled_serial:
            return
        self.decision = decision
        self._settled_serial = self._seen_serial
        self._generation = self._datapath.apply(decision, self._seen_serial)
        active = self._at(decision.active)
        self._follow_carrier()
        if active is not None:
            active.forced = False
        if self.switchovers.switched(
            active.name if active else None,
            cause or self._cause(former, active, now_ns),
            detector,
            when_ns,
            now_ns,
            drain=decision.drain,
        ):
            self._switched(active)
        self._settle_records()
        self._changed()

    def pump_event(self, event: PumpEvent) -> None:
        """Take in what the pump saw."""
        slave = self._at(event.port)
        if event.kind is PumpEventKind.PORT_FAULT:
            self._fault(slave, event)
        elif event.kind is PumpEventKind.SWITCHED:
            self._pump_switched(slave, event)
        elif event.kind is PumpEventKind.FIRST_TX and slave:
            self.switchovers.first_tx(slave.name, event.when_ns)
        elif event.kind is PumpEventKind.FIRST_RX and slave:
            self.switchovers.first_rx(slave.name, event.when_ns)
        elif event.kind is PumpEventKind.DRAINED:
            self.switchovers.drained()
        elif event.kind is PumpEventKind.TAP_FAULT:
            self._failed(errno_name(event.error))
        self._settle_records()

    def close(self) -> None:
        """Stop deciding, complete the open record."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self.switchovers.close()

    def _time_is_up(self) -> None:
        """A hold or a delay has ended: what leads to a switch now was seen when the link came up."""
        ready = [slave.came_up for slave in self.slaves if slave.came_up]
        detector, when_ns = max(ready, key=lambda seen: seen[1], default=(Detector.CONTROL, self._clock()))
        self.decide(detector, when_ns)

    def _fault(self, slave: Slave | None, event: PumpEvent) -> None:
        """The pump has stopped using a slave: find out whether that is so, and settle it."""
        self._seen_serial = event.serial
        if slave is None:
            self.decide(Detector.PUMP, event.when_ns)
            return
        log.debug("pump: slave failed", slave=slave.name, error=errno_name(event.error))
        self._links.read_pending()  # may lead to the switchover that the pump saw the reason of before
        self.switchovers.seen_earlier(slave.name, Detector.PUMP, event.when_ns)
        ready = self._datapath.ready(slave.link.ifindex)
        if ready is None:
            slave.vanish()
        elif not ready:
            self._links.correct(slave.link, ready, event.when_ns, Detector.PUMP)
        else:
            slave.failed(event.when_ns, self._clock())
        self.decide(Detector.PUMP, event.when_ns)

    def _pump_switched(self, slave: Slave | None, event: PumpEvent) -> None:
        """Record a switch that the pump made on its own; the one that was asked for is recorded already."""
        if event.error == 0 and event.generation < self._generation:
            return
        cause = f"send failed: {errno_name(event.error)}" if event.error else "send works again"
        if self.switchovers.switched(
            slave.name if slave else None,
            cause,
            Detector.PUMP,
            event.when_ns,
            event.when_ns,
            drain=self.decision.drain,
        ):
            self._switched(slave)

    def _follow_carrier(self) -> None:
        carrier = self.decision.active is not None
        if carrier != self.carrier:
            self.carrier = carrier
            self._set_carrier(carrier)
            self._emit(CarrierChanged(failover=self._name, carrier=carrier))

    def _settle_records(self) -> None:
        """Close the open record when it is complete, or when its time is over."""
        self._wake("record", self.switchovers.settle(self._clock()), self._settle_records)

    def _wake(self, name: str, at_ns: int | None, call: Callable[[], None]) -> None:
        if (timer := self._timers.pop(name, None)) is not None:
            timer.cancel()
        if at_ns is not None:
            delay_s = max(0, at_ns - self._clock()) / NS_PER_S
            self._timers[name] = asyncio.get_running_loop().call_later(delay_s, call)

    def _at(self, port: int | None) -> Slave | None:
        return next((slave for slave in self.slaves if slave.port == port), None)

    def _former(self) -> Slave | None:
        return next((slave for slave in self.slaves if slave.name == self.switchovers.active), None)

    def _cause(self, former: Slave | None, active: Slave | None, now_ns: int) -> str:
        if former is not None and (reason := former.why_not_ready(now_ns)):
            return reason
        if active is None:
            return "no slave ready"
        if self.switchovers.active is None:
            return "first slave ready"
        return f"{active.role} ready" if former is not None else "removed"


def _same(one: Decision, other: Decision) -> bool:
    """Return whether two decisions ask for the same; when to decide again does not count."""
    return (one.order, one.receive, one.requested) == (other.order, other.receive, other.requested)
