"""A status for people, in the words of ``ip -details link`` and of bonding."""

from collections.abc import Callable

from tapbond.formats.procfs import fail_over_mac, primary
from tapbond.model import Role
from tapbond.settings import MS
from tapbond.state import SlaveStatus, Status

Paint = Callable[[str, str], str]
"""Takes a text and the name of its colour."""

COLUMNS = "SLAVE, ROLE, STATE, MII_STATUS, FAILURES, PERM_HWADDR, TX FRAMES, RX FRAMES, RE-SENT, DROPPED"
HEADS = tuple(COLUMNS.split(", "))
NUMBERS = frozenset(("FAILURES", "TX FRAMES", "RX FRAMES", "RE-SENT", "DROPPED"))
STATE = HEADS.index("STATE")


def plain(text: str, _colour: str) -> str:
    """Return the text as it is."""
    return text


def describe(status: Status, paint: Paint = plain) -> list[str]:
    """Return a status as lines of text."""
    why = f" ({status.datapath_reason})" if status.datapath_reason else ""
    queues = f", {status.queues} queues" if status.queues > 1 else ""
    return [
        _head(status, paint),
        f"    link/ether {status.mac}",
        *_whereabouts(status),
        *_rules(status, paint),
        f"    rx {status.rx}, isolation {status.isolation}, datapath {status.datapath}{queues}{why}",
        f"    switchovers {status.switchovers}, up {status.uptime_s:.0f} s, pid {status.pid}",
        *_slaves(status, paint),
        *_probes(status),
        *_links(status),
    ]


def _head(status: Status, paint: Paint) -> str:
    flags = ",".join(name for name, on in (("UP", status.up), ("LOWER_UP", status.carrier)) if on)
    state = "DOWN" if not status.up else "UP" if status.carrier else "LOWERLAYERDOWN"
    state = paint(state, "green" if state == "UP" else "red")
    return f"{status.ifindex}: {status.name}: <{flags}> mtu {status.mtu} state {state}"


def _whereabouts(status: Status) -> list[str]:
    """Return what its interface is called and where it is, if that is not what one would think."""
    where = {"": "", "?": " in a network namespace that cannot be seen from here"}
    if status.interface in ("", status.name) and not status.netns:
        return []
    return [f"    interface {status.interface}{where.get(status.netns, f' in {status.netns}')}"]


def _rules(status: Status, paint: Paint) -> list[str]:
    rules = status.rules
    active = paint(status.active or "none", "green" if status.active else "red")
    facts = {
        "tapbond mode": "active-backup",
        "active_slave": active + (" (by hand)" if status.requested else ""),
        "primary": primary(status) or "none",
        "primary_reselect": rules.reselect,
    }
    times = {
        "miimon": rules.poll_ns // MS,
        "updelay": rules.updelay_ns // MS,
        "downdelay": rules.downdelay_ns // MS,
        "num_grat_arp": rules.announce_count,
        "peer_notif_delay": rules.announce_interval_ns // MS,
        "fail_over_mac": fail_over_mac(status),
    }
    probing = {
        "arp_interval": rules.probing.interval_ns // MS,
        "arp_missed_max": rules.probing.missed_max,
        "arp_all_targets": "all" if rules.probing.all_targets else "any",
        "targets": ",".join(rules.probing.targets),
    }
    lines = (facts, times, probing) if rules.probing.targets else (facts, times)
    return ["    " + " ".join(f"{name} {value}" for name, value in line.items()) for line in lines]


def _slaves(status: Status, paint: Paint) -> list[str]:
    rows = [HEADS, *(_row(slave) for slave in status.slaves), _total(status)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEADS))]
    lines = []
    for row in rows:
        cells = [
            cell.rjust(width) if head in NUMBERS else cell.ljust(width)
            for head, cell, width in zip(HEADS, row, widths, strict=True)
        ]
        text, colour = row[STATE], _colour(row[STATE])
        if colour:
            cells[STATE] = paint(text, colour) + " " * (widths[STATE] - len(text))
        lines.append("    " + "  ".join(cells).rstrip())
    return lines


def _row(slave: SlaveStatus) -> tuple[str, ...]:
    counters = slave.counters
    numbers = (counters.tx_frames, counters.rx_frames, counters.tx_resent, counters.tx_dropped)
    return (
        slave.name,
        _role(slave),
        _state(slave),
        slave.mii_status,
        str(slave.link_failures),
        slave.permanent_mac or slave.mac,
        *map(str, numbers),
    )


def _total(status: Status) -> tuple[str, ...]:
    total = status.counters
    return ("total", *[""] * 5, *map(str, (total.tx_frames, total.rx_frames, total.tx_resent, total.tx_dropped)))


def _state(slave: SlaveStatus) -> str:
    if slave.ready and not slave.answered:
        return "active, no answer" if slave.active else "no answer"
    return "active" if slave.active else "ready" if slave.ready else _why(slave)


def _colour(state: str) -> str:
    if state in ("", "ready", "STATE"):
        return ""
    return {"active": "green", "down": "red", "no carrier": "red"}.get(state, "yellow")


def _role(slave: SlaveStatus) -> str:
    prio = f" {slave.prio}" if slave.prio or slave.role is Role.BACKUP else ""
    return f"{slave.role}{prio}{' sticky' if slave.sticky else ''}"


def _why(slave: SlaveStatus) -> str:
    if not slave.up:
        return "down"
    return "held" if slave.carrier else "no carrier"


def _probes(status: Status) -> list[str]:
    return [
        f"    probe {probe.target} over {slave.name}: {'answered' if probe.answered else 'no answer'},"
        f" missed {probe.missed}" + ("" if probe.rtt_ns is None else f", rtt {probe.rtt_ns / MS:.2f} ms")
        for slave in status.slaves
        for probe in slave.probes
    ]


def _links(status: Status) -> list[str]:
    links = status.links
    sums = (
        f"tx {links.tx_packets} frames {links.tx_bytes} bytes",
        f"rx {links.rx_packets} frames {links.rx_bytes} bytes",
        f"errors {links.tx_errors + links.rx_errors}",
        f"dropped {links.tx_dropped + links.rx_dropped}",
    )
    lines = [f"    links: {', '.join(sums)}"]
    if status.last_switchovers:
        last = status.last_switchovers[-1]
        between = f"{last.from_slave or 'none'} -> {last.to_slave or 'none'}"
        lines.append(f"    last switchover: {between}, {last.cause} (seen by {last.detector})")
    return lines
