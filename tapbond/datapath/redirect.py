"""The redirect path: the kernel carries the frames, the pump what the kernel's filters leave to it.

What the TAP sends while there is no filter waits for the pump, and is sent by it. What a slave receives is for the
filters alone: packet sockets see each frame before tc does, and would deliver it a second time. So every gate of
the pump stays shut while frames are redirected.
"""

import contextlib
from collections.abc import Callable

import structlog

from tapbond.datapath import DataPath, PumpEvent, PumpEventKind, PumpListener
from tapbond.datapath.firstframes import FirstFrames
from tapbond.datapath.fuse import Fuse
from tapbond.datapath.ledger import Ledger
from tapbond.datapath.overlay import Overlay
from tapbond.datapath.receiver import Receiver, receiver_of, silent
from tapbond.datapath.stations import Stations
from tapbond.datapath.wiring import Wiring
from tapbond.errors import TapbondError
from tapbond.filters import Filters
from tapbond.model import Counters, DataPathChanged, DataPathName, Decision, Link

log = structlog.get_logger()
GUESTS = "the TAP is the port of a bridge, whose guests are learned from what they send"
AWAY = "the TAP is in another network namespace than its slaves"


class RedirectPath(Overlay):
    """A DataPath on top of another one, which takes over where redirecting is not possible.

    Args:
        failover: its name.
        pump: the copy path; opened and closed with this.
        wiring: not open.
        drain_ns: how long a former receiver still delivers unicast.
        clock: CLOCK_MONOTONIC in ns.
        emit: takes the events.
        fuse: switches at once when the active slave ends.
        patient: a slave that cannot be redirected has all of them copied, instead of being refused.
        tolerant: see Pump: a slave that is down goes on being the sender.
    """

    def __init__(
        self,
        failover: str,
        pump: DataPath,
        wiring: Wiring,
        drain_ns: int,
        clock: Callable[[], int],
        emit: Callable[[DataPathChanged], None],
        fuse: Fuse,
        *,
        patient: bool,
        tolerant: bool = False,
    ) -> None:
        super().__init__(pump)
        self.reasons: dict[str, str] = {}
        """Why frames are copied now; none: they are redirected."""
        self._links: dict[int, Link] = {}
        """By port."""
        self._failover = failover
        self._wiring = wiring
        self._clock = clock
        self._emit = emit
        self._patient = patient
        self._tolerant = tolerant
        self._listener: PumpListener | None = None
        self._decision: Decision | None = None
        self._seen_serial = 0
        self._tap: Link | None = None
        self._engaged = self._closed = False
        self._occupied = False
        """Whether a qdisc of somebody else was in the way."""
        self._receiver = Receiver(wiring, self._links, drain_ns, self._drained, self._hinder)
        self._fuse = fuse
        self._ledger = Ledger(self._read)
        self._first_frames = FirstFrames(self._read_on, self._tell)
        self._stations = Stations(pump)

    @property
    def name(self) -> DataPathName:
        """Which path frames take now."""
        return DataPathName.REDIRECT if self._engaged else DataPathName.COPY

    @property
    def reason(self) -> str:
        """Why they are copied, empty while they are not."""
        return "; ".join(self.reasons.values())

    def open(self, tap: Link) -> None:
        """Redirect from now on what the TAP sends.

        Raises:
            TapbondError: that does not work here; nothing is changed then.
        """
        if tap.master:
            raise TapbondError(f"{self._failover}: {GUESTS}")
        self._wiring.open(tap.ifindex)
        self._tap, self._engaged = tap, True

    def tap_changed(self, tap: Link, *, at_home: bool) -> None:
        """Follow the TAP: it must be where its slaves are, and nobody's port."""
        self._hinder("place", "" if at_home else AWAY)
        self._hinder("port", GUESTS if at_home and tap.master else "")
        self._tap = tap
        self._try_again()

    def qdiscs_changed(self) -> None:
        """Put back what somebody has taken away from the TAP or a slave; copy where that does not work."""
        if not self._engaged:
            # Trying makes such news itself: so only once somebody has made room.
            if self.reasons.keys() == {"tc"} and self._occupied and not self._is_occupied():
                self.reasons.clear()
                self._try_again()
            return
        gone = [name for ifindex, name in self._wiring.missing() if self.ready(ifindex) is not None]
        if gone:
            self._hinder("taken", f"{', '.join(gone)}: somebody has removed its tc filters")
            del self.reasons["taken"]
            self._try_again()

    # What a DataPath does.

    def start(self, listener: PumpListener) -> None:
        """Begin to carry frames."""
        self._listener = listener
        self._pump.start(listener)

    def attach(self, link: Link) -> int:
        """Open a port on a link; see DataPath.

        Raises:
            TapbondError: it has a qdisc of somebody else where ours would be, unless ``patient``.
        """
        if self._engaged:
            try:
                self._wiring.add(link)
            except TapbondError as error:
                if not self._patient:
                    raise
                self._hinder(f"slave {link.ifindex}", str(error))
        try:
            port = self._pump.attach(link)
        except BaseException:
            if self._engaged:
                self._wiring.remove(link)
            raise
        self._links[port] = link
        self._ledger.open(port)
        return port

    async def detach(self, port: int) -> None:
        """Close a port once no frame of it is under way."""
        link = self._links[port]
        self._ledger.close(port)
        if self._engaged:
            self._fuse.disarm()
            self._receiver.leave(port)
            self._wiring.remove(link)
        del self._links[port]
        await self._pump.detach(port)
        if self.reasons.pop(f"slave {link.ifindex}", None):
            self._try_again()

    def hear(self, filters: Filters) -> None:
        """Have every slave let through what the failover wants to hear.

        Who else speaks through the TAP, a macvlan in a container, is not learned by the pump from what is
        redirected; but its MAC is among these, and announced as the pump would.
        """
        self._pump.hear(filters)
        self._stations.set(filters.unicast)

    def apply(self, decision: Decision, seen_serial: int) -> int:
        """Put a decision in force.

        Make before break: drain the old slave, receive on the new one, announce, send on it. From a slave that can
        carry nothing any more every frame is lost: then sending comes first.
        """
        former = self._decision.active if self._decision else None
        self._decision, self._seen_serial = decision, seen_serial
        if not self._engaged:
            return self._pump.apply(decision, seen_serial)
        active, lost = decision.active, self._is_lost(former, decision)
        try:
            self._fuse.disarm()
            if lost:
                self._send(active)
            self._receiver.turn_to(receiver_of(decision), drain=decision.drain and not lost)
            generation = self._pump.apply(silent(decision), seen_serial)
            if not lost:
                self._send(active)
            self._arm(decision)
        except TapbondError as error:
            self._hinder("tc", str(error))
            return self._pump.apply(decision, seen_serial)
        if active is not None and active != former:
            self._first_frames.expect(active, generation, self._ledger.last(active))
        return generation

    def tune(self, drain_ns: int, *, tolerant: bool, silent: bool) -> None:
        """Change what it was opened with."""
        self._receiver.drain_ns = drain_ns
        self._tolerant = tolerant
        self._fuse.disarm()
        if self._engaged and self._decision is not None:
            self._arm(self._decision)
        self._pump.tune(drain_ns, tolerant=tolerant, silent=silent)

    def set_announcements(self, mac: str, frames: list[bytes]) -> None:
        """Send these whenever the sending slave changes."""
        self._stations.set_own(mac, frames)

    def counters(self, port: int) -> Counters:
        """Return what this port has carried since it was attached, whoever carried it."""
        return self._pump.counters(port) + self._ledger.now(port)

    def total(self) -> Counters:
        """Return what all ports ever carried."""
        return self._pump.total() + self._ledger.total()

    async def close(self) -> None:
        """Stop, and take every filter off again."""
        self._closed = True
        self._disengage()
        self._fuse.close()
        self._wiring.end()
        await self._pump.close()

    def _is_lost(self, former: int | None, decision: Decision) -> bool:
        """Ask the device: a slave that is out of the order may only have been removed, by hand."""
        link = None if former is None else self._links.get(former)
        return former not in decision.order and not (link and self.ready(link.ifindex))

    def _send(self, active: int | None) -> None:
        self._wiring.send(0 if active is None else self._links[active].ifindex)

    def _drained(self, port: int, last: bool) -> None:
        self._ledger.now(port)  # it rests now: what it has carried is what its next turn begins with
        if last:
            self._tell(PumpEventKind.DRAINED, None, 0)

    def _tell(self, kind: PumpEventKind, port: int | None, generation: int) -> None:
        if self._listener is not None:
            self._listener.pump_event(
                PumpEvent(kind=kind, port=port, error=0, generation=generation, serial=0, when_ns=self._clock())
            )

    def _read(self, port: int) -> Counters | None:
        if not self._engaged:
            return None
        try:
            return self._wiring.counters(self._links[port].ifindex)
        except TapbondError as error:
            log.debug("cannot read what tc has counted", port=port, error=str(error))
            return None

    def _read_on(self, port: int) -> Counters | None:
        return self._ledger.now(port) if self._engaged and port in self._links else None

    def _arm(self, decision: Decision) -> None:
        """Have the next slave take over the moment the active one ends: the decision to follow says the same."""
        following = decision.order[1:]
        if following and not self._tolerant:
            active, heir = (self._links[port].ifindex for port in decision.order[:2])
            self._fuse.arm(active, self._wiring.succession(heir, receives=decision.receive_sender))

    # From one path to the other.

    def _hinder(self, what: str, reason: str) -> None:
        """Take note of what stands in the way of redirecting, or does no more (no reason)."""
        if not reason:
            self.reasons.pop(what, None)
            return
        self.reasons[what] = reason
        if not self._engaged:
            return
        self._disengage()
        log.warning("frames are copied from now on", failover=self._failover, reason=reason)
        self._emit(DataPathChanged(failover=self._failover, datapath=self.name, reason=reason))
        if self._decision is not None:
            self._pump.apply(self._decision, self._seen_serial)

    def _disengage(self) -> None:
        self._fuse.disarm()
        self._receiver.forget()
        self._first_frames.forget()
        for port in self._links:
            self._ledger.fold(port)
        self._engaged = False
        with contextlib.suppress(TapbondError):
            self._wiring.close()
        self._occupied = self._is_occupied()

    def _is_occupied(self) -> bool:
        links = {link.ifindex for link in (self._tap, *self._links.values()) if link is not None}
        with contextlib.suppress(TapbondError):
            return not links.isdisjoint(self._wiring.filtered())
        return True

    def _try_again(self) -> None:
        """Redirect again if nothing stands in the way; frames that pass at that moment may be lost."""
        if self.reasons or self._engaged or self._closed or self._tap is None:
            return
        try:
            self.open(self._tap)
            for link in self._links.values():
                self._wiring.add(link)
        except TapbondError as error:
            self._engaged = False  # not all have filters to read
            self.reasons["tc"] = str(error)
            self._disengage()
            log.warning("frames are still copied", failover=self._failover, reason=str(error))
            return
        log.info("frames are redirected again", failover=self._failover)
        self._emit(DataPathChanged(failover=self._failover, datapath=self.name, reason=""))
        if self._decision is not None:
            self.apply(self._decision, self._seen_serial)
