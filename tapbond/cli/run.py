"""``tapbond run``."""

import ipaddress
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tapbond.cli.options import PRIO, run_dir_option
from tapbond.model import DataPathName, MacPolicyName, ReceiveMode, Reselect, Slots
from tapbond.queues import QUEUES_MAX
from tapbond.settings import AUTO, MS, US, Backup, Probing, Settings

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


def _prio(value: str, option: click.Parameter, context: click.Context) -> int:
    prio: int = click.ParamType.__call__(PRIO, value, option, context)
    return prio


def _backups(context: click.Context, option: click.Parameter, values: tuple[str, ...]) -> tuple[Backup, ...]:
    found = []
    for value in values:
        link, _, prio = value.partition(":")
        if not link:
            raise click.BadParameter(f"{value}: no link is named (LINK or LINK:PRIO)")
        found.append(Backup(link=link, prio=_prio(prio, option, context) if prio else 0))
    return tuple(found)


def _targets(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    try:
        return tuple(str(ipaddress.ip_address(value)) for value in values)
    except ValueError as error:
        raise click.BadParameter(f"{error} (10.0.0.1, fd00::1)") from error


def _queues(_context: click.Context, _option: click.Parameter, value: str) -> int | str:
    if value == AUTO:
        return value
    if not value.isdecimal() or not 1 <= int(value) <= QUEUES_MAX:
        raise click.BadParameter(f"{value}: not a number of queues (1 to {QUEUES_MAX}, or auto)")
    return int(value)


def _choice(*names: str, **options: Any) -> Any:
    values = [str(name) for name in names]  # not an enum's members: click would show their Python names
    return {"type": click.Choice(values), "default": values[0], "show_default": True, **options}


def _time(default: int, longest: int, **options: Any) -> Any:
    return {
        "type": click.IntRange(0, longest),
        "default": default,
        "show_default": True,
        "metavar": "MS",
        **options,
    }


OPTIONS = [
    click.option(
        "--standby", metavar="LINK", help="The link that is always there; the failover takes its MAC and MTU."
    ),
    click.option(
        "--primary",
        metavar="LINK",
        help="The link that outranks the others when it is ready (see --reselect, --sticky); it may come later.",
    ),
    click.option(
        "--backup",
        "backups",
        multiple=True,
        metavar="LINK[:PRIO]",
        callback=_backups,
        help="A further slave; after the primary the highest PRIO goes first, the standby's is 0. Repeatable.",
    ),
    click.option(
        "--sticky", multiple=True, metavar="LINK", help="A slave that stays active once it is. Repeatable."
    ),
    click.option("--mac", callback=_mac, help="The failover's MAC, where the standby may come later."),
    click.option(
        "--mac-policy",
        **_choice(*MacPolicyName),
        help="Slaves must have the failover's MAC, or are given it, or the failover follows the active one's.",
    ),
    click.option("--mtu", type=click.IntRange(68, 65521), help="The failover's MTU.  [default: the standby's]"),
    click.option(
        "--isolation",
        **_choice("auto", "bridge", "nft", "netns", "none"),
        help="How the slaves' own IP stack is kept out.",
    ),
    click.option(
        "--datapath",
        **_choice(*DataPathName),
        help="What carries the frames: the pump, filters of tc inside the kernel, or those where they will do.",
    ),
    click.option(
        "--queues",
        callback=_queues,
        default="1",
        show_default=True,
        metavar="N|auto",
        help="Queues of the failover, each copied by a thread of its own; auto: half as many as processors.",
    ),
    click.option("--rx", **_choice(*ReceiveMode), help="Whose frames are delivered."),
    click.option(
        "--slots", **_choice(*Slots), help="Any number of slaves, or the kernel's two: a primary and a standby."
    ),
    click.option(
        "--reselect",
        **_choice(*Reselect),
        help="When a better slave takes over from one in use: always, if its link is faster, or on failure only.",
    ),
    click.option("--drain", **_time(50, 10_000), help="How long the former slave still delivers unicast."),
    click.option(
        "--updelay", **_time(50, 600_000), help="How long a link must be up to be preferred to one in use."
    ),
    click.option("--downdelay", **_time(0, 600_000), help="How long a lost link is waited for before the switch."),
    click.option(
        "--hold-down",
        **_time(0, 300_000),
        help="Added to the updelay of a link that was lost; doubled each time it is lost again.",
    ),
    click.option(
        "--poll", **_time(10, 10_000), help="Interval of the carrier poll; 0: only events and send errors."
    ),
    click.option(
        "--busy-poll",
        type=click.IntRange(0, 1000),
        default=50,
        show_default=True,
        metavar="US",
        help="How long the pump stays awake after a frame, in µs, while that pays; 0: it sleeps at once.",
    ),
    click.option(
        "--announce",
        type=click.IntRange(0, 255),
        default=3,
        show_default=True,
        metavar="N",
        help="How often each switchover is announced to the network.",
    ),
    click.option("--announce-interval", **_time(100, 60_000), help="From one announcement to the next."),
    click.option(
        "--probe",
        "targets",
        multiple=True,
        metavar="ADDRESS",
        callback=_targets,
        help="Ask ADDRESS over each slave whether its path works, by ARP or IPv6 neighbour discovery. Repeatable.",
    ),
    click.option(
        "--probe-interval",
        type=click.IntRange(20, 60_000),
        default=100,
        show_default=True,
        metavar="MS",
        help="From one probe to the next.",
    ),
    click.option(
        "--probe-missed",
        type=click.IntRange(1, 255),
        default=2,
        show_default=True,
        metavar="N",
        help="So many unanswered in a row are too many.",
    ),
    click.option("--probe-targets", **_choice("any", "all"), help="How many targets must answer over a path."),
    click.option(
        "--probe-watchers",
        **_choice("all", "any"),
        help="Whether both ARP and neighbour probes must be answered, where both are used.",
    ),
    click.option(
        "--probe-grace", **_time(2000, 600_000), help="How long a path is trusted after its link came up."
    ),
    click.option(
        "--slave-netns", metavar="NETNS", help="Where the slaves are: a name (ip netns), a path or a process id."
    ),
    click.option(
        "--adopt",
        is_flag=True,
        help="Move the standby's addresses and routes to the failover, and back at the end.",
    ),
]


def _options(command: Callable[..., None]) -> Callable[..., None]:
    for option in reversed(OPTIONS):
        command = option(command)
    return command


@click.command("run")
@click.argument("failover", metavar="NAME")
@_options
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
    failover: str, ready_fd: int | None, run_dir: Path | None, verbose: bool, quiet: bool, **options: Any
) -> None:
    """Create the failover interface NAME and carry its frames until SIGTERM or SIGINT.

    \b
    Links that have the failover's MAC become its slaves when they appear, and
    again when they come back. At the end they are left as they were found.
    """  # noqa: D301  (click's mark for lines that stay as they are)
    from tapbond.failover import Failover  # noqa: PLC0415  (pyroute2 takes its time: not for --help)
    from tapbond.service.daemon import run, serve  # noqa: PLC0415
    from tapbond.service.logs import configure  # noqa: PLC0415

    if options["standby"] is None and options["mac"] is None:
        raise click.UsageError("give --standby LINK, or --mac to wait for links with that address")
    settings = _settings(failover, run_dir, options)
    log = configure(verbose=verbose, quiet=quiet)

    async def main() -> None:
        await serve(Failover(failover, settings=settings), run_dir, ready_fd)

    try:
        run(main())
    finally:
        log.drain()  # before the last line, which says why it ended


def _settings(failover: str, run_dir: Path | None, options: dict[str, Any]) -> Settings:
    """Return the settings that the command line asks for."""
    probing = Probing(
        targets=options.pop("targets"),
        interval_ns=options.pop("probe_interval") * MS,
        missed_max=options.pop("probe_missed"),
        all_targets=options.pop("probe_targets") == "all",
        any_watcher=options.pop("probe_watchers") == "any",
        grace_ns=options.pop("probe_grace") * MS,
    )
    times = {
        f"{name}_ns": options.pop(name) * MS
        for name in ("drain", "updelay", "downdelay", "hold_down", "announce_interval")
    }
    times["busy_poll_ns"] = options.pop("busy_poll") * US
    times["poll_s"] = options.pop("poll") / 1000
    announce_count = options.pop("announce")
    return Settings.of(
        failover, {**options, **times, "announce_count": announce_count, "probing": probing, "run_dir": run_dir}
    )
