"""Two hosts and a guest in memory, behind the interfaces that a migration uses, with faults on demand."""

import asyncio
import copy
from collections.abc import Callable
from typing import Self

import msgspec

from tapbond.errors import NoSuchInterfaceError
from tapbond.migration.errors import GuestRefusedError, HypervisorError, NoWayBackError, UnclearError
from tapbond.migration.facts import FdbEntry, Guest, Place, Progress
from tapbond.migration.hypervisor import Report
from tapbond.model import Link

MAC = "52:54:00:00:12:53"
STANDBY, PRIMARY = "ua-backup0", "ua-vf0"
TAP, UPLINK, PF, BRIDGE = "vmtap01", "ens6v1", "ens6np0", "br0"
DEVICE = '{"driver":"vfio-pci","id":"ua-vf0","host":"0000:42:02.5"}'
PF_PCI, VF_PCI = "0000:42:00.0", "0000:42:02.5"
GIB = 1 << 30


class Power(BaseException):
    """The tool is killed: no handler of an Exception sees it."""


class World(msgspec.Struct, kw_only=True):
    """All that may change."""

    place: Place = Place.HERE
    link_up: bool = False
    plugged: bool = True
    vf_macs: dict[int, str] = msgspec.field(default_factory=lambda: {0: "02:00:00:00:00:01", 1: MAC})
    fdb: set[FdbEntry] = msgspec.field(default_factory=set)

    def copy(self) -> Self:
        """Return one that does not change with this one."""
        return copy.deepcopy(self)


Hook = Callable[[str], None]


class FakeHost:
    """Hypervisor and HostNetwork of the source over a World.

    Args:
        world: what is changed.
        before: is called with the name of every change before it happens; what it raises, the change raises.
        after: the same, when it has happened.
    """

    def __init__(self, world: World, before: Hook = lambda _name: None, after: Hook = lambda _name: None) -> None:
        self.world = world
        self.before = before
        self.after = after
        self.tells_link = True
        """Whether the state of a link can be read, as from libvirt."""
        self.destination_problems: list[str] = []
        self.answers = True
        """The guest lets go of its VF; else it says no."""
        self.hangs = False
        """A move does not end."""
        self.links = {
            name: Link(ifindex=number, name=name, mac=MAC, master=9 if name in (TAP, UPLINK) else 0)
            for number, name in ((1, TAP), (2, UPLINK), (3, PF), (9, BRIDGE))
        }

    def _change(self, name: str, change: Callable[[World], None]) -> None:
        self.before(name)
        change(self.world)
        self.after(name)

    async def open(self) -> None:
        """See Hypervisor."""

    async def close(self) -> None:
        """See Hypervisor."""

    async def inspect(self) -> Guest:
        """See Hypervisor."""
        return Guest(
            running=self.world.place is Place.HERE,
            standby=STANDBY,
            standby_mac=MAC,
            tap=TAP,
            link_up=self.world.link_up if self.tells_link else None,
            primary=PRIMARY,
            primary_mac=MAC,
            plugged=self.world.plugged,
            device=DEVICE,
            pci=VF_PCI,
        )

    async def set_link(self, standby: str, up: bool) -> None:
        """See Hypervisor."""
        self._change(f"link {standby} {'up' if up else 'down'}", lambda world: setattr(world, "link_up", up))

    async def link_is(self, _standby: str) -> bool | None:
        """See Hypervisor."""
        return self.world.link_up if self.tells_link else None

    async def is_plugged(self, _primary: str) -> bool:
        """See Hypervisor."""
        return self.world.plugged

    async def plug(self, primary: str, _device: str) -> None:
        """See Hypervisor."""
        if self.world.plugged:
            raise HypervisorError(f"{primary}: Duplicate device ID")
        self._change(f"plug {primary}", lambda world: setattr(world, "plugged", True))

    async def unplug(self, primary: str, _device: str, _timeout_s: float) -> None:
        """See Hypervisor."""
        if not self.answers:
            raise GuestRefusedError(f"{primary}: the guest does not let go of it")
        self._change(f"unplug {primary}", lambda world: setattr(world, "plugged", False))

    async def settle(self, _primary: str) -> None:
        """See Hypervisor."""

    async def check_destination(self, _to: str) -> list[str]:
        """See Hypervisor."""
        return self.destination_problems

    async def migrate(self, to: str, _timeout_s: float, report: Report) -> None:
        """See Hypervisor."""
        self._change(f"start to {to}", lambda world: setattr(world, "place", Place.MOVING))
        report(Progress(transferred=GIB // 2, remaining=GIB // 2, total=GIB, rate=GIB / 8))
        if self.hangs:
            await asyncio.Event().wait()
        self._change(f"move to {to}", lambda world: setattr(world, "place", Place.THERE))

    async def place(self, _to: str) -> Place:
        """See Hypervisor."""
        return self.world.place

    async def stay(self, to: str) -> None:
        """See Hypervisor."""
        if self.world.place is Place.THERE:
            raise NoWayBackError(f"it runs on {to}")
        if self.world.place is Place.UNCLEAR:
            raise UnclearError(f"{to} does not say whether it runs there")
        if self.world.place is Place.MOVING:
            self._change("cancel", lambda world: setattr(world, "place", Place.HERE))

    async def find(self, name: str) -> Link | None:
        """See HostNetwork."""
        return self.links.get(name)

    async def name_of(self, ifindex: int) -> str:
        """See HostNetwork."""
        return next((link.name for link in self.links.values() if link.ifindex == ifindex), "")

    async def link_of(self, pci: str) -> str:
        """See HostNetwork."""
        return PF if pci == PF_PCI and PF in self.links else ""

    async def entries(self, mac: str) -> list[FdbEntry]:
        """See HostNetwork."""
        return sorted(entry for entry in self.world.fdb if entry.mac == mac)

    async def add(self, entry: FdbEntry) -> None:
        """See HostNetwork."""
        self._change(entry.command("add"), lambda world: world.fdb.add(entry))

    async def remove(self, entry: FdbEntry) -> None:
        """See HostNetwork."""
        self._change(entry.command("del"), lambda world: world.fdb.discard(entry))

    async def vf_mac(self, pf: str, vf: int) -> str | None:
        """See HostNetwork."""
        if pf not in self.links:
            raise NoSuchInterfaceError(pf)
        return self.world.vf_macs.get(vf)

    async def set_vf_mac(self, pf: str, vf: int, mac: str) -> None:
        """See HostNetwork."""
        self._change(f"{pf} vf {vf} mac {mac}", lambda world: world.vf_macs.__setitem__(vf, mac))
