"""How a link becomes a slave, and how it is given back as it was found.

The order is that of net_failover_slave_register() in drivers/net/net_failover.c, with the isolation between the
MTU and the opening, so that the slave's own IP stack never speaks.
"""

from collections.abc import Awaitable, Callable, Collection

import structlog
from msgspec.structs import replace

from tapbond.datapath import DataPath
from tapbond.errors import LinkRequestError, NoSuchInterfaceError, RefusedError, TapbondError
from tapbond.isolation import Isolation
from tapbond.journal import Journal, Original, undo
from tapbond.label import Label
from tapbond.linkmessage import Interface
from tapbond.macpolicy import POLICIES, MacPolicy
from tapbond.model import Link, MacPolicyName
from tapbond.rtnetlink import ADDR_GEN_MODE_NONE, Rtnetlink
from tapbond.slave import Slave

log = structlog.get_logger()


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
            await self._open(rtnetlink, link)

    async def _open(self, rtnetlink: Rtnetlink, link: Link) -> None:
        """Set a slave up; one that does not open now is a slave all the same, and may open later.

        net_failover_slave_register() tolerates EBUSY only and refuses the slave for anything else, for good.
        """
        try:
            await rtnetlink.set_up(link, True)
        except LinkRequestError as error:
            log.warning("slave does not open", slave=link.name, reason=error.reason)

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
