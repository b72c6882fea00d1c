"""Switchover records as lines for people."""

from datetime import UTC, datetime, tzinfo

from tapbond.model import Switchover

NS_PER_MS = 1e6


def line(record: Switchover, ahead_ns: int, zone: tzinfo = UTC) -> str:
    """Return one record in one line.

    Args:
        record: of a switchover.
        ahead_ns: what CLOCK_REALTIME is ahead of CLOCK_MONOTONIC, whose times records have.
        zone: to tell the time of day in.
    """
    when = datetime.fromtimestamp((record.detected_ns + ahead_ns) / 1e9, zone)
    fields = [
        f"{when:%Y-%m-%d %H:%M:%S}.{when.microsecond // 1000:03d}",
        f"#{record.serial}",
        f"{record.from_slave or 'none'} -> {record.to_slave or 'none'}:",
        f"{record.cause} (seen by {record.detector});",
        f"decided {_after(record, record.decided_ns)},",
        f"first sent {_after(record, record.first_tx_ns)}, first received {_after(record, record.first_rx_ns)};",
        f"re-sent {record.resent}, dropped {record.dropped}, duplicates {record.duplicates}",
    ]
    return " ".join(fields)


def _after(record: Switchover, when_ns: int | None) -> str:
    if when_ns is None:
        return "-"
    return f"+{(when_ns - record.detected_ns) / NS_PER_MS:.2f} ms"
