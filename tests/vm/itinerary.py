"""docs/migration-table.md: what a migration costs, subject by subject, step by step."""

from moving import MIGRATE, Journey

INTRO = """# A live migration, step by step

One guest moves from one QEMU to another, each behind a switch of its own, while numbered datagrams (200 a second)
and a TCP connection (100 numbers a second) go both ways between it and a far host. The steps are those of the
kernel's [document](https://docs.kernel.org/networking/net_failover.html): its virtio-net is the standby, an e1000e
stands for the VF. Between two steps there is half a second.

Datagrams lost from the guest (→) and to it (←), and the longest silence from the guest beyond the 5 ms between
datagrams. While it migrates, QEMU stops the guest to copy the rest of its memory: that pause is QEMU's, and in
the last line.

One run, in software emulation; `make test-vm VM=--update-docs` writes this file, and `make test-vm` fails where
TCP does not survive, anything arrives twice, or the guest is not reachable by its primary at the end.
"""


def _tcp(one: Journey) -> str:
    return one.tcp_error or f"survives, silent for {one.tcp_silence_ms:.0f} ms at most"


def itinerary(journeys: dict[str, Journey]) -> str:
    """Return the document."""
    names = list(journeys)
    lines = ["", f"| step | {' | '.join(names)} |", "|---" * (len(names) + 1) + "|"]
    steps = zip(*(done.steps for done in journeys.values()), strict=True)
    for row in steps:
        cells = (f"{step.lost_out} → {step.silence_out_ms:.0f} ms, {step.lost_in} ←" for step in row)
        title = f"{row[0].name} (with QEMU's pause)" if row[0].name == MIGRATE else row[0].name
        lines.append(f"| {title} | {' | '.join(cells)} |")
    done = list(journeys.values())
    for title, values in (
        ("datagrams that arrived twice", [str(one.duplicated) for one in done]),
        ("TCP", [_tcp(one) for one in done]),
        ("QEMU: stop and copy / whole", [f"{one.downtime_ms} ms / {one.total_ms / 1000:.1f} s" for one in done]),
    ):
        lines.append(f"| {title} | {' | '.join(values)} |")
    return INTRO + "\n".join(lines) + "\n"
