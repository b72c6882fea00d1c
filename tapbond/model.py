"""Frozen values that the parts hand to each other; what is shown to the outside is made of them."""

from enum import StrEnum

import msgspec


class Role(StrEnum):
    """What a slave is for (net_failover.rst: a primary is preferred whenever it is ready)."""

    PRIMARY = "primary"
    STANDBY = "standby"
    BACKUP = "backup"
    """One of any number beside those two, chosen by its ``prio``."""


class ReceiveMode(StrEnum):
    """Whose frames are delivered to the host."""

    ACTIVE = "active"
    """The slave that sends; for a short drain also unicast on the one before it."""
    KERNEL = "kernel"
    """net_failover_handle_frame()'s rule: never the standby's while a primary is registered."""
    ANY = "any"
    """Every slave's. A frame that a switch floods to two slaves arrives twice."""


class Reselect(StrEnum):
    """When a better slave that is ready takes over from one in use (bonding.rst, primary_reselect)."""

    ALWAYS = "always"
    BETTER = "better"
    """Only if its link is faster, or as fast and full duplex where the other is not."""
    FAILURE = "failure"
    """Only when the one in use fails."""


class DataPathName(StrEnum):
    """What carries the frames."""

    COPY = "copy"
    """The pump, between the TAP and packet sockets."""
    REDIRECT = "redirect"
    """The kernel, by filters of tc (tapbond.datapath.redirect)."""
    AUTO = "auto"
    """The kernel where that works and nothing asked for needs the copy."""


class Slots(StrEnum):
    """How many slaves a failover takes."""

    ANY = "any"
    """A primary, a standby and any number of backups that were named."""
    KERNEL = "kernel"
    """net_failover's two: a primary and a standby."""


class MacPolicyName(StrEnum):
    """Whose MAC is whose (tapbond.macpolicy)."""

    SAME = "same"
    """net_failover's rule: only links that have the failover's MAC."""
    SET = "set"
    """Each slave gets the failover's MAC, and its own back when it is released (bonding: fail_over_mac=none)."""
    FOLLOW = "follow"
    """The failover takes the active slave's MAC (bonding: fail_over_mac=active)."""


class MiiStatus(StrEnum):
    """What a slave's link is worth, in the words of bonding (bond_slave_link_status(), include/net/bonding.h)."""

    UP = "up"
    GOING_DOWN = "going down"
    """Lost, and tolerated for the downdelay."""
    DOWN = "down"
    GOING_BACK = "going back"
    """Up again, and not preferred before its updelay is over."""


class Detector(StrEnum):
    """Who saw first what led to a switchover."""

    NETLINK = "netlink"
    POLL = "poll"
    PUMP = "pump"
    PROBE = "probe"
    CONTROL = "control"


class Link(msgspec.Struct, frozen=True, kw_only=True):
    """One network interface as rtnetlink(7) tells it."""

    ifindex: int
    name: str
    mac: str
    """The address in use, ``aa:bb:cc:dd:ee:ff``; empty for a link without one."""
    permanent_mac: str = ""
    """IFLA_PERM_ADDRESS where the driver has one, else empty."""
    mtu: int = 1500
    up: bool = False
    """Administratively up (IFF_UP)."""
    carrier: bool = False
    """The link has a carrier (IFF_LOWER_UP): netif_carrier_ok(), before linkwatch has told of it."""
    ethernet: bool = True
    """ARPHRD_ETHER."""
    master: int = 0
    """ifindex of the bridge, bond … that it is a port of; 0: none."""
    kind: str = ""
    """IFLA_INFO_KIND: ``veth``, ``bridge`` …; empty for most hardware."""
    qdisc: str = ""
    """What queues its frames; ``noqueue``: nothing does."""
    addr_gen_mode: int | None = None
    """IN6_ADDR_GEN_MODE_*; None where the link has no IPv6."""
    min_mtu: int = 0
    max_mtu: int = 0
    """IFLA_MIN_MTU and IFLA_MAX_MTU in bytes; 0: no limit is known."""
    promiscuity: int = 0
    """How many want every frame (IFLA_PROMISCUITY): a bridge that it is a port of, tcpdump, a macvlan on a TAP."""
    allmulti: int = 0
    """How many want every group (IFLA_ALLMULTI, since Linux 6.0)."""
    parent: int = 0
    """IFLA_LINK: ifindex of the link that a macvlan or VLAN is stacked on, of a veth's peer; 0: none here."""
    vlan: tuple[int, int] | None = None
    """TPID and id of a VLAN device."""
    alias: str = ""
    """IFLA_IFALIAS."""
    altnames: frozenset[str] = frozenset()
    """IFLA_ALT_IFNAME."""
    bus: str = ""
    """IFLA_PARENT_DEV_BUS_NAME (since Linux 5.14): ``pci``, ``virtio`` …; empty: no device, or not told."""
    netns: int = 0
    """Number of the network namespace in which ``ifindex`` means this link."""

    @property
    def key(self) -> tuple[int, int]:
        """What tells it from every other link there is: an ifindex alone means nothing."""
        return self.netns, self.ifindex


class SlaveFacts(msgspec.Struct, frozen=True, kw_only=True):
    """All that the policy knows of one slave. Times are CLOCK_MONOTONIC in ns."""

    port: int
    """Its place in the pump."""
    role: Role
    up: bool
    carrier: bool
    prio: int = 0
    """The highest goes first, after the primary (bonding.rst, prio)."""
    sticky: bool = False
    """Once active it stays so while it is ready, whatever comes (teamd.conf(5), sticky)."""
    forced: bool = False
    """A primary that was just registered for the first time: it is taken whatever ``reselect`` says."""
    speed: int = 0
    """Of its link in Mbit/s; 0: unknown."""
    full_duplex: bool = False
    answered: bool = True
    """False: probes over its path go unanswered though its link is fine."""
    tolerated_until_ns: int = 0
    """Its link was lost a moment ago (downdelay): until this time it still counts as ready."""
    settled_ns: int = 0
    """Its link came up a moment ago (updelay): until this time others are preferred."""
    held_until_ns: int = 0
    """Not to be used before this time: sends failed though the link says it is fine."""

    def ready(self, now_ns: int) -> bool:
        """Return netif_running() && netif_carrier_ok(), or lost less than the downdelay ago; and not held."""
        return ((self.up and self.carrier) or now_ns < self.tolerated_until_ns) and now_ns >= self.held_until_ns

    def mii_status(self, active: bool, now_ns: int) -> MiiStatus:
        """Return what bonding would call it; one that sends is not held back by its updelay."""
        if not self.ready(now_ns) or not self.answered:
            return MiiStatus.DOWN
        if not (self.up and self.carrier):
            return MiiStatus.GOING_DOWN
        return MiiStatus.GOING_BACK if not active and now_ns < self.settled_ns else MiiStatus.UP


class Decision(msgspec.Struct, frozen=True, kw_only=True):
    """What the policy wants; equal decisions need no action."""

    order: tuple[int, ...]
    """Ports of the ready slaves: the one that sends, then who follows when a send fails."""
    receive: frozenset[int]
    """Ports that deliver, unless ``receive_sender``."""
    receive_sender: bool
    """Only the sender delivers, whoever that is."""
    drain: bool
    """A slave that stops receiving still delivers unicast for the drain time."""
    requested: int | None
    """The manual choice, while it holds."""
    wake_ns: int | None = None
    """Decide again at this time even if nothing happens (CLOCK_MONOTONIC); not part of the comparison."""

    @property
    def active(self) -> int | None:
        """The port that sends, or None."""
        return self.order[0] if self.order else None


class Counters(msgspec.Struct, frozen=True, kw_only=True):
    """Frames that passed one slave, or all of them; a GSO super-frame counts as one."""

    tx_frames: int = 0
    tx_bytes: int = 0
    tx_errors: int = 0
    tx_dropped: int = 0
    tx_resent: int = 0
    rx_frames: int = 0
    rx_bytes: int = 0
    rx_errors: int = 0
    rx_dropped: int = 0
    rx_duplicate: int = 0
    announced: int = 0

    def __add__(self, other: "Counters") -> "Counters":
        return Counters(**{f: getattr(self, f) + getattr(other, f) for f in COUNTER_FIELDS})

    def __sub__(self, other: "Counters") -> "Counters":
        return Counters(**{f: getattr(self, f) - getattr(other, f) for f in COUNTER_FIELDS})


COUNTER_FIELDS = tuple(field.name for field in msgspec.structs.fields(Counters))


class LinkCounters(msgspec.Struct, frozen=True, kw_only=True):
    """What drivers count on links: struct rtnl_link_stats64 of include/uapi/linux/if_link.h, in its order."""

    rx_packets: int = 0
    tx_packets: int = 0
    rx_bytes: int = 0
    tx_bytes: int = 0
    rx_errors: int = 0
    tx_errors: int = 0
    rx_dropped: int = 0
    tx_dropped: int = 0
    multicast: int = 0
    collisions: int = 0
    rx_length_errors: int = 0
    rx_over_errors: int = 0
    rx_crc_errors: int = 0
    rx_frame_errors: int = 0
    rx_fifo_errors: int = 0
    rx_missed_errors: int = 0
    tx_aborted_errors: int = 0
    tx_carrier_errors: int = 0
    tx_fifo_errors: int = 0
    tx_heartbeat_errors: int = 0
    tx_window_errors: int = 0
    rx_compressed: int = 0
    tx_compressed: int = 0
    rx_nohandler: int = 0
    rx_otherhost_dropped: int = 0
    """Since Linux 5.19."""


LINK_COUNTER_FIELDS = tuple(field.name for field in msgspec.structs.fields(LinkCounters))


class Switchover(msgspec.Struct, frozen=True, kw_only=True, tag="switchover", tag_field="event"):
    """One change of the slave that sends. Times are CLOCK_MONOTONIC in ns."""

    failover: str
    serial: int
    """Counts the switchovers of this failover from 1."""
    from_slave: str | None
    to_slave: str | None
    """None: nobody was ready."""
    cause: str
    detector: Detector
    detected_ns: int
    decided_ns: int
    first_tx_ns: int | None = None
    """First frame of the host sent on the new slave; None: none within the time of the record."""
    first_rx_ns: int | None = None
    resent: int = 0
    """Frames whose send failed on one slave and that another one sent."""
    dropped: int = 0
    """Frames lost because nobody could send them."""
    duplicates: int = 0
    """Copies recognised and dropped during the drain."""


class SlaveRegistered(msgspec.Struct, frozen=True, kw_only=True, tag="registered", tag_field="event"):
    """A link became a slave."""

    failover: str
    slave: str
    role: Role
    ifindex: int
    isolation: str


class SlaveReleased(msgspec.Struct, frozen=True, kw_only=True, tag="released", tag_field="event"):
    """A slave was unplugged, or given back as it was found."""

    failover: str
    slave: str
    role: Role
    reason: str


class SlaveRefused(msgspec.Struct, frozen=True, kw_only=True, tag="refused", tag_field="event"):
    """A link matched but could not become a slave; it was left alone."""

    failover: str
    link: str
    reason: str


class CarrierChanged(msgspec.Struct, frozen=True, kw_only=True, tag="carrier", tag_field="event"):
    """The failover's own carrier was switched: on while any slave is ready."""

    failover: str
    carrier: bool


class ChangeRefused(msgspec.Struct, frozen=True, kw_only=True, tag="change_refused", tag_field="event"):
    """Something set on the failover could not be passed on to its slaves."""

    failover: str
    change: str
    """``MTU 9400``, ``MAC …``: taken back everywhere; ``up``: one slave did not open."""
    reason: str


class DataPathChanged(msgspec.Struct, frozen=True, kw_only=True, tag="datapath_changed", tag_field="event"):
    """Frames take another path from now on."""

    failover: str
    datapath: DataPathName
    """``copy`` or ``redirect``."""
    reason: str
    """Why they are copied; empty where they are redirected."""


Event = (
    Switchover | SlaveRegistered | SlaveReleased | SlaveRefused | CarrierChanged | ChangeRefused | DataPathChanged
)
