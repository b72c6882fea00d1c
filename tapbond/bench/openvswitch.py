"""Open vSwitch's userspace datapath with an active-backup bond, run by hand (ovs-vswitchd(8)).

Its database, sockets and logs are in a folder of its own; nothing of an Open vSwitch that this machine may be
running is touched.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tapbond.errors import TapbondError
from tapbond.lab import leash
from tapbond.lab.waiting import wait_until

if TYPE_CHECKING:
    from tapbond.lab.namespace import Namespace

TOOLS = ("ovsdb-tool", "ovsdb-server", "ovs-vsctl", "ovs-vswitchd", "ovs-appctl")
SCHEMAS = ("/usr/share/openvswitch/vswitch.ovsschema", "/usr/local/share/openvswitch/vswitch.ovsschema")
DEADLINE_S = 20.0
BOND = "bond0"
ACTIVE = re.compile(r"^(?:member|slave) (\S+): .*\n\s+active (?:member|slave)$", re.MULTILINE)
"""Of bond/show, whose words changed from slave to member; beside the active one's MAC it may name the other."""


def program(name: str) -> str | None:
    """Return where a program is: daemons are in sbin, which only root has in its PATH."""
    return shutil.which(name) or shutil.which(name, path="/usr/local/sbin:/usr/sbin:/sbin")


def missing() -> str | None:
    """Return what is not installed, None when all is there."""
    lacking = next((tool for tool in TOOLS if program(tool) is None), None)
    if lacking is None and not any(Path(schema).exists() for schema in SCHEMAS):
        lacking = SCHEMAS[0]
    return f"{lacking} is not installed (Debian: apt-get install openvswitch-switch)" if lacking else None


class OpenVSwitch:
    """A bridge ``tb0`` over a bond of two links in a network namespace; it ends with the namespace.

    Args:
        namespace: where the links are.
        folder: for all its files; a short path, as sockets are there.
        tso: userspace-tso-enable, set before the daemon starts, as it has to be.

    Raises:
        TapbondError: a part of it did not start, with its last words.
    """

    def __init__(self, namespace: Namespace, folder: Path, *, tso: bool) -> None:
        self._namespace = namespace
        self._folder = folder
        names = ("RUNDIR", "LOGDIR", "DBDIR", "SYSCONFDIR")
        self._env = {**os.environ, **{f"OVS_{name}": str(folder) for name in names}}
        schema = next(schema for schema in SCHEMAS if Path(schema).exists())
        self._tool("ovsdb-tool", "create", str(folder / "conf.db"), schema)
        self._start("ovsdb-server", str(folder / "conf.db"), f"--remote=punix:{folder}/db.sock")
        self._wait_for((folder / "db.sock").exists, "ovsdb-server")
        self._configure("--no-wait", "init")
        if tso:
            self._configure("--no-wait", "set", "Open_vSwitch", ".", "other_config:userspace-tso-enable=true")
        self.daemon = self._start("ovs-vswitchd", f"unix:{folder}/db.sock")

    def make_bond(self, bridge: str, mac: str, mtu: int, standby: str, primary: str) -> None:
        """Make the bridge and the bond; TapbondError: it did not come to that."""
        self._configure(
            *("--", "add-br", bridge),
            *("--", "set", "Bridge", bridge, "datapath_type=netdev", f'other-config:hwaddr="{mac}"'),
            *self._add_bond(bridge, standby, primary),
            *(
                word
                for link in (standby, primary)
                for word in ("--", "set", "Interface", link, f"mtu_request={mtu}")
            ),
            *("--", "set", "Interface", bridge, f"mtu_request={mtu}"),
        )
        self._wait_for(lambda: self._exists(bridge), "ovs-vswitchd")

    def make_bond_again(self, bridge: str, standby: str, primary: str) -> None:
        """Take the bond down and make it anew: of a link that is plugged in again it opens nothing by itself."""
        self._configure("--", "del-port", bridge, BOND, *self._add_bond(bridge, standby, primary))

    @staticmethod
    def _add_bond(bridge: str, standby: str, primary: str) -> tuple[str, ...]:
        return (
            *("--", "add-bond", bridge, BOND, standby, primary, "bond_mode=active-backup"),
            *("--", "set", "Port", BOND, f"other_config:bond-primary={primary}"),
        )

    def active(self) -> str | None:
        """Return which of the bond's links sends, None: none does."""
        found = ACTIVE.search(self._ask("bond/show", BOND))
        return found[1] if found else None

    def use(self, link: str) -> None:
        """Let a link of the bond send: as its primary, for else the primary takes over again at once."""
        self._configure("--", "set", "Port", BOND, f"other_config:bond-primary={link}")

    def _ask(self, *words: str) -> str:
        return self._tool("ovs-appctl", "-t", f"{self._folder}/ovs-vswitchd.ctl", *words)

    def _exists(self, ifname: str) -> bool:
        with suppress(OSError):
            return self._namespace.index_of(ifname) > 0
        return False

    def _configure(self, *words: str) -> None:
        self._tool("ovs-vsctl", f"--db=unix:{self._folder}/db.sock", f"--timeout={DEADLINE_S:.0f}", *words)

    def _tool(self, *argv: str) -> str:
        path = program(argv[0]) or argv[0]
        done = subprocess.run([path, *argv[1:]], env=self._env, capture_output=True, text=True, check=False)  # noqa: S603
        if done.returncode:
            raise TapbondError(f"{argv[0]}: {_last_line(done.stderr)}")
        return done.stdout

    def _start(self, daemon: str, *arguments: str) -> subprocess.Popen[Any]:
        path = program(daemon)
        with (self._folder / f"{daemon}.out").open("wb") as out:
            return self._namespace.spawn(
                [
                    *(sys.executable, "-IS", leash.__file__, str(os.getpid()), str(path), *arguments),
                    *("--no-chdir", f"--unixctl={self._folder}/{daemon}.ctl", "-vconsole:warn", "-vsyslog:off"),
                ],
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=out,
                start_new_session=True,
            )

    def _wait_for(self, condition: Any, daemon: str) -> None:
        try:
            wait_until(condition, DEADLINE_S, daemon)
        except TimeoutError as error:
            said = (self._folder / f"{daemon}.out").read_text(encoding="utf-8", errors="replace")
            raise TapbondError(f"{daemon} did not get ready: {_last_line(said)}") from error


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    return lines[-1] if lines else "it says nothing"
