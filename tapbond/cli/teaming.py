"""``tapbond teaming``."""

import os
import sys
from pathlib import Path

import click
import msgspec


@click.command("teaming")
@click.argument("domain", metavar="DOMAIN.xml", type=click.Path(path_type=Path, dir_okay=False, allow_dash=True))
@click.option("--fix", is_flag=True, help="Write the missing parts into the file.")
@click.option(
    "--output",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    help="Write the completed domain there instead; - is standard output.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the findings as one JSON array.")
def command(domain: Path, fix: bool, output: Path | None, as_json: bool) -> None:
    """Check a libvirt domain for the pair of a virtio interface and a VF.

    \b
    The pair is that of the kernel's net_failover document: a persistent virtio
    interface and a transient hostdev one with the same MAC. What is wrong is
    said with its line. Missing parts are written with --fix or --output; all
    the rest of the file stays as it is, byte for byte. DOMAIN.xml may be -.
    The exit status is 0 when the pair is right, with notes or without.
    """  # noqa: D301  (click's mark for lines that stay as they are)
    from tapbond.errors import TapbondError  # noqa: PLC0415
    from tapbond.teaming import Source, check, complete  # noqa: PLC0415

    piped = str(domain) == "-"
    if fix and (piped or output):
        raise click.UsageError("--fix writes into the file itself: give a file, and no --output")
    try:
        data = sys.stdin.buffer.read() if piped else domain.read_bytes()
        source = Source(data, "stdin" if piped else str(domain))
        if fix or output:
            completed = complete(source)
            _write(completed.data, output or domain, unless=None if output else data)
            source = completed
    except OSError as error:
        raise TapbondError(f"{error.filename or domain}: {error.strerror}") from error
    findings = check(source)
    if as_json:
        told = [
            {"line": f.line, "severity": f.severity, "text": f.text, "fixable": bool(f.cure)} for f in findings
        ]
        click.echo(msgspec.json.encode(told), err=str(output) == "-")
    else:
        for finding in findings:
            click.echo(f"{source.name}:{finding}", err=str(output) == "-")
        if not findings:
            click.echo(f"{source.name}: the pair is complete", err=str(output) == "-")
    if any(finding.severity == "error" for finding in findings):
        sys.exit(1)


def _write(data: bytes, path: Path, unless: bytes | None) -> None:
    """Replace a file whole, with the rights that it had; nothing is done where it says ``unless`` already."""
    if str(path) == "-":
        sys.stdout.buffer.write(data)
        return
    if data == unless:
        return
    path = path.resolve()  # what a symbolic link shows is replaced, not the link
    draft = path.with_name(f".{path.name}.new")
    with draft.open("wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())
    if path.exists():
        draft.chmod(path.stat().st_mode & 0o7777)
    draft.replace(path)
