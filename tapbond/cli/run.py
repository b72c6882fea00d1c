"""``tapbond run``."""

import os
import re
from pathlib import Path

import click

from tapbond.cli.options import run_dir_option
from tapbond.model import ReceiveMode

MAC = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")
GROUP_BIT = 1


def _mac(_context: click.Context, _option: click.Parameter, value: str | None) -> str | None:
    if value is None:
        return None
    if not MAC.fullmatch(value):
        raise click.BadParameter(f"{value}: not a MAC address (aa:bb:cc:dd:ee:ff)")
    if int(value[:2], 16) & GROUP_BIT:
        raise click.BadParameter(f"{value}: a group address cannot be a link's own")
    return value.lower()


def _open_fd(_context: click.Context, _option: click.Parameter, value: int | None) -> int | None:
    if value is not None:
        try:
            os.fstat(value)
        except OSError as error:
            raise click.BadParameter(f"{value}: not an open file descriptor") from error
    return value


@click.command("run")
@click.argument("failover", metavar="NAME")
@click.option(
    "--standby", metavar="LINK", help="The link that is always there; the failover takes its MAC and MTU."
)
@click.option("--primary", metavar="LINK", help="The link that is used whenever it is ready; it may come later.")
@click.option("--mac", callback=_mac, help="The failover's MAC, where the standby may come later.")
@click.option("--mtu", type=click.IntRange(68, 65521), help="The failover's MTU.  [default: the standby's]")
@click.option(
    "--isolation",
    type=click.Choice(["auto", "bridge", "nft", "none"]),
    default="auto",
    show_default=True,
    help="How the slaves' own IP stack is kept out.",
)
@click.option(
    "--rx",
    type=click.Choice([mode.value for mode in ReceiveMode]),
    default=ReceiveMode.ACTIVE.value,
    show_default=True,
    help="Whose frames are delivered.",
)
@click.option(
    "--drain",
    type=click.IntRange(0, 10_000),
    default=50,
    show_default=True,
    metavar="MS",
    help="How long the former slave still delivers unicast after a switchover.",
)
@click.option(
    "--updelay",
    type=click.IntRange(0, 600_000),
    default=50,
    show_default=True,
    metavar="MS",
    help="How long a link must have been up before it is preferred to one in use.",
)
@click.option(
    "--poll",
    type=click.IntRange(0, 10_000),
    default=10,
    show_default=True,
    metavar="MS",
    help="Interval of the carrier poll; 0: only netlink's events and send errors.",
)
@click.option(
    "--ready-fd",
    type=click.IntRange(0),
    callback=_open_fd,
    metavar="FD",
    help="Write a line there when traffic can pass.",
)
@run_dir_option
@click.option("-v", "--verbose", is_flag=True, help="Say not only what happens, but also why.")
@click.option("-q", "--quiet", is_flag=True, help="Say only what is wrong.")
def command(
    failover: str,
    standby: str | None,
    primary: str | None,
    mac: str | None,
    mtu: int | None,
    isolation: str,
    rx: str,
    drain: int,
    updelay: int,
    poll: int,
    ready_fd: int | None,
    run_dir: Path | None,
    verbose: bool,
    quiet: bool,
) -> None:
    r"""Create the failover interface NAME and carry its frames until SIGTERM or SIGINT.

    \b
    Links that have the failover's MAC become its slaves when they appear, and
    again when they come back. At the end they are left as they were found.
    """
    from tapbond.failover import Failover  # noqa: PLC0415  (pyroute2 takes its time: not for --help)
    from tapbond.service.daemon import run, serve  # noqa: PLC0415
    from tapbond.service.logs import configure  # noqa: PLC0415

    if standby is None and mac is None:
        raise click.UsageError("give --standby LINK, or --mac to wait for links with that address")
    configure(verbose=verbose, quiet=quiet)

    async def main() -> None:
        master = Failover(
            failover,
            standby=standby,
            primary=primary,
            mac=mac,
            mtu=mtu,
            rx=rx,
            isolation=isolation,
            drain_ns=drain * 1_000_000,
            updelay_ns=updelay * 1_000_000,
            poll_s=poll / 1000,
            run_dir=run_dir,
        )
        await serve(master, run_dir, ready_fd)

    run(main())
