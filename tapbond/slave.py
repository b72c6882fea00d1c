"""One slave: how a link becomes one, and how it is given back as it was found.

The order is that of net_failover_slave_register() in drivers/net/net_failover.c, with the isolation between the
MTU and the opening, so that the slave's own IP stack never speaks.
"""

from collections.abc import Awaitable, Callable, Collection
from typing import TYPE_CHECKING

import structlog
from msgspec.structs import replace

from tapbond.datapath import DataPath
from tapbond.delays import LinkDelays
from tapbond.errors import NoSuchInterfaceError, RefusedError, TapbondError
from tapbond.isolation import Isolation
from tapbond.journal import Journal, Original, undo
from tapbond.label import Label
from tapbond.macpolicy import POLICIES, MacPolicy
from tapbond.model import Detector, Link, MacPolicyName, Role, SlaveFacts, SlaveStatus
from tapbond.rtnetlink import ADDR_GEN_MODE_NONE, Interface, Rtnetlink
from tapbond.rundir import Lock

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
            ready=self.facts().ready(now_ns),
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


class Registrar:
    """Makes slaves of links, and links of slaves again.

    Args:
        rtnetlink: to change links with, where they are found.
        isolation: open.
        datapath: to attach them to.
        journal: where their originals are written down.
        mac_policy: what MAC they get.
        failover: its name, with which slaves are labelled; None: they are not.
        greet: is called with each new slave before it carries its first frame.
        netns_name: what opens the namespace where they are found; empty: the failover's own.
    """

    def __init__(
        self,
        rtnetlink: Rtnetlink,
        isolation: Isolation,
        datapath: DataPath,
        journal: Journal,
        mac_policy: MacPolicy = POLICIES[MacPolicyName.SAME],
        *,
        failover: str | None = None,
        greet: Callable[[Slave], Awaitable[None]] | None = None,
        netns_name: str = "",
    ) -> None:
        self._rtnetlink = rtnetlink
        self._isolation = isolation
        self._datapath = datapath
        self._journal = journal
        self._mac_policy = mac_policy
        self._failover = failover
        self._greet = greet
        self._netns_name = netns_name
        self.adopting = 0
        """ifindex of the standby whose addresses are moved to the failover (tapbond.adoption), 0: none."""
        self._originals: dict[Slave, Original] = {}

    async def register(self, slave: Slave, mac: str, mtu: int, up: bool, addresses: Collection[Interface]) -> None:
        """Make a slave of a link.

        Args:
            slave: not registered; its port is set.
            mac: the failover's.
            mtu: the failover's, in bytes.
            up: whether the failover is administratively up: the slave is opened then.
            addresses: the link's.

        Raises:
            RefusedError: a step failed; all that were done are undone.
        """
        link = slave.link
        label = self._label(slave)
        original = Original.of(
            link,
            addresses,
            silenced=self._isolation.kind != "none",
            moved=self._isolation.refuge is not None,
            netns_name=self._netns_name,
            given_macs=(mac,) if self._mac_policy.gives and link.mac != mac else (),
            alias=link.alias if label else None,
            altname=label.altname if label else "",
        )
        self._journal.record(original)
        self._originals[slave] = original
        try:
            await self._change(slave, mac, mtu, up, addresses)
            if label is not None:
                await label.put_on(self._where, slave.link)
            if self._greet is not None:
                await self._greet(slave)
        except TapbondError as error:
            await self.release(slave)
            if isinstance(error, NoSuchInterfaceError):
                raise
            raise RefusedError(link.name, str(error).removeprefix(f"{link.name}: ")) from error
        except BaseException:
            await self.release(slave)
            raise

    def will_give(self, mac: str) -> None:
        """Write down that every slave is about to get another MAC."""
        for slave, original in self._originals.items():
            changed = replace(original, given_macs=(*original.given_macs, mac))
            self._journal.record(changed)
            self._originals[slave] = changed

    def _label(self, slave: Slave) -> Label | None:
        """Return what to call a slave; a name that it has already is nothing to give and to take."""
        if self._failover is None:
            return None
        label = Label.of(self._failover, slave.role, slave.name)
        return replace(label, altname="") if label.altname in slave.link.altnames else label

    @property
    def _where(self) -> Rtnetlink:
        """Requests to the namespace where slaves live."""
        refuge = self._isolation.refuge
        return self._rtnetlink if refuge is None else refuge.place.rtnetlink

    async def _change(self, slave: Slave, mac: str, mtu: int, up: bool, addresses: Collection[Interface]) -> None:
        link, rtnetlink = slave.link, self._where
        if (refuge := self._isolation.refuge) is not None:
            link = slave.link = await refuge.take_in(link)
        if link.mtu != mtu:
            await rtnetlink.set_mtu(link, mtu)
        if self._isolation.kind != "none":
            await self._silence(rtnetlink, link, addresses)
        await self._isolation.add(link)
        await self._mac_policy.take(rtnetlink, link, mac)
        slave.port = self._datapath.attach(link)
        if up and not link.up:
            await rtnetlink.set_up(link, True)

    async def _silence(self, rtnetlink: Rtnetlink, link: Link, addresses: Collection[Interface]) -> None:
        """Keep the link's IPv6 from speaking: its address would be the same as the failover's."""
        if link.addr_gen_mode is not None:
            await rtnetlink.set_addr_gen_mode(link, ADDR_GEN_MODE_NONE)
        for address in addresses:
            if address.version == 6 and address.ip.is_link_local:  # noqa: PLR2004
                if rtnetlink is self._rtnetlink:  # it does not survive being moved
                    await rtnetlink.remove_address(link, address)
            elif link.ifindex != self.adopting:
                log.warning(
                    "a slave's address gets no answers: move it to the failover",
                    slave=link.name,
                    address=str(address),
                )

    async def release(self, slave: Slave) -> None:
        """Give a link back as it was found; one that has gone is fine, and so is doing it twice."""
        original = self._originals.pop(slave, None)
        steps: list[Callable[[], Awaitable[None]]] = []
        if original is not None:
            # Before the isolation ends: the link's own stack must not speak with the failover's MAC.
            steps.append(lambda: original.restore_mac(self._where, slave.link.ifindex))
            steps.append(lambda: self._isolation.remove(slave.link))
        if slave.port >= 0:
            port, slave.port = slave.port, -1
            steps.append(lambda: self._datapath.detach(port))
        if original is not None:
            steps.append(lambda: self._bring_home(slave, original))
            steps.append(lambda: self._restore(slave, original))
        await undo(slave.name, steps)
        if original is not None and (slave.gone or self._is_home(slave)):
            self._journal.forget(original)
        slave.unlock()

    async def _bring_home(self, slave: Slave, original: Original) -> None:
        if (refuge := self._isolation.refuge) is None or self._is_home(slave):
            return
        try:
            slave.link = await refuge.send_home(slave.link, original.name)
        except NoSuchInterfaceError:
            slave.gone = True
            raise

    async def _restore(self, slave: Slave, original: Original) -> None:
        if self._is_home(slave):
            await original.restore(self._rtnetlink, slave.link.ifindex)

    def _is_home(self, slave: Slave) -> bool:
        """Return whether a slave is where it was found: elsewhere its ifindex may be that of another link."""
        return slave.link.netns == self._rtnetlink.netns
