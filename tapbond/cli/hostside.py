"""What ``tapbond migrate`` and ``tapbond reattach`` take, both of them."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

Option = Callable[[Callable[..., Any]], Callable[..., Any]]

OPTIONS: tuple[Option, ...] = (
    click.argument("domain"),
    click.option(
        "--connect", metavar="URI", default="", help="libvirt that runs DOMAIN.  [default: qemu:///system]"
    ),
    click.option(
        "--device",
        type=click.Path(path_type=Path, dir_okay=False, exists=True),
        help="What plugs the VF: JSON for QEMU's device_add, or libvirt's XML.",
    ),
    click.option("--standby", metavar="ID", default="", help="Id or alias of the virtio NIC, if it is not clear."),
    click.option("--tap", metavar="LINK", default="", help="Its TAP, if the hypervisor does not tell."),
    click.option("--uplink", metavar="LINK", default="", help="The bridge's port to the network, often a VF too."),
    click.option("--pf", metavar="LINK", default="", help="The PF of the guest's VF.  [default: found by the VF]"),
    click.option("--vf", metavar="N", type=click.IntRange(0), help="The VF's number."),
    click.option("--netns", default="", help="Network namespace of bridge and PF: name, path or process id."),
    click.option(
        "--link-at-rest",
        type=click.Choice(["down", "up"]),
        default="down",
        help="The standby's link while there is no migration; up: it is left alone.  [default: down]",
    ),
    click.option(
        "--unplug-timeout",
        metavar="S",
        type=click.FloatRange(0, min_open=True),
        default=30.0,
        help="How long the guest may take to let go of the VF.  [default: 30]",
    ),
    click.option("--dry-run", is_flag=True, help="Look, print the plan with what undoes each step, and stop."),
    click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line."),
    click.option("--resume", is_flag=True, help="Go on where an earlier run was killed or stuck."),
    click.option("--abort", is_flag=True, help="Undo what an earlier run did."),
    click.option(
        "--state-dir",
        type=click.Path(path_type=Path, file_okay=False),
        envvar="TAPBOND_STATE_DIR",
        help="Where journals are.  [default: /var/lib/tapbond, else $XDG_STATE_HOME/tapbond]",
    ),
)


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add what both commands take."""
    for option in reversed(OPTIONS):
        command = option(command)
    return command


def domain_name(domain: str) -> str:
    """Return one name for a domain, however its socket is spelled."""
    return os.path.realpath(domain) if "/" in domain else domain
