"""``tapbond doctor``."""

import sys
from pathlib import Path

import click
import msgspec

from tapbond.cli.options import run_dir_option


@click.command("doctor")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON array.")
@run_dir_option
def command(as_json: bool, run_dir: Path | None) -> None:
    """Say what this machine and these rights allow, and how to get the rest.

    Each thing is tried for a moment and undone. The exit status is 0 when
    tapbond can run here.
    """
    from tapbond.doctor import run  # noqa: PLC0415  (pyroute2 takes its time: not for --help)

    findings = run(run_dir)
    if as_json:
        click.echo(msgspec.json.encode(findings))
    else:
        width = max(len(finding.what) for finding in findings)
        for finding in findings:
            mark = "ok  " if finding.ok else "FAIL" if finding.needed else "no  "
            hint = f"  -> {finding.way_out}" if finding.way_out else ""
            click.echo(f"{mark}  {finding.what.ljust(width)}  {finding.found}{hint}")
    if any(finding.needed and not finding.ok for finding in findings):
        sys.exit(1)
