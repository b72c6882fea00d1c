"""``tapbond migrate`` and ``reattach`` with two real libvirtds side by side, each with a host of its own.

      source: libvirtd A                destination: libvirtd B
     up0 ──[ br0 ]── tap0 ═╗            ╔═ tap0 ──[ br0 ]── up0
                           vm-01 ────▶ vm-01
           [ br1 ]── tap1 ═╝            ╚═ tap1 ──[ br1 ]
                 (e1000: the "VF")

A host is a network namespace and a mount namespace: state, sockets and configuration of the daemons are their own.
The guest is the boot sector of test_migrate_qmp.py. A real VF would be a hostdev, for which there is no hardware.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_migrate_qmp import EJECTOR, MAC, QEMU, SLEEPER, bridge, by_hand, run

from tapbond.lab import wait_until
from tapbond.lab.namespace import Namespace

pytest.importorskip("libvirt", reason="libvirt-python is not installed (pip install 'tapbond[libvirt]')")
pytestmark = [pytest.mark.namespaces, pytest.mark.tools(QEMU, "libvirtd", "virsh"), pytest.mark.timeout(240)]

DEADLINE_S = 60.0

DAEMON = """\
set -eu
folder=$1
mkdir -p "$folder/run" "$folder/lib" "$folder/log" "$folder/etc" "$folder/cache"
mount --make-rprivate /
mount -t sysfs sysfs /sys
for place in lib cache log; do
    mount -t tmpfs tmpfs "/var/$place"
    mkdir -p "/var/$place/libvirt"
    mount --bind "$folder/$place" "/var/$place/libvirt"
done
cp /etc/passwd "$folder/passwd"
cp /etc/group "$folder/group"
grep -q libvirt-qemu /etc/passwd || echo 'libvirt-qemu:x:64055:64055::/:/usr/sbin/nologin' >>"$folder/passwd"
grep -q libvirt-qemu /etc/group || echo 'libvirt-qemu:x:64055:' >>"$folder/group"
mount --bind "$folder/passwd" /etc/passwd
mount --bind "$folder/group" /etc/group
mount --bind "$folder/etc" /etc/libvirt
mount -t tmpfs tmpfs /run
exec nice -n 10 libvirtd -f "$folder/libvirtd.conf" -p "$folder/libvirtd.pid"
"""

RESTLESS = bytes.fromhex(
    "fb ba10ae 6631c0 66ef fc"  # as EJECTOR
    "f4 6643 6689d8 be0010"  # each tick another value
    "8ec6 31ff b90040 f366ab 81c60010 81fe0090 75ec"  # all over the 512 KiB from 0x10000
    "ba04ae 66ed 6685c0 74d9 ba08ae 66ef ebd2"
)
"""As EJECTOR, and writes more memory than 1 MiB/s can carry away: its move does not end."""

LIBVIRTD_CONF = """\
unix_sock_dir = "{folder}/run"
auth_unix_rw = "none"
auth_unix_ro = "none"
host_uuid = "{uuid}"
log_outputs = "3:file:{folder}/libvirtd.log"
"""

QEMU_CONF = """\
user = "root"
group = "root"
security_driver = "none"
cgroup_controllers = []
namespaces = []
remember_owner = 0
stdio_handler = "file"
"""

VF_XML = f"""<interface type='bridge'>
      <mac address='{MAC}'/>
      <source bridge='br1'/>
      <target dev='tap1'/>
      <model type='e1000'/>
    </interface>"""

DOMAIN = f"""
<domain type='qemu'>
  <name>vm-01</name>
  <uuid>5c1d3ed5-1c5e-4f9e-9d3c-000000001253</uuid>
  <memory unit='MiB'>64</memory>
  <vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type><boot dev='fd'/></os>
  <features><acpi/></features>
  <devices>
    <emulator>/usr/bin/{QEMU}</emulator>
    <disk type='file' device='floppy'>
      <driver name='qemu' type='raw'/><source file='{{boot}}'/><target dev='fda' bus='fdc'/><readonly/><shareable/>
    </disk>
    <interface type='bridge'>
      <mac address='{MAC}'/>
      <source bridge='br0'/>
      <target dev='tap0'/>
      <model type='virtio'/>
      <link state='down'/>
      <alias name='ua-backup0'/>
    </interface>
    {VF_XML}
    <memballoon model='none'/>
  </devices>
</domain>
"""


class Host:
    """A host with a libvirtd."""

    def __init__(self, folder: Path, name: str, number: int) -> None:
        self.folder = folder / name
        (self.folder / "etc").mkdir(parents=True)
        uuid = f"11111111-2222-3333-4444-55555555555{number}"
        (self.folder / "libvirtd.conf").write_text(LIBVIRTD_CONF.format(folder=self.folder, uuid=uuid))
        (self.folder / "etc/qemu.conf").write_text(QEMU_CONF)
        self.place = Namespace(name)
        bridge(self.place)
        self.place.netlink(lambda ipr: ipr.link("add", ifname="br1", kind="bridge"))
        index = self.place.index_of("br1")
        self.place.netlink(lambda ipr: ipr.link("set", index=index, state="up"))
        self.log = (self.folder / "out").open("w")
        self.daemon = self.place.spawn(
            ["unshare", "--mount", "sh", "-c", DAEMON, "sh", str(self.folder)], stdout=self.log, stderr=self.log
        )
        self.uri = f"qemu+unix:///system?socket={self.folder}/run/libvirt-sock"
        wait_until(lambda: self.virsh("uri").returncode == 0, DEADLINE_S)

    def virsh(self, *command: str) -> subprocess.CompletedProcess[str]:
        assert self.daemon.poll() is None, (self.folder / "out").read_text()
        return run(["virsh", "-q", "-c", self.uri, *command])

    @property
    def state(self) -> str:
        return self.virsh("domstate", "vm-01").stdout.strip()

    def nics(self, *options: str) -> list[str]:
        return [line.split()[0] for line in self.virsh("domiflist", "vm-01", *options).stdout.splitlines() if line]

    def close(self) -> None:
        self.virsh("destroy", "vm-01")
        self.daemon.terminate()
        self.daemon.wait(20)
        self.log.close()
        self.place.close()


class Hosts:
    """Source and destination, and the guest on the source."""

    def __init__(self, folder: Path, sector: bytes) -> None:
        self.folder = folder
        boot = folder / "boot.img"
        boot.write_bytes((sector.ljust(510, b"\0") + b"\x55\xaa").ljust(1440 * 1024, b"\0"))
        self.source, self.destination = Host(folder, "a", 1), Host(folder, "b", 2)
        domain = folder / "vm.xml"
        domain.write_text(DOMAIN.format(boot=boot))
        (folder / "vf.xml").write_text(VF_XML)
        for command in (("define", str(domain)), ("start", "vm-01")):
            done = self.source.virsh(*command)
            assert done.returncode == 0, done.stderr
        wait_until(lambda: self.source.nics() == ["tap0", "tap1"], DEADLINE_S)

    def line(self, name: str, host: Host, *options: str) -> list[str]:
        return [
            *(sys.executable, "-m", "tapbond", name, "vm-01", "--connect", host.uri),
            *("--netns", host.place.path, "--uplink", "up0", "--state-dir", f"{host.folder}/state", *options),
        ]

    def command(self, name: str, host: Host, *options: str) -> subprocess.CompletedProcess[str]:
        return run(self.line(name, host, *options))

    def migration(self, *options: str) -> list[str]:
        transport = ("--transport", f"unix://{self.folder}/memory")
        return self.line("migrate", self.source, "--to", self.destination.uri, *transport, *options)

    def migrate(self, *options: str) -> subprocess.CompletedProcess[str]:
        return run(self.migration(*options))

    def as_it_was(self) -> None:
        assert self.source.state == "running"
        assert self.source.nics() == ["tap0", "tap1"]
        assert self.source.nics("--inactive") == ["tap0", "tap1"]
        assert self.source.virsh("domif-getlink", "vm-01", "tap0").stdout.split()[-1] == "down"
        assert by_hand(self.source.place) == set()

    def close(self) -> None:
        for host in (self.source, self.destination):
            host.close()


@pytest.fixture
def hosts(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Hosts]:
    made = Hosts(tmp_path, getattr(request, "param", EJECTOR))
    yield made
    made.close()


def test_a_guest_is_migrated_and_gets_its_vf_again(hosts: Hosts) -> None:
    done = hosts.migrate()
    assert done.returncode == 0, done.stderr + done.stdout
    assert hosts.source.state == "shut off"
    assert by_hand(hosts.source.place) == set()
    assert hosts.destination.state == "running"
    assert hosts.destination.nics() == ["tap0"]
    assert hosts.destination.virsh("domif-getlink", "vm-01", "tap0").stdout.split()[-1] == "up"
    done = hosts.command("reattach", hosts.destination, "--device", f"{hosts.folder}/vf.xml")
    assert done.returncode == 0, done.stderr + done.stdout
    assert hosts.destination.nics() == ["tap0", "tap1"]
    assert hosts.destination.nics("--inactive") == ["tap0", "tap1"]
    assert hosts.destination.virsh("domif-getlink", "vm-01", "tap0").stdout.split()[-1] == "down"


def test_a_destination_that_cannot_take_the_guest_leaves_all_as_it_was(hosts: Hosts) -> None:
    """Its bridge is gone: libvirt finds out when the move begins, and the guest has let go of its VF by then."""
    index = hosts.destination.place.index_of("br0")
    hosts.destination.place.netlink(lambda ipr: ipr.link("del", index=index))
    done = hosts.migrate()
    assert done.returncode == 1
    assert "everything was undone, nothing has changed" in done.stderr
    hosts.as_it_was()
    assert hosts.destination.state == ""


@pytest.mark.parametrize("hosts", [SLEEPER], indirect=True, ids=["sleeper"])
def test_a_guest_that_does_not_answer_loses_nothing(hosts: Hosts) -> None:
    done = hosts.migrate("--unplug-timeout", "2")
    assert done.returncode == 1
    assert "the guest has not let go of it within 2 s" in done.stderr
    hosts.as_it_was()


@pytest.mark.parametrize("hosts", [RESTLESS], indirect=True, ids=["restless"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["interrupted", "killed"])
def test_a_tool_that_is_stopped_during_the_move_leaves_all_as_it_was(hosts: Hosts, number: int) -> None:
    """A killed one by --abort. libvirt itself ends a move whose client has gone."""
    hosts.source.virsh("migrate-setspeed", "vm-01", "1")
    moving = subprocess.Popen(hosts.migration(), stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    wait_until(lambda: "Unbounded" in hosts.source.virsh("domjobinfo", "vm-01").stdout, DEADLINE_S)
    assert by_hand(hosts.source.place) == {("up0", "self"), ("tap0", "master")}
    moving.send_signal(number)
    _, errors = moving.communicate(timeout=120)
    if number == signal.SIGINT:
        assert errors.endswith(b"interrupted: everything was undone, nothing has changed\n")
    else:
        done = hosts.command("migrate", hosts.source, "--abort")
        assert done.returncode == 0, done.stderr
    hosts.as_it_was()
    assert hosts.destination.state in ("", "shut off")


def test_preconditions_are_told_before_anything_is_touched(hosts: Hosts) -> None:
    done = hosts.command("migrate", hosts.source, "--to", f"qemu+unix:///system?socket={os.devnull}")
    assert done.returncode == 1
    assert "Failed to connect socket" in done.stderr
    hosts.as_it_was()
