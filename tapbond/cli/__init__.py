"""The command line: one command a file, each a few lines over the library."""

import sys

import click

from tapbond.cli import (
    add,
    bench,
    demo,
    destroy,
    doctor,
    migrate,
    monitor,
    rank,
    reattach,
    remove,
    restore,
    run,
    status,
    switch,
    teaming,
)
from tapbond.errors import TapbondError


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="tapbond", message="%(prog)s %(version)s")
def cli() -> None:
    """One network interface that survives its primary: the kernel's net_failover in userspace."""


for command in (
    run,
    status,
    switch,
    add,
    remove,
    rank,
    destroy,
    restore,
    monitor,
    demo,
    bench,
    doctor,
    teaming,
    migrate,
    reattach,
):
    cli.add_command(command.command)


def main() -> None:
    """Run a command; an error is one line on standard error and exit status 1."""
    try:
        cli(prog_name="tapbond")
    except TapbondError as error:
        click.echo(f"tapbond: {error}", err=True)
        sys.exit(1)
    except BrokenPipeError:
        sys.exit(1)
