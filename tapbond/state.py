"""What a failover and its slaves are now, as it is shown to the outside: the status, declared once."""

from typing import Self

import msgspec

from tapbond.model import (
    Counters,
    DataPathName,
    LinkCounters,
    MacPolicyName,
    MiiStatus,
    ReceiveMode,
    Reselect,
    Role,
    Switchover,
)
from tapbond.settings import MS, Probing, Settings


class ProbeStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One probed target over one slave's path."""

    target: str
    answered: bool
    """It has answered since the link came up, and is not lost."""
    missed: int
    """Probes in a row without an answer; 0 while it has never answered over any path."""
    rtt_ns: int | None = None
    """From the last answered probe to its answer; None: there was none, or it is not known."""


class SlaveStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One slave, as ``tapbond status`` shows it."""

    name: str
    role: Role
    prio: int = 0
    sticky: bool = False
    ifindex: int
    mac: str
    mtu: int
    up: bool
    carrier: bool
    ready: bool
    answered: bool = True
    """False: probes over its path go unanswered."""
    probes: tuple[ProbeStatus, ...] = ()
    """What each probed target says of its path."""
    speed: int = 0
    """In Mbit/s; 0: unknown."""
    full_duplex: bool = False
    link_failures: int = 0
    """How often its link was lost since it was registered."""
    permanent_mac: str = ""
    """The MAC that its driver calls permanent, else the one that it was found with."""
    mii_status: MiiStatus = MiiStatus.UP
    """Its link in the words of bonding."""
    reason: str = ""
    """Why it is not ready, or not to be trusted; empty: it is."""
    active: bool
    isolation: str
    counters: Counters


class Rules(msgspec.Struct, frozen=True, kw_only=True):
    """What it was told that bonding and teamd tell of themselves too (tapbond.settings)."""

    reselect: Reselect = Reselect.ALWAYS
    mac_policy: MacPolicyName = MacPolicyName.SAME
    poll_ns: int = 10 * MS
    updelay_ns: int = 50 * MS
    downdelay_ns: int = 0
    announce_count: int = 3
    announce_interval_ns: int = 100 * MS
    probing: Probing = Probing()

    @classmethod
    def of(cls, settings: Settings) -> Self:
        """Return those of the settings."""
        return cls(
            reselect=settings.reselect,
            mac_policy=settings.mac_policy,
            poll_ns=round(settings.poll_s * 1e9),
            updelay_ns=settings.updelay_ns,
            downdelay_ns=settings.downdelay_ns,
            announce_count=settings.announce_count,
            announce_interval_ns=settings.announce_interval_ns,
            probing=settings.probing,
        )


class Status(msgspec.Struct, frozen=True, kw_only=True):
    """A failover, as ``tapbond status --json`` prints it."""

    name: str
    """What the failover goes by; its interface may have been renamed since."""
    interface: str = ""
    """What its interface is called now."""
    netns: str = ""
    """Where its interface has been moved to, ``net:[4026532177]``; empty: nowhere. ``?``: out of our sight."""
    ifindex: int
    """In the namespace where it is; 0: unknown."""
    mac: str
    mtu: int
    up: bool
    carrier: bool
    active: str | None
    requested: str | None
    """The slave chosen by hand, while that holds."""
    rx: ReceiveMode
    isolation: str
    datapath: DataPathName = DataPathName.COPY
    """What carries the frames now: ``copy`` or ``redirect``."""
    datapath_reason: str = ""
    """Why they are copied though ``redirect`` or ``auto`` was asked for."""
    queues: int = 1
    """Of its TAP, each with a pump of its own."""
    slaves: tuple[SlaveStatus, ...]
    counters: Counters
    """Sums over all slaves that ever were; ``tx_dropped`` and ``rx_dropped`` include the TAP's own."""
    links: LinkCounters = LinkCounters()
    """What the drivers of all slaves that ever were counted while they were slaves (tapbond.statistics)."""
    switchovers: int
    last_switchovers: tuple[Switchover, ...]
    """The last 16, oldest first."""
    pid: int
    uptime_s: float
    version: str = ""
    """Of tapbond."""
    rules: Rules = Rules()
