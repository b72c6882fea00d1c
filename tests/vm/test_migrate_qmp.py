"""``tapbond migrate`` and ``reattach`` with real QEMUs: two hosts, their bridges, and a guest of 40 bytes.

            source                            destination
     up0 ──[ br0 ]── tap0 ═╗              ╔═ tap0 ──[ br0 ]── up0
                           guest  ──────▶ guest
                    e1000e ═╝              ╚═ e1000e
                  (the "VF")

The guest is a boot sector that does what an operating system does when ACPI asks it to let go of a device: it
ejects it. Another one never answers. No guest system, no KVM.
"""

import json
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tapbond.lab import wait_until
from tapbond.lab.namespace import Namespace
from tapbond.migration import HypervisorError, Transaction, UndoneError, Wishes, survey
from tapbond.migration.facts import Kind
from tapbond.migration.journal import Journal
from tapbond.migration.kernel import KernelNetwork
from tapbond.migration.qmp import Qmp
from tapbond.migration.step import Site

QEMU = "qemu-system-x86_64"
pytestmark = [pytest.mark.namespaces, pytest.mark.tools(QEMU), pytest.mark.timeout(180)]

MAC = "52:54:00:00:12:53"
STANDBY, VF = "ua-backup0", "vf0"
DEVICE = {"driver": "e1000e", "id": VF, "netdev": "vfnet", "mac": MAC, "bus": "pci.0", "addr": "0x6"}
DEADLINE_S = 60.0

PCIHP = 0xAE00
"""docs/specs/acpi_pci_hotplug.rst of QEMU, machine pc: +0 up, +4 down, +8 eject, +16 bus."""
EJECTOR = bytes.fromhex(
    "fb"  # sti: the timer's interrupts end the hlt
    "ba10ae 6631c0 66ef"  # out PCIHP+16, 0: bus 0
    "f4"  # hlt
    "ba04ae 66ed"  # in PCIHP+4: which slots are asked to go
    "6685c0 74f5"  # none: back to the hlt
    "ba08ae 66ef"  # out PCIHP+8: eject
    "ebee"
)
SLEEPER = bytes.fromhex("fb f4 ebfd")


class Qemu:
    """One QEMU, paused or running or waiting, with a second monitor for the test."""

    def __init__(self, host: Namespace, folder: Path, name: str, sector: bytes, *options: str) -> None:
        self.socket = folder / f"{name}.qmp"
        self.own = folder / f"{name}.own"
        self.serial = 0
        boot = folder / f"{name}.img"
        boot.write_bytes(sector.ljust(510, b"\0") + b"\x55\xaa")
        self.log = (folder / f"{name}.log").open("w")
        self.process = host.spawn(
            [
                *("nice", "-n", "10", QEMU, "-machine", "pc,accel=tcg", "-m", "64", "-display", "none"),
                *("-nodefaults", "-no-user-config", "-drive", f"file={boot},format=raw,if=floppy,readonly=on"),
                *("-netdev", "tap,id=standbynet,ifname=tap0,script=no,downscript=no"),
                *("-netdev", "hubport,id=vfnet,hubid=1"),
                *("-device", f"virtio-net-pci,id={STANDBY},netdev=standbynet,mac={MAC},bus=pci.0,addr=0x5"),
                *("-qmp", f"unix:{self.socket},server=on,wait=off"),
                *("-qmp", f"unix:{self.own},server=on,wait=off"),
                *options,
            ],
            stdout=self.log,
            stderr=self.log,
        )
        self._client = socket.socket(socket.AF_UNIX)
        self._client.settimeout(DEADLINE_S)
        wait_until(self._connect, DEADLINE_S)
        self._file = self._client.makefile("rw")
        self._file.readline()
        self.run("qmp_capabilities")

    def _connect(self) -> bool:
        """Try; the socket is there a moment before anybody listens."""
        assert self.process.poll() is None, Path(self.log.name).read_text()
        try:
            self._client.connect(str(self.own))
        except (FileNotFoundError, ConnectionRefusedError):
            return False
        return True

    def run(self, command: str, **arguments: Any) -> Any:
        told = {name.replace("_", "-"): value for name, value in arguments.items()}
        self.serial += 1
        self._file.write(json.dumps({"execute": command, "arguments": told, "id": self.serial}) + "\n")
        self._file.flush()
        for line in self._file:
            answer = json.loads(line)
            if answer.get("id") == self.serial:
                assert "return" in answer, answer
                return answer["return"]
        raise AssertionError(f"{command}: QEMU has gone")

    @property
    def status(self) -> str:
        return str(self.run("query-status")["status"])

    @property
    def devices(self) -> set[str]:
        return {entry["name"] for entry in self.run("qom-list", path="/machine/peripheral")}

    def kill(self) -> None:
        self._file.close()
        self._client.close()
        self.process.kill()
        self.process.wait()
        self.log.close()


def bridge(host: Namespace) -> None:
    """Make br0 with the port up0; tap0 joins when its QEMU has made it."""
    host.netlink(lambda ipr: ipr.link("add", ifname="br0", kind="bridge", br_mcast_snooping=0))
    host.netlink(lambda ipr: ipr.link("add", ifname="up0", kind="veth", peer={"ifname": "far0"}))
    for name in ("br0", "up0", "far0"):
        index = host.index_of(name)
        host.netlink(lambda ipr, index=index: ipr.link("set", index=index, state="up"))
    join(host, "up0")


def join(host: Namespace, name: str) -> None:
    index, master = host.index_of(name), host.index_of("br0")
    host.netlink(lambda ipr: ipr.link("set", index=index, master=master, state="up"))


def by_hand(host: Namespace) -> set[tuple[str, str]]:
    """Return what somebody put into the forwarding tables for the guest."""
    told = json.loads(host.check_output(["bridge", "-j", "fdb", "show"]))
    return {
        (entry["ifname"], "self" if "self" in entry["flags"] else "master")
        for entry in told
        if entry["mac"] == MAC and entry.get("state") in ("static", "permanent")
    }


class Hosts:
    """Source and destination."""

    def __init__(self, folder: Path, sector: bytes) -> None:
        self.folder = folder
        self.there = Namespace("destination")
        self.here = Namespace("source")
        for host in (self.here, self.there):
            bridge(host)
        options = ",".join(f"{name}={value}" for name, value in DEVICE.items() if name != "driver")
        self.source = Qemu(self.here, folder, "source", sector, "-device", f"e1000e,{options}")
        self.incoming = f"unix:{folder}/incoming"
        self.destination = Qemu(self.there, folder, "destination", sector, "-incoming", self.incoming)
        for host in (self.here, self.there):
            join(host, "tap0")
        self.source.run("set_link", name=STANDBY, up=False)
        (folder / "vf.json").write_text(json.dumps(DEVICE))

    def command(self, name: str, *options: str, host: Namespace | None = None) -> list[str]:
        near = self.source if name == "migrate" else self.destination
        place = host or (self.here if name == "migrate" else self.there)
        return [
            *(sys.executable, "-m", "tapbond", name, str(near.socket), "--netns", place.path),
            *("--device", f"{self.folder}/vf.json", "--uplink", "up0", "--state-dir", f"{self.folder}/state"),
            *options,
        ]

    def migrate(self, *options: str) -> subprocess.CompletedProcess[str]:
        return run(self.command("migrate", "--to", self.incoming, *options))

    def take_up(self, how: str) -> subprocess.CompletedProcess[str]:
        near = [sys.executable, "-m", "tapbond", "migrate", str(self.source.socket)]
        return run([*near, how, "--state-dir", f"{self.folder}/state"])

    @property
    def asked(self) -> tuple[str, ...]:
        return ("--destination", str(self.destination.socket))

    def as_it_was(self) -> None:
        assert self.source.status == "running"
        assert {STANDBY, VF} <= self.source.devices
        assert by_hand(self.here) == set()
        assert not list(self.folder.glob("state/*.migration"))

    def moved(self) -> None:
        assert self.source.status == "postmigrate"
        assert self.destination.status == "running"
        assert VF not in self.destination.devices
        assert by_hand(self.here) == set()
        assert not list(self.folder.glob("state/*.migration"))

    def slow(self) -> None:
        """Let a move take for ever."""
        self.source.run("migrate-set-parameters", max_bandwidth=1000)

    def close(self) -> None:
        for each in (self.source, self.destination):
            each.kill()
        for host in (self.here, self.there):
            host.close()


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[Hosts]:
    made = Hosts(tmp_path, EJECTOR)
    yield made
    made.close()


@pytest.fixture
def silent(tmp_path: Path) -> Iterator[Hosts]:
    made = Hosts(tmp_path, SLEEPER)
    yield made
    made.close()


def test_a_guest_is_migrated_and_gets_its_vf_again(hosts: Hosts) -> None:
    prepared = run(hosts.command("reattach", "--prepare", MAC))
    assert prepared.returncode == 0, prepared.stderr
    assert by_hand(hosts.there) == {("up0", "self")}
    done = hosts.migrate(*hosts.asked)
    assert done.returncode == 0, done.stderr + done.stdout
    hosts.moved()
    done = run(hosts.command("reattach"))
    assert done.returncode == 0, done.stderr + done.stdout
    assert {STANDBY, VF} <= hosts.destination.devices
    assert by_hand(hosts.there) == set()


def test_a_dry_run_prints_the_plan_and_touches_nothing(hosts: Hosts) -> None:
    done = hosts.migrate("--dry-run")
    assert done.returncode == 0, done.stderr
    assert f"2. unplug {VF} (the guest has 30 s to let go)\n       undo: plug {VF} in" in done.stdout
    assert f"4. bridge fdb replace {MAC} dev tap0 master static" in done.stdout
    assert done.stdout.count("undo: none: the guest has moved") == 2
    hosts.as_it_was()


def test_json_is_one_object_a_line_with_the_progress(hosts: Hosts) -> None:
    done = hosts.migrate("--json")
    told = [json.loads(line) for line in done.stdout.splitlines()]
    assert {"doing", "done", "progress", "end"} == {each["event"] for each in told}
    assert any(each["event"] == "progress" and each["total"] >= 64 << 20 for each in told)
    assert all(each["time"] > 0 for each in told)


def test_a_guest_that_does_not_answer_loses_nothing(silent: Hosts) -> None:
    done = silent.migrate("--unplug-timeout", "2")
    assert done.returncode == 1
    assert f"{VF}: the guest has not let go of it within 2 s" in done.stderr
    assert done.stderr.endswith("everything was undone, nothing has changed\n")
    silent.as_it_was()


def test_a_destination_that_dies_during_the_move_leaves_the_guest_here(hosts: Hosts) -> None:
    hosts.slow()
    moving = subprocess.Popen(
        hosts.command("migrate", "--to", hosts.incoming, "--json"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    wait_until(lambda: hosts.source.run("query-migrate").get("status") == "active", DEADLINE_S)
    hosts.destination.process.kill()
    _, errors = moving.communicate(timeout=120)
    assert moving.returncode == 1
    assert b"everything was undone" in errors
    hosts.as_it_was()


def test_ctrl_c_during_the_move_undoes_all(hosts: Hosts) -> None:
    hosts.slow()
    moving = subprocess.Popen(
        hosts.command("migrate", "--to", hosts.incoming), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    wait_until(lambda: hosts.source.run("query-migrate").get("status") == "active", DEADLINE_S)
    assert by_hand(hosts.here) == {("up0", "self"), ("tap0", "master")}
    moving.send_signal(signal.SIGINT)
    _, errors = moving.communicate(timeout=120)
    assert moving.returncode == 1
    assert errors.endswith(b"interrupted: everything was undone, nothing has changed\n")
    hosts.as_it_was()


@pytest.mark.parametrize("how", ["--abort", "--resume"])
def test_a_killed_tool_is_taken_up(hosts: Hosts, how: str) -> None:
    hosts.slow()
    moving = subprocess.Popen(
        hosts.command("migrate", "--to", hosts.incoming, *hosts.asked),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    wait_until(lambda: hosts.source.run("query-migrate").get("status") == "active", DEADLINE_S)
    moving.kill()
    moving.wait()
    refused = hosts.migrate()
    assert "an earlier run was not finished (--resume or --abort)" in refused.stderr
    if how == "--resume":
        hosts.source.run("migrate-set-parameters", max_bandwidth=1 << 30)
    done = hosts.take_up(how)
    assert done.returncode == 0, done.stderr
    (hosts.as_it_was if how == "--abort" else hosts.moved)()


CHANGES = ("set_link", "unplug", "add", "migrate")


class Faulty:
    """The real thing, whose n-th change of the world fails, before it is made or after."""

    def __init__(self, real: object, strike: "Strike") -> None:
        self._real = real
        self._strike = strike

    def __getattr__(self, name: str) -> Any:
        real = getattr(self._real, name)
        if name not in CHANGES:
            return real

        async def change(*arguments: Any) -> None:
            self._strike.at("before", name)
            await real(*arguments)
            self._strike.at("after", name)

        return change


class Strike:
    """Counts, and fails once."""

    def __init__(self, number: int) -> None:
        self.left = number
        self.struck = ""

    def at(self, when: str, name: str) -> None:
        self.left -= 1
        if self.left == 0:
            self.struck = f"{when} {name}"
            raise HypervisorError(self.struck)


async def test_a_failure_at_each_change_in_turn_leaves_the_real_thing_as_it_was(hosts: Hosts) -> None:
    """One guest for all of them: what a failure left behind, the next run would find."""
    struck = []
    for number in range(1, 10):
        strike = Strike(number)
        qmp = Qmp(str(hosts.source.socket), json.dumps(DEVICE))
        network = KernelNetwork(hosts.here.path)
        journal = Journal("guest", hosts.folder / "state")
        for each in (qmp, network):
            await each.open()
        journal.open()
        site = Site(Faulty(qmp, strike), Faulty(network, strike))  # type: ignore[arg-type]
        wishes = Wishes(kind=Kind.MIGRATE, domain="guest", to=hosts.incoming, uplink="up0")
        try:
            with pytest.raises(UndoneError, match="everything was undone"):
                await Transaction(site, journal).run(await survey(site, wishes))
        finally:
            for each in (qmp, network):
                await each.close()
            journal.close()
        hosts.as_it_was()
        struck.append(strike.struck)
    assert struck == [
        *("before set_link", "after set_link", "before unplug", "after unplug"),
        *("before add", "after add", "before add", "after add", "before migrate"),
    ]


def test_preconditions_are_told_before_anything_is_touched(hosts: Hosts) -> None:
    done = hosts.migrate("--tap", "tap9", "--destination", str(hosts.source.own))
    assert done.returncode == 1
    assert "tap9: no such interface" in done.stderr
    hosts.as_it_was()


def test_a_socket_that_another_client_has_is_named(hosts: Hosts) -> None:
    with socket.socket(socket.AF_UNIX) as other:
        other.connect(str(hosts.source.socket))
        assert other.recv(100)
        done = hosts.migrate()
    assert done.returncode == 1
    assert "no greeting (another QMP client has the socket?)" in done.stderr
