"""A whole failover without its TAP, over fake links and a fake pump, on a virtual clock."""

from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from tapbond.isolation import NoIsolation
from tapbond.journal import Journal
from tapbond.macpolicy import POLICIES
from tapbond.membership import Membership
from tapbond.model import ChangeRefused, Detector, Event, Link, Role
from tapbond.propagation import Propagation
from tapbond.registrar import Registrar
from tapbond.registry import Registry
from tapbond.rundir import RunDir
from tapbond.selector import Selector
from tapbond.settings import Settings
from tapbond.testing import FakeNetwork, FakePump, VirtualClock

if TYPE_CHECKING:
    from tapbond.slave import Slave

MAC = "52:54:00:00:00:01"
OTHER = "52:54:00:00:00:02"


class Registering:
    """What Arrivals does with what the links tell, for stages that have none."""

    members: Membership
    selector: Selector

    def link_changed(self, link: Link, when_ns: int, detector: Detector) -> None:
        slave = self.members.slave_of(link)
        if slave is None:
            self.members.consider(link)
        else:
            self.selector.update(slave, link, detector, when_ns)

    def link_removed(self, link: Link, when_ns: int) -> None:
        self.members.gone(link, when_ns)

    def addresses_changed(self, ifindex: int) -> None:
        pass

    @property
    def slaves(self) -> dict[str, Role]:
        return {slave.name: slave.role for slave in self.selector.slaves}


class World:
    """A failover tb0, whose TAP is a fake link; the slaves are those that the settings name.

    Args:
        folder: for its run directory.
        clock: of the loop that it runs on.
        settings: of the failover.
    """

    def __init__(self, folder: Path, clock: VirtualClock, settings: Settings) -> None:
        self.clock = clock
        self.network = FakeNetwork(clock)
        self.events: list[Event] = []
        self.macs: list[str] = []
        self.switched: list[Slave | None] = []
        self.carrier = False
        self.pump = FakePump(clock, self.network)
        policy = POLICIES[settings.mac_policy]
        self.registry = Registry(
            "tb0", MAC, settings.standby, settings.primary, backups=settings.backups, mac_policy=policy
        )
        self.selector = Selector(
            "tb0",
            settings.rx,
            self.pump,
            self.network.links,
            set_carrier=self._set_carrier,
            emit=self.events.append,
            failed=lambda _reason: None,
            clock=clock,
            reselect=settings.reselect,
            switched=self.switched.append,
        )
        self.pump.start(self.selector)
        self.journal = Journal(folder / "journal")
        isolation = NoIsolation("tb0", self.network.rtnetlink)
        registrar = Registrar(self.network.rtnetlink, isolation, self.pump, self.journal, policy)
        self.members = Membership(
            self.registry,
            registrar,
            self.selector,
            self.network.links,
            RunDir(folder).make(),
            settings=settings,
            isolation="none",
            emit=self.events.append,
            clock=clock,
        )
        self.members.up = True
        self.network.add("tb0", MAC, kind="tun")
        self.propagation = Propagation(
            self.registry,
            cast("Any", self),
            self.members,
            self.selector.slaves,
            registrar,
            self.network.rtnetlink,
            mac_policy=policy,
            mac_changed=lambda: self.macs.append(self.registry.mac),
            emit=self.events.append,
        )

    async def close(self) -> None:
        await self.propagation.close()
        await self.members.close()
        self.selector.close()

    def _set_carrier(self, on: bool) -> None:
        self.carrier = on

    # What Propagation needs of the Master.

    async def look(self) -> Link | None:
        return next((link for link in self.network.devices.values() if link.name == "tb0"), None)

    async def set_mtu(self, mtu: int) -> None:
        self.network.change("tb0", mtu=mtu)

    async def set_mac(self, mac: str) -> None:
        self.network.change("tb0", mac=mac)

    # What Failover does with what the links tell.

    def link_changed(self, link: Link, when_ns: int, detector: Detector) -> None:
        slave = self.members.slave_of(link)
        if link.name == "tb0":
            self.propagation.master_changed(link)
        elif slave is None:
            self.members.consider(link)
        else:
            if slave.name != link.name:
                self.selector.switchovers.renamed(slave.name, link.name)
            self.selector.update(slave, link, detector, when_ns)

    def link_removed(self, link: Link, when_ns: int) -> None:
        self.members.gone(link, when_ns)

    def addresses_changed(self, ifindex: int) -> None:
        pass

    # What a test asks.

    def all(self, what: str) -> list[object]:
        return [getattr(self.network.device(name), what) for name in ("tb0", "eth1", "eth0", "eth2")]

    def asked(self, method: str) -> list[str]:
        return [request[1] for request in self.network.rtnetlink.requests if request[0] == method]

    def refusals(self) -> list[ChangeRefused]:
        return [event for event in self.events if isinstance(event, ChangeRefused)]
