"""One slave: a registered link, and what is known of it."""

from typing import TYPE_CHECKING

import structlog

from tapbond.datapath import DataPath
from tapbond.delays import LinkDelays
from tapbond.model import Detector, Link, Role, SlaveFacts
from tapbond.rundir import Lock
from tapbond.state import SlaveStatus

if TYPE_CHECKING:
    from tapbond.probe.state import Path

log = structlog.get_logger()

UNPLUGGED = "unplugged"
SET_DOWN = "set down"
CARRIER_LOST = "carrier lost"
LINK_LOST = (SET_DOWN, CARRIER_LOST)
"""What an unplugged link is said to be before it is said to be gone."""

PROBES_LOST = "probes unanswered"

HOLD_FIRST_NS = 100_000_000
HOLD_MAX_NS = 10_000_000_000
HOLD_MEMORY_NS = 60_000_000_000
STALE_NS = 1_000_000_000


class Slave:
    """A registered link.

    Args:
        link: as rtnetlink tells it.
        role: its slot.
        lock: that keeps other failovers off the link.
        delays: its own.
        prio: of a backup or a standby, the highest goes first.
        sticky: whether it stays active once it is.
        forced: it is a primary that is registered for the first time.
    """

    def __init__(
        self,
        link: Link,
        role: Role,
        lock: Lock,
        delays: LinkDelays | None = None,
        *,
        prio: int = 0,
        sticky: bool = False,
        forced: bool = False,
    ) -> None:
        self.link = link
        self.permanent_mac = link.permanent_mac or link.mac
        """Before it was given another one (bonding: perm_hwaddr)."""
        self.role = role
        self.prio = prio
        self.sticky = sticky
        self.forced = forced
        self.port = -1
        self.gone = False
        self.answered = True
        """Whether its path is to be trusted, by what the prober says; True where there are no probes."""
        self.path: Path | None = None
        """What probes have told of its path."""
        self.speed = 0
        """In Mbit/s; 0: unknown."""
        self.full_duplex = False
        self.came_up: tuple[Detector, int] | None = None
        """Who saw its link come up, and when (CLOCK_MONOTONIC in ns)."""
        self.delays = delays or LinkDelays()
        self._lock = lock
        self._held_until_ns = 0
        self._hold_ns = 0
        self._last_fault_ns = -HOLD_MEMORY_NS

    @property
    def name(self) -> str:
        """Its name, as of now."""
        return self.link.name

    @property
    def linked(self) -> bool:
        """Whether its link is up with a carrier."""
        return self.link.up and self.link.carrier and not self.gone

    def facts(self) -> SlaveFacts:
        """Return what the policy needs to know."""
        return SlaveFacts(
            port=self.port,
            role=self.role,
            prio=self.prio,
            sticky=self.sticky,
            forced=self.forced,
            up=self.link.up and not self.gone,
            carrier=self.link.carrier and not self.gone,
            speed=self.speed,
            full_duplex=self.full_duplex,
            answered=self.answered,
            tolerated_until_ns=self.delays.tolerated_until_ns,
            settled_ns=self.delays.settled_ns,
            held_until_ns=self._held_until_ns,
        )

    def update(self, link: Link, when_ns: int, detector: Detector) -> None:
        """Take note of how its link is now, and who saw it when."""
        was, now = self.link.up and self.link.carrier, link.up and link.carrier
        if now and not was:
            self.came_up = detector, when_ns
            self.delays.came_up(when_ns)
        elif was and not now:
            self.delays.lost(when_ns)
        self.link = link

    def probed(self, answered: bool, when_ns: int) -> None:
        """Take note of whether its path is to be trusted: one that comes back has to settle as a link has.

        A lost path is not waited for: the downdelay is the link's.
        """
        if answered:
            self.came_up = Detector.PROBE, when_ns
            self.delays.came_up(when_ns)
        else:
            self.delays.lost(when_ns)
            self.delays.give_up()
        self.answered = answered

    def vanish(self) -> None:
        """Take note that its link has gone for good."""
        self.gone = True
        self.delays.give_up()

    def failed(self, when_ns: int, now_ns: int) -> None:
        """Note that sending failed at ``when_ns`` though the link says that it is up with a carrier.

        A link that came up after that was down then, and did not lie.
        A first failure may be a stale error and costs nothing. One that comes back within a second holds the
        slave for 100 ms, and for twice as long each time until it has been quiet for a minute.
        """
        if self.came_up is not None and self.came_up[1] >= when_ns:
            return
        quiet_ns, self._last_fault_ns = now_ns - self._last_fault_ns, now_ns
        if quiet_ns > HOLD_MEMORY_NS:
            self._hold_ns = 0
        if quiet_ns > STALE_NS + self._hold_ns:
            return
        self._hold_ns = min(max(HOLD_FIRST_NS, self._hold_ns * 2), HOLD_MAX_NS)
        self._held_until_ns = now_ns + self._hold_ns
        log.warning("slave fails to send though its link is up", slave=self.name, held_s=self._hold_ns / 1e9)

    def why_not_ready(self, now_ns: int) -> str:
        """Return in a few words why it is not ready, or not to be trusted; empty when all is well."""
        if self.gone:
            return UNPLUGGED
        if not self.link.up:
            return SET_DOWN
        if not self.link.carrier:
            return CARRIER_LOST
        if now_ns < self._held_until_ns:
            return "send errors"
        return "" if self.answered else PROBES_LOST

    def status(self, datapath: DataPath, active: bool, isolation: str, now_ns: int) -> SlaveStatus:
        """Return what ``tapbond status`` shows of it."""
        facts = self.facts()
        return SlaveStatus(
            name=self.name,
            role=self.role,
            prio=self.prio,
            sticky=self.sticky,
            ifindex=self.link.ifindex,
            mac=self.link.mac,
            mtu=self.link.mtu,
            up=self.link.up,
            carrier=self.link.carrier,
            ready=facts.ready(now_ns),
            mii_status=facts.mii_status(active, now_ns),
            reason=self.why_not_ready(now_ns),
            permanent_mac=self.permanent_mac,
            answered=self.path.answered if self.path else self.answered,
            probes=self.path.status() if self.path else (),
            speed=self.speed,
            full_duplex=self.full_duplex,
            link_failures=self.delays.losses,
            active=active,
            isolation=isolation,
            counters=datapath.counters(self.port),
        )

    def unlock(self) -> None:
        """Let other failovers have the link."""
        self._lock.release()
