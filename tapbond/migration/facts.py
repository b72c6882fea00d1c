"""What a migration stands on: found before anything is touched, and kept in the journal."""

from enum import StrEnum

import msgspec

ZERO_MAC = "00:00:00:00:00:00"


class Kind(StrEnum):
    """Which of the document's two scripts."""

    MIGRATE = "migrate"
    """On the source: migrate.sh."""
    REATTACH = "reattach"
    """On the destination: reattach-vf.sh."""


class FdbEntry(msgspec.Struct, frozen=True, kw_only=True, order=True):
    """An entry of a forwarding table that was made by hand (bridge(8), fdb)."""

    mac: str
    link: str
    master: bool
    """In the table of the bridge that the link is a port of; else in the link's own (``self``)."""

    def command(self, verb: str) -> str:
        """Return what a person would type. ``static``: without it the bridge would keep the frames to itself."""
        return f"bridge fdb {verb} {self.mac} dev {self.link}{' master static' if self.master else ''}"


class Facts(msgspec.Struct, frozen=True, kw_only=True):
    """All that the plan needs; equal facts make equal plans."""

    kind: Kind
    domain: str
    """A libvirt domain, or the path of a QMP socket."""
    connect: str = ""
    """URI of libvirt; empty: QMP."""
    to: str = ""
    """Where it goes, as the hypervisor names it: ``qemu+ssh://host/system``, ``tcp:host:4444``."""
    destination: str = ""
    """QMP socket of the waiting QEMU, where it can be reached from here."""
    transport: str = ""
    """libvirt's URI for the guest's memory (virsh migrate --migrateuri); empty: the destination chooses."""
    netns: str = ""
    """What opens the network namespace of bridge, TAP and PF; empty: our own."""
    mac: str
    """Of both halves of the pair."""
    standby: str
    """Id (QMP) or alias (libvirt) of the virtio NIC."""
    primary: str
    """Id or alias of the VF."""
    device: str
    """What plugs the VF: JSON for device_add, or libvirt's XML."""
    link_was_up: bool
    """The standby's link, before."""
    link_goes: bool
    """What it is set to; the same as before: it is not touched."""
    tap: str = ""
    """The standby's on the host."""
    uplink: str = ""
    """The port of the bridge that leads outside (the document's VF on the bridge); empty: none is to be told."""
    pf: str = ""
    """The PF whose VF the guest has; empty: the VF's MAC is not touched."""
    vf: int = 0
    """Its number."""
    vf_mac: str = ""
    """What the PF said was its MAC, before."""
    fdb: tuple[FdbEntry, ...] = ()
    """Entries to add (migrate) or to remove (reattach)."""
    unplug_timeout_s: float = 30.0
    """How long the guest may take to let go of the VF."""
    migrate_timeout_s: float = 3600.0
    """How long the move itself may take."""


class Place(StrEnum):
    """Where a guest is while it is migrated."""

    HERE = "here"
    MOVING = "moving"
    THERE = "there"
    UNCLEAR = "unclear"
    """It has left, and nobody says that it arrived."""


class Progress(msgspec.Struct, frozen=True, kw_only=True):
    """How far a move is."""

    transferred: int
    """Bytes that were sent."""
    remaining: int
    """Bytes that are still to be sent, as of now; the guest goes on writing."""
    total: int
    """Bytes of memory that the guest has."""
    rate: float = 0.0
    """Bytes a second."""

    @property
    def left_s(self) -> float | None:
        """Seconds to the end at this rate, None: unknown."""
        return self.remaining / self.rate if self.rate > 0 else None


class Guest(msgspec.Struct, frozen=True, kw_only=True):
    """A guest and its pair, as a hypervisor tells of them."""

    running: bool
    standby: str
    standby_mac: str
    tap: str = ""
    """Empty: it does not tell."""
    link_up: bool | None = None
    """None: it does not tell."""
    primary: str
    primary_mac: str = ""
    """Empty: it does not tell."""
    plugged: bool
    """The primary is in the guest."""
    device: str
    """What plugs the primary."""
    pci: str = ""
    """Address of the host's device, ``0000:42:02.5``; empty: it is none."""
    problems: tuple[str, ...] = ()
    """What is wrong with the pair."""
