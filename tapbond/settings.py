"""What a failover is told to be: every option of ``tapbond run``, typed, with its default.

Frozen: what can be changed while a failover runs has a method of Failover.
"""

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self

import msgspec

from tapbond.errors import TapbondError
from tapbond.metrics.address import Address
from tapbond.model import DataPathName, MacPolicyName, ReceiveMode, Reselect, Slots
from tapbond.queues import QUEUES_MAX, queue_count

US = 1000
MS = 1_000_000
PROBE_INTERVAL_MIN_NS = 20 * MS
AUTO = "auto"
NETNS = "netns"


class Backup(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A slave beside the primary and the standby."""

    link: str
    prio: int = 0


class Probing(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How paths are probed whose carrier may lie (tapbond.probe)."""

    targets: tuple[str, ...] = ()
    """IPv4 addresses are asked by ARP, IPv6 addresses by neighbour solicitation; none: no probes."""
    interval_ns: int = 100 * MS
    """From one probe to the next: at least 20 ms."""
    missed_max: int = 2
    """So many unanswered in a row make a target lost (bonding.rst, arp_missed_max)."""
    all_targets: bool = False
    """A path counts as answered when all targets answer; False: when any does (bonding.rst, arp_all_targets)."""
    any_watcher: bool = False
    """A slave counts as answered when ARP *or* neighbour probes are; False: both kinds, where both are used."""
    grace_ns: int = 2_000 * MS
    """A path is not called unanswered so soon after its link came up."""

    def __post_init__(self) -> None:
        """Refuse what would be no probing.

        Raises:
            TapbondError: it would.
        """
        if self.interval_ns < PROBE_INTERVAL_MIN_NS:
            raise TapbondError(f"probes every {self.interval_ns / MS:g} ms: at least 20 ms apart")
        if self.missed_max < 1:
            raise TapbondError(f"{self.missed_max} probes missed: a path that has missed none cannot be lost")


class Settings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A failover's settings. Times in ns."""

    name: str
    """Of the TAP."""
    standby: str | None = None
    """Link that is always there; the failover takes its MAC and MTU from it. None: the first with ``mac``."""
    primary: str | None = None
    """Link that is used whenever it is ready; it may come later. None: any other link with the failover's MAC."""
    backups: tuple[Backup, ...] = ()
    """Further slaves, which may come later too."""
    sticky: frozenset[str] = frozenset()
    """Links that stay active once they are, while they are ready."""
    mac: str | None = None
    """``aa:bb:cc:dd:ee:ff``; None: the standby's."""
    mac_policy: MacPolicyName = MacPolicyName.SAME
    mtu: int | None = None
    """In bytes; None: that of a persistent TAP, else the standby's."""
    rx: ReceiveMode = ReceiveMode.ACTIVE
    slots: Slots = Slots.ANY
    reselect: Reselect = Reselect.ALWAYS
    isolation: str = AUTO
    datapath: DataPathName = DataPathName.COPY
    queues: int | Literal["auto"] = 1
    """Of the TAP, each with a pump of its own; ``auto``: by the number of processors (tapbond.queues)."""
    slave_netns: str | None = None
    """Network namespace of the slaves: a name of ``ip netns``, a path, or a process id; None: this one."""
    adopt: bool = False
    """Move the standby's addresses and routes to the failover, and back at the end."""
    drain_ns: int = 50 * MS
    """How long the former slave still delivers unicast after a switchover."""
    updelay_ns: int = 50 * MS
    """How long a link must have been up before it is preferred to one that is in use: a switch's port forwards a
    moment after its carrier is on, and waiting costs nothing while another slave sends."""
    downdelay_ns: int = 0
    """How long a lost link is waited for before another slave takes over. What is sent meanwhile is lost."""
    hold_down_ns: int = 0
    """What is added to the updelay of a link that was lost; doubled each time it is lost again. 0: nothing."""
    poll_s: float = 0.010
    """Interval of the carrier poll; 0: none."""
    busy_poll_ns: int = 50 * US
    """How long the pump stays awake after a frame, while that pays (csrc/busy.c). 0: it sleeps at once."""
    announce_count: int = 3
    """How often each switchover is announced (bonding.rst, num_grat_arp); 0: never."""
    announce_interval_ns: int = 100 * MS
    """From one announcement to the next (bonding.rst, peer_notif_delay)."""
    probing: Probing = Probing()
    metrics: str | None = None
    """``[ADDRESS:]PORT`` where ``tapbond run`` serves metrics for Prometheus; only a port: of the loopback."""
    metrics_file: str | None = None
    """``….prom`` that ``tapbond run`` writes them to, for node_exporter's textfile collector."""
    run_dir: Path | None = None
    """See tapbond.rundir.RunDir."""

    def __post_init__(self) -> None:
        """Refuse what contradicts itself.

        Raises:
            TapbondError: it does.
        """
        if self.standby is None and self.mac is None:
            raise TapbondError(f"{self.name}: needs a standby link, or the MAC to look for")
        if self.metrics is not None:
            Address.parse(self.metrics)
        if self.metrics_file is not None and not self.metrics_file.endswith(".prom"):
            raise TapbondError(f"--metrics-file {self.metrics_file}: node_exporter reads only files named *.prom")
        self._check_slaves()
        for wrong, reason in (
            (self.adopt and self.standby is None, "--adopt needs a standby link whose addresses it takes"),
            (self.adopt and self.mac is not None, "--adopt keeps the standby's MAC: leave out --mac"),
            (self.adopt and self.slave_netns is not None, "--adopt does not go with --slave-netns"),
            (self.adopt and self.isolation == NETNS, "--adopt does not go with --isolation netns"),
            (
                self.isolation == NETNS and self.slave_netns is not None,
                "--isolation netns does not go with --slave-netns: the slaves are in a namespace already",
            ),
        ):
            if wrong:
                raise TapbondError(f"{self.name}: {reason}")
        if not isinstance(self.queues, str) and not 1 <= self.queues <= QUEUES_MAX:
            raise TapbondError(f"{self.name}: {self.queues} queues: 1 to {QUEUES_MAX}, or auto")
        if self.datapath is DataPathName.REDIRECT and self.queues not in (1, AUTO):
            raise TapbondError(
                f"{self.name}: --queues {self.queues} does not go with --datapath redirect: there the"
                " kernel carries the frames (leave it out, or use --queues auto)"
            )
        if self.datapath is DataPathName.REDIRECT and (reason := self.copies_because()):
            raise TapbondError(
                f"{self.name}: --datapath redirect: {reason} (use --datapath copy, or leave it out)"
            )

    def queue_count(self) -> int:
        """Return how many queues that makes on this machine."""
        copies = self.datapath is DataPathName.COPY
        return queue_count(self.queues, len(os.sched_getaffinity(0)), copies=copies)

    def copies_because(self) -> str:
        """Return what was asked for that only the copy path has, empty: nothing."""
        for asked, reason in (
            (self.rx is ReceiveMode.ANY, "--rx any has to tell what is an echo, which tc cannot"),
            (self.slave_netns is not None, "--slave-netns: tc redirects within one network namespace only"),
            (self.isolation == NETNS, "--isolation netns: tc redirects within one network namespace only"),
        ):
            if asked:
                return reason
        return ""

    def _check_slaves(self) -> None:
        if self.standby is not None and self.standby == self.primary:
            raise TapbondError(f"{self.standby}: cannot be standby and primary at once")
        names = [self.standby, self.primary, *(backup.link for backup in self.backups)]
        if self.name in names:
            raise TapbondError(f"{self.name}: cannot be the failover and its own slave")
        for backup in self.backups:
            if names.count(backup.link) > 1:
                raise TapbondError(f"{backup.link}: named twice as a slave of {self.name}")
            if self.slots is Slots.KERNEL:
                raise TapbondError(f"{backup.link}: no backups with --slots kernel, which has two slots only")
            if self.rx is ReceiveMode.KERNEL:
                raise TapbondError(f"{backup.link}: no backups with --rx kernel, whose rule is for two slaves")
        for link in self.sticky:
            if link not in names:
                raise TapbondError(f"{link}: sticky, but not named as a slave of {self.name}")

    @classmethod
    def of(cls, name: str, options: Mapping[str, object]) -> Self:
        """Return the settings of a failover from its options, plain values allowed (``rx="kernel"``).

        Raises:
            TapbondError: an option is unknown, of the wrong type or out of range, or contradicts another.
        """
        try:
            return msgspec.convert({"name": name, **options}, cls)
        except msgspec.ValidationError as error:
            raise TapbondError(f"{name}: {error}") from error
