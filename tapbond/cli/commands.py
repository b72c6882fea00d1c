"""Which commands there are. Each is imported when it is used, so that ``tapbond --help`` waits for none."""

from importlib import import_module
from typing import cast

import click

COMMANDS = {
    "run": "Create a failover interface and carry its frames.",
    "status": "Show a failover, or all.",
    "stats": "Show the counters of a failover, or of all.",
    "events": "Print the switchovers that were, and those to come.",
    "monitor": "Print what happens to a failover.",
    "switch": "Make a slave the active one, without losing a frame.",
    "add": "Make a link a slave.",
    "remove": "Give a slave back as it was found.",
    "rank": "Give a slave another place among the slaves.",
    "reload": "Have a failover read its configuration file again.",
    "destroy": "End a failover; its slaves are left as they were found.",
    "restore": "Put back what a failover that was killed left.",
    "check": "Say what is wrong with configuration files.",
    "schema": "Print the JSON Schema of configuration files.",
    "migrate": "Migrate a guest that has a VF, as one transaction.",
    "reattach": "Give a guest that has arrived a VF of this host.",
    "teaming": "Check a libvirt domain for the pair of a virtio interface and a VF.",
    "doctor": "Say what this machine and these rights allow.",
    "demo": "See a failover at work, in a network of namespaces.",
    "bench": "Measure tapbond on this machine.",
}
"""What each does; ``tapbond COMMAND --help`` says it at length. Each is a module beside this one."""


class Commands(click.Group):
    """All of them."""

    def list_commands(self, _context: click.Context) -> list[str]:
        """Return their names, in the order of the help."""
        return list(COMMANDS)

    def get_command(self, _context: click.Context, name: str) -> click.Command | None:
        """Return one; None: there is none of this name."""
        if name not in COMMANDS:
            return None
        return cast("click.Command", import_module(f"tapbond.cli.{name}").command)

    def format_commands(self, _context: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what each does."""
        with formatter.section("Commands"):
            formatter.write_dl(list(COMMANDS.items()))
