"""``tapbond status``."""

from pathlib import Path

import click
import msgspec

from tapbond.cli.options import connect, run_dir_option, running
from tapbond.errors import ControlError
from tapbond.model import Role
from tapbond.state import SlaveStatus, Status


@click.command("status")
@click.argument("failover", metavar="[NAME]", required=False)
@click.option("--json", "as_json", is_flag=True, help="Print everything as one JSON object a failover and line.")
@run_dir_option
def command(failover: str | None, as_json: bool, run_dir: Path | None) -> None:
    """Show the failover NAME, or all that run in this network namespace."""
    names = [failover] if failover else running(run_dir)
    if not names:
        raise ControlError("no failover runs in this network namespace")
    for number, name in enumerate(names):
        with connect(name, run_dir) as client:
            status = client.status()
        if as_json:
            click.echo(msgspec.json.encode(status))
            continue
        if number:
            click.echo()
        for line in describe(status):
            click.echo(line)


def describe(status: Status) -> list[str]:
    """Return a status as lines of text."""
    flags = f"{'UP' if status.up else 'DOWN'}, {'carrier on' if status.carrier else 'no carrier'}"
    chosen = ", by hand" if status.requested else ""
    why = f" ({status.datapath_reason})" if status.datapath_reason else ""
    queues = f", {status.queues} queues" if status.queues > 1 else ""
    lines = [
        f"{status.name}: <{flags}> mtu {status.mtu} {status.mac}",
        *_whereabouts(status),
        f"    active {status.active or 'none'}{chosen}, rx {status.rx}, isolation {status.isolation}",
        f"    datapath {status.datapath}{queues}{why}",
        f"    switchovers {status.switchovers}, up {status.uptime_s:.0f} s, pid {status.pid}",
    ]
    rows: list[tuple[str, ...]] = [("SLAVE", "ROLE", "STATE", "TX FRAMES", "RX FRAMES", "RE-SENT", "DROPPED")]
    rows += [_row(slave) for slave in status.slaves]
    total = status.counters
    rows.append(
        ("total", "", "", *map(str, (total.tx_frames, total.rx_frames, total.tx_resent, total.tx_dropped)))
    )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    for row in rows:
        cells = [
            cell.ljust(width) if column < 3 else cell.rjust(width)  # noqa: PLR2004  (words left, numbers right)
            for column, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        lines.append("    " + "  ".join(cells).rstrip())
    links = status.links
    lines.append(
        f"    links: tx {links.tx_packets} frames {links.tx_bytes} bytes, rx {links.rx_packets} frames"
        f" {links.rx_bytes} bytes, errors {links.tx_errors + links.rx_errors},"
        f" dropped {links.tx_dropped + links.rx_dropped}"
    )
    if status.last_switchovers:
        last = status.last_switchovers[-1]
        lines.append(
            f"    last switchover: {last.from_slave or 'none'} -> {last.to_slave or 'none'},"
            f" {last.cause} (seen by {last.detector})"
        )
    return lines


def _whereabouts(status: Status) -> list[str]:
    """Return what its interface is called and where it is, if that is not what one would think."""
    where = {"": "", "?": " in a network namespace that cannot be seen from here"}
    if status.interface in ("", status.name) and not status.netns:
        return []
    return [f"    interface {status.interface}{where.get(status.netns, f' in {status.netns}')}"]


def _row(slave: SlaveStatus) -> tuple[str, ...]:
    state = "active" if slave.active else "ready" if slave.ready else _why(slave)
    if slave.ready and not slave.answered:
        state = "active, no answer" if slave.active else "no answer"
    counters = slave.counters
    return (
        slave.name,
        _role(slave),
        state,
        *map(str, (counters.tx_frames, counters.rx_frames, counters.tx_resent, counters.tx_dropped)),
    )


def _role(slave: SlaveStatus) -> str:
    prio = f" {slave.prio}" if slave.prio or slave.role is Role.BACKUP else ""
    return f"{slave.role}{prio}{' sticky' if slave.sticky else ''}"


def _why(slave: SlaveStatus) -> str:
    if not slave.up:
        return "down"
    return "held" if slave.carrier else "no carrier"
