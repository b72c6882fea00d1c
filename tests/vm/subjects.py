"""Who is tried: tapbond, the kernel's net_failover, and the kernel's bonding in mode active-backup."""

import sys
from collections.abc import Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, Protocol

from rig import Rig

from tapbond.lab import wait_until

if TYPE_CHECKING:
    from tapbond.lab.vm.guest import Program


BEGIN_S = 60.0
"""tapbond imports itself in 3 s in a guest that has a core for itself."""


class Subject(Protocol):
    """One that makes a master of a standby and a primary."""

    name: str
    standby: Mapping[str, Any]
    """Properties of the virtio-net that it needs."""
    joins_within_s: float
    """How long a NIC that was plugged in is given to become a slave by itself."""

    def begin(self, rig: Rig) -> None:
        """Make the master of the NICs that are plugged, and set it up."""

    def end(self, rig: Rig) -> None:
        """Take the master away, as far as it can be without unplugging."""

    def destroy(self, rig: Rig) -> None:
        """Take the master away."""

    def master(self, rig: Rig) -> str | None:
        """Return the master's name, None when there is none."""

    def enslave(self, rig: Rig, role: str) -> None:
        """Do by hand what makes a NIC that was plugged in a slave, if something must be done."""


class Tapbond:
    """``tapbond run tb0 --standby LINK``; whatever has its MAC is the primary."""

    name = "tapbond"
    joins_within_s = 8.0
    standby: Mapping[str, Any] = MappingProxyType({"failover": False})

    def __init__(self) -> None:
        self._program: Program | None = None

    def begin(self, rig: Rig) -> None:
        self._program = rig.guest.start(
            sys.executable, "-m", "tapbond", "run", "tb0", "--standby", rig.name("standby"), "-v"
        )
        try:
            wait_until(lambda: rig.find("tb0"), timeout=BEGIN_S, what="tb0")
        except TimeoutError as error:
            raise TimeoutError(f"{error}: {self.log()}") from error
        rig.ip("link", "set", "tb0", "up")

    def end(self, rig: Rig) -> None:  # noqa: ARG002
        if self._program:
            said = self._program.stop()
            self._program = None
            assert "Traceback" not in said, said

    destroy = end

    def log(self) -> str:
        return self._program.output if self._program else ""

    def master(self, rig: Rig) -> str | None:
        return "tb0" if rig.find("tb0") else None

    def enslave(self, rig: Rig, role: str) -> None:
        pass


class NetFailover:
    """The driver: there is a master as soon as there is a virtio-net with the feature STANDBY."""

    name = "net_failover"
    joins_within_s = 4.0
    standby: Mapping[str, Any] = MappingProxyType({"failover": True})

    def begin(self, rig: Rig) -> None:
        master = wait_until(lambda: self.master(rig), what="net_failover's master")
        rig.ip("link", "set", str(master), "up")

    def end(self, rig: Rig) -> None:
        if master := self.master(rig):
            rig.ip("addr", "flush", "dev", master)
            rig.ip("link", "set", master, "down")

    def destroy(self, rig: Rig) -> None:
        rig.unplug("standby")

    def master(self, rig: Rig) -> str | None:
        standby = rig.nic("standby")
        return standby and standby.get("master")

    def enslave(self, rig: Rig, role: str) -> None:
        pass


class Bonding:
    """``bond0``, active-backup, miimon 100, with the e1000e as its primary."""

    name = "bonding"
    joins_within_s = 1.0
    standby: Mapping[str, Any] = MappingProxyType({"failover": False})

    def begin(self, rig: Rig) -> None:
        rig.ip("link", "add", "bond0", "type", "bond", "mode", "active-backup", "miimon", "100")
        for role in ("standby", "primary"):
            if rig.nic(role):
                self.enslave(rig, role)
        rig.ip("link", "set", "bond0", "up")

    def end(self, rig: Rig) -> None:
        if rig.find("bond0"):
            rig.ip("link", "del", "bond0")

    destroy = end

    def master(self, rig: Rig) -> str | None:
        return "bond0" if rig.find("bond0") else None

    def enslave(self, rig: Rig, role: str) -> None:
        link = rig.name(role)
        rig.ip("link", "set", link, "down")
        rig.ip("link", "set", link, "master", "bond0")
        if role == "primary":
            rig.ip("link", "set", "bond0", "type", "bond", "primary", link)


SUBJECTS: dict[str, type[Subject]] = {made.name: made for made in (Tapbond, NetFailover, Bonding)}
