"""``tapbond check``."""

import sys
from pathlib import Path

import click


@click.command("check")
@click.argument("files", metavar="[FILE]...", nargs=-1, type=click.Path(path_type=Path))
def command(files: tuple[Path, ...]) -> None:
    """Say what is wrong with configuration files; without FILE, with all of /etc/tapbond.

    Each mistake is a line, FILE:LINE: what. Nothing is changed, and no link is
    looked at. The exit status is 0 when every file can be used.
    """
    from tapbond.config.file import SUFFIX, ConfigFile, folder  # noqa: PLC0415  (tomllib: not for --help)
    from tapbond.errors import ConfigError  # noqa: PLC0415

    found = files or tuple(sorted(folder().glob(f"*{SUFFIX}")))
    if not found:
        raise ConfigError([f"{folder()}: no configuration files there (NAME{SUFFIX}; or name a FILE)"])
    wrong = False
    for path in found:
        try:
            ConfigFile.read(path).settings(path.stem)
            click.echo(f"{path}: ok")
        except ConfigError as error:
            wrong = True
            for finding in error.findings:
                click.echo(finding, err=True)
    if wrong:
        sys.exit(1)
