"""``tapbond run``."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from tapbond.cli.options import run_dir_option
from tapbond.config.options import DEFAULTS
from tapbond.config.values import address_of, backup_of, mac_of, queues_of
from tapbond.model import DataPathName, MacPolicyName, ReceiveMode, Reselect, Slots

T = TypeVar("T")


def _value(meaning: Callable[[str], T]) -> Callable[[click.Context, click.Parameter, Any], Any]:
    """Return a callback that makes of a text, or of each of several, what it means."""

    def callback(_context: click.Context, _option: click.Parameter, value: Any) -> Any:
        try:
            return (
                tuple(map(meaning, value))
                if isinstance(value, tuple)
                else None
                if value is None
                else meaning(value)
            )
        except ValueError as error:
            raise click.BadParameter(str(error)) from error

    return callback


def _open_fd(_context: click.Context, _option: click.Parameter, value: int | None) -> int | None:
    if value is not None:
        try:
            os.fstat(value)
        except OSError as error:
            raise click.BadParameter(f"{value}: not an open file descriptor") from error
    return value


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
        callback=_value(backup_of),
        help="A further slave; after the primary the highest PRIO goes first, the standby's is 0. Repeatable.",
    ),
    click.option(
        "--sticky", multiple=True, metavar="LINK", help="A slave that stays active once it is. Repeatable."
    ),
    click.option("--mac", callback=_value(mac_of), help="The failover's MAC, where the standby may come later."),
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
        callback=_value(queues_of),
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
        callback=_value(address_of),
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
        "--metrics",
        metavar="[ADDRESS:]PORT",
        help="Serve metrics for Prometheus at /metrics there; only a port: on 127.0.0.1.",
    ),
    click.option(
        "--metrics-file",
        type=click.Path(dir_okay=False),
        metavar="FILE.prom",
        help="Write metrics there every 15 s and at each switchover, for node_exporter's textfile collector.",
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
    "--config",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Read options from here; the command line wins.  [default: /etc/tapbond/NAME.toml if it is there]",
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
@click.pass_context
def command(
    context: click.Context, /, failover: str, config: Path | None, ready_fd: int | None, **_options: Any
) -> None:
    """Create the failover interface NAME and carry its frames until SIGTERM or SIGINT.

    \b
    Links that have the failover's MAC become its slaves when they appear, and
    again when they come back. At the end they are left as they were found.
    """  # noqa: D301  (click's mark for lines that stay as they are)
    from tapbond.config.configuration import Configuration  # noqa: PLC0415  (tomllib: not for --help)
    from tapbond.config.file import find  # noqa: PLC0415

    given, file = typed(context), find(failover, config)
    if not {"standby", "mac"} & (given.keys() | file.options.keys()):
        where = f" (nor does {file.path} name any)" if file.path else ""
        raise click.UsageError(f"give --standby LINK, or --mac to wait for links with that address{where}")
    configuration = Configuration.of(failover, config, given, file)
    from tapbond.failover import Failover  # noqa: PLC0415  (pyroute2 takes its time: not for --help)
    from tapbond.service.daemon import run, serve  # noqa: PLC0415
    from tapbond.service.logs import configure  # noqa: PLC0415

    log = configure(verbose=configuration.verbose, quiet=configuration.quiet)

    async def main() -> None:
        await serve(Failover(failover, settings=configuration.settings), configuration, ready_fd)

    try:
        run(main())
    finally:
        log.drain()  # before the last line, which says why it ended


def typed(context: click.Context) -> dict[str, Any]:
    """Return the options that somebody gave, on the command line or in the environment."""
    given = (ParameterSource.COMMANDLINE, ParameterSource.ENVIRONMENT)
    return {
        name: value
        for name, value in context.params.items()
        if name in DEFAULTS and context.get_parameter_source(name) in given
    }
