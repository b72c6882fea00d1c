"""Names and namespaces: the TAP renamed and moved away, the slaves in another namespace than the TAP.

container (b)        host                      switch                far
tb0 10.53.0.1 <───── tb0 10.53.0.1
                     eth0 (standby) ────────── sw0 ┐
                     eth1 (primary) ────────── sw1 ┴ br0 ─────────── eth0 10.53.0.2

app (d)              host: only the slaves' namespace here
tb0 10.53.0.1
tapbond run tb0 --slave-netns HOST
"""

import errno
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from observe import Start, Wire, everything, ip_link, link_names, run_inside

from tapbond._core import lib
from tapbond.lab import FAR_V4, HOST_V4, HOST_V6, MAC, Lab, Namespace, UdpFlow, total, wait_until
from tapbond.lab.process import FailoverProcess
from tapbond.tap import Tap

pytestmark = [pytest.mark.namespaces, pytest.mark.tools("ip", "ping")]

NAMED = ("--standby", "eth0", "--primary", "eth1")
RATE = 2000


@pytest.fixture
def elsewhere() -> Iterator[Namespace]:
    with Namespace("elsewhere") as made:
        yield made


def give_addresses(namespace: Namespace, name: str = "tb0") -> None:
    """Do what is done to the failover in whatever namespace it is."""
    for address in (f"{HOST_V4}/24", f"{HOST_V6}/64"):
        nodad = ["nodad"] if ":" in address else []
        namespace.check_output(["ip", "addr", "replace", address, "dev", name, *nodad])
    namespace.check_output(["ip", "link", "set", name, "up"])


def move(lab: Lab, name: str, to: Namespace) -> None:
    lab.host.check_output(["ip", "link", "set", name, "netns", to.path])


def becomes_active(process: FailoverProcess, slave: str) -> None:
    wait_until(lambda: process.status().active == slave, what=f"{slave} to be active")


@contextmanager
def numbered_traffic(lab: Lab, namespace: Namespace) -> Iterator[Callable[[], None]]:
    """Numbered UDP both ways; gives what waits for more of it. Nothing may be lost or come twice."""
    wait_until(lambda: answered(namespace), what="an answer")
    flows = [
        UdpFlow(namespace, lab.far, FAR_V4, 5001, rate=RATE, seconds_max=60),
        UdpFlow(lab.far, namespace, HOST_V4, 5002, rate=RATE, seconds_max=60),
    ]

    def more() -> None:
        before = [flow.received for flow in flows]
        wait_until(
            lambda: all(flow.received > count + 200 for flow, count in zip(flows, before, strict=True)),
            what="traffic both ways",
        )

    with flows[0], flows[1]:
        for flow in flows:
            flow.start()
        more()
        yield more
        more()
    for flow in flows:
        window = total(flow.record())
        assert (window.lost, window.duplicated) == (0, 0)


def answered(namespace: Namespace) -> bool:
    try:
        namespace.check_output(["ping", "-c1", "-W1", str(FAR_V4)])
    except subprocess.CalledProcessError:
        return False
    return True


# What the kernel does, alone.


def test_a_tap_tells_where_it_is_and_its_carrier_follows_it(lab: Lab, elsewhere: Namespace) -> None:
    tap = lab.host.run(Tap, "tb0")
    try:
        move(lab, "tb0", elsewhere)
        netns = lab.host.run(tap.open_netns)
        assert netns.inode == elsewhere.inode
        netns.close()
        elsewhere.check_output(["ip", "link", "set", "tb0", "up"])
        tap.set_carrier(True)
        wait_until(lambda: "LOWER_UP" in ip_link(elsewhere, "tb0")["flags"], what="the carrier")
        elsewhere.check_output(["ip", "link", "set", "tb0", "down"])
        elsewhere.check_output(["ip", "link", "set", "tb0", "name", "net7"])
        assert tap.interface == "net7"
    finally:
        tap.close()


def test_a_pin_keeps_a_namespace_and_the_links_in_it(lab: Lab, tmp_path: Path) -> None:
    """A TAP does not, once it was moved there: it is deleted with the namespace."""
    mortal = Namespace("mortal")
    pin = tmp_path / "pin"
    pin.touch()
    assert lib.tb_netns_pin(mortal.fd, os.fsencode(pin)) == 0
    tap = lab.host.run(Tap, "tb0")
    move(lab, "tb0", mortal)
    inode = mortal.inode
    mortal.close()
    assert pin.stat().st_ino == inode
    assert tap.interface == "tb0"
    assert lib.tb_netns_unpin(os.fsencode(pin)) == 0
    wait_until(lambda: errno_of(lambda: tap.interface) == errno.EBADFD, what="the namespace to end")
    assert lib.tb_netns_unpin(os.fsencode(pin)) == -errno.EINVAL
    tap.close()


def errno_of(call: Callable[[], object]) -> int | None:
    try:
        call()
    except OSError as error:
        return error.errno
    return 0


def test_a_socket_belongs_where_it_was_made(lab: Lab) -> None:
    fd = lib.tb_netns_socket(lab.host.fd, socket.AF_INET, socket.SOCK_DGRAM, 0)
    with socket.socket(fileno=fd) as made:
        assert lib.tb_link_ready(made.fileno(), lab.host.index_of("eth1")) == 0
        assert not os.get_inheritable(made.fileno())


def test_a_carrier_watch_asks_where_its_socket_is(lab: Lab) -> None:
    with lab.host.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        watch = lib.tb_watch_new(1, asking.fileno())
    try:
        news = lib.tb_watch_event_fd(watch)
        lib.tb_watch_follow(watch, 0, lab.host.index_of("eth1"))
        for change in (lambda: None, lambda: lab.up("eth1"), lambda: lab.down("eth1")):
            change()
            assert select.select([news], [], [], 10)[0]
            os.eventfd_read(news)
    finally:
        lib.tb_watch_free(watch)


# (a) Renamed.


def test_the_failover_and_its_slaves_are_renamed(lab: Lab, start: Start) -> None:
    process = start(lab, *NAMED)
    lab.host.check_output(["ip", "link", "set", "tb0", "down"])  # or older kernels do not rename it
    lab.host.check_output(["ip", "link", "set", "tb0", "name", "wan0"])
    give_addresses(lab.host, "wan0")
    with numbered_traffic(lab, lab.host) as more:
        lab.rename("eth1", "vf0")
        becomes_active(process, "vf0")
        process.call("Switch", slave="eth0")
        more()
    status = process.status()
    assert (status.name, status.interface, status.netns) == ("tb0", "wan0", "")
    assert "failover renamed" in process.log
    assert "slave renamed" in process.log
    assert process.stop() == 0
    assert link_names(lab.host) == {"lo", "eth0", "vf0"}


def test_the_failover_takes_the_name_of_a_slave_that_is_gone(lab: Lab, start: Start) -> None:
    """It has the MAC, and the name of the primary: it is no slave of itself."""
    process = start(lab, *NAMED)
    lab.unplug("eth1")
    wait_until(lambda: len(process.status().slaves) == 1, what="eth1 to be gone")
    lab.host.check_output(["ip", "link", "set", "tb0", "down"])
    lab.host.check_output(["ip", "link", "set", "tb0", "name", "eth1"])
    give_addresses(lab.host, "eth1")
    wait_until(lambda: answered(lab.host), what="an answer")
    assert [slave.name for slave in process.status().slaves] == ["eth0"]
    assert process.status().interface == "eth1"


# (b) The failover moved into another namespace.


def test_moved_into_a_container_and_back(lab: Lab, start: Start, elsewhere: Namespace) -> None:
    process = start(lab, *NAMED)
    for where in (elsewhere, lab.host):
        origin = lab.host if where is elsewhere else elsewhere
        origin.check_output(["ip", "link", "set", "tb0", "netns", where.path])
        give_addresses(where)
        with numbered_traffic(lab, where) as more:
            for slave in ("eth0", "eth1"):
                process.call("Switch", slave=slave)
                more()
        expected = f"net:[{where.inode}]" if where is elsewhere else ""
        wait_until(lambda expected=expected: process.status().netns == expected, what=f"it in {expected}")
    assert "failover moved" in process.log
    assert process.stop() == 0
    assert link_names(lab.host) == {"lo", "eth0", "eth1"}


def test_its_state_there_is_seen(lab: Lab, start: Start, elsewhere: Namespace) -> None:
    process = start(lab, *NAMED)
    move(lab, "tb0", elsewhere)
    wait_until(lambda: not process.status().up, what="it to be down there")
    elsewhere.check_output(["ip", "link", "set", "tb0", "name", "net0"])
    elsewhere.check_output(["ip", "link", "set", "net0", "mtu", "1400", "up"])
    wait_until(lambda: process.status().up and process.status().mtu == 1400, what="its state there")
    assert all("UP" in ip_link(lab.host, slave)["flags"] for slave in ("eth0", "eth1")), "a move closes no slave"
    wait_until(lambda: ip_link(lab.host, "eth0")["mtu"] == ip_link(lab.host, "eth1")["mtu"] == 1400, what="MTU")
    assert process.status().interface == "net0"
    assert process.status().ifindex == elsewhere.index_of("net0")
    elsewhere.check_output(["ip", "link", "set", "net0", "down"])
    wait_until(lambda: not process.status().up, what="it to be closed there")
    give_addresses(elsewhere, "net0")
    wait_until(lambda: answered(elsewhere), what="an answer")
    assert all("UP" in ip_link(lab.host, slave)["flags"] for slave in ("eth0", "eth1")), "slaves stay open"


def test_its_carrier_follows_there(lab: Lab, start: Start, elsewhere: Namespace) -> None:
    process = start(lab, *NAMED)
    move(lab, "tb0", elsewhere)
    give_addresses(elsewhere)
    for change in (lab.lose_carrier, lab.restore_carrier):
        for slave in ("eth0", "eth1"):
            change(slave)
        expected = change == lab.restore_carrier
        wait_until(
            lambda expected=expected: ("LOWER_UP" in ip_link(elsewhere, "tb0")["flags"]) == expected,
            what=f"carrier {expected}",
        )
    wait_until(lambda: answered(elsewhere), what="an answer")
    assert process.status().carrier


def is_announcement(frame: bytes) -> bool:
    """A gratuitous ARP for the failover's address."""
    address = socket.inet_aton(str(HOST_V4))
    return frame[12:14] == b"\x08\x06" and frame[28:32] == address == frame[38:42]


def test_addresses_there_are_announced(lab: Lab, start: Start, elsewhere: Namespace) -> None:
    process = start(lab, *NAMED)
    move(lab, "tb0", elsewhere)
    wait_until(lambda: not process.status().up, what="it to be seen there")
    with Wire(lab.far, "eth0", is_announcement) as wire:
        give_addresses(elsewhere)
        wait_until(lambda: process.status().up, what="it up")

        def announced() -> bool:
            process.call("Switch", slave="eth0")
            process.call("Switch", slave="eth1")
            return bool(wire.frames)

        wait_until(announced, what="an announcement")


def test_on_to_a_third_namespace(lab: Lab, start: Start, elsewhere: Namespace) -> None:
    process = start(lab, *NAMED)
    with Namespace("third") as third:
        move(lab, "tb0", elsewhere)
        elsewhere.check_output(["ip", "link", "set", "tb0", "netns", third.path])
        give_addresses(third)
        wait_until(lambda: process.status().netns == f"net:[{third.inode}]", what="it to be found")
        wait_until(lambda: process.status().up, what="it up")
        wait_until(lambda: answered(third), what="an answer")


def test_it_ends_with_the_container(lab: Lab, start: Start) -> None:
    """Looking into a namespace does not keep it alive."""
    process = start(lab, *NAMED)
    container = Namespace("container")
    move(lab, "tb0", container)
    give_addresses(container)
    wait_until(lambda: process.status().up, what="it up there")
    container.close()
    assert process.process.wait(10) == 1
    assert "tb0: the TAP has gone" in process.log
    assert link_names(lab.host) == {"lo", "eth0", "eth1"}


def test_where_it_cannot_be_seen_frames_and_carrier_go_on(lab: Lab, elsewhere: Namespace, tmp_path: Path) -> None:
    """With CAP_NET_ADMIN and CAP_NET_RAW alone no namespace can be entered."""
    limited = ["setpriv", "--bounding-set=-all,+net_admin,+net_raw", "--inh-caps=-all", "--no-new-privs"]
    read, write = os.pipe()
    command = [*limited, sys.executable, "-m", "tapbond", "run", "tb0", *NAMED, "--run-dir", str(tmp_path)]
    log = (tmp_path / "log").open("w")
    process = lab.host.spawn([*command, "--ready-fd", str(write)], pass_fds=[write], stderr=log)
    os.close(write)
    status = [sys.executable, "-m", "tapbond", "status", "tb0", "--json", "--run-dir", str(tmp_path)]
    try:
        assert os.read(read, 16) == b"1\n"
        move(lab, "tb0", elsewhere)
        wait_until(lambda: json.loads(lab.host.check_output(status))["netns"] == "?", what="it out of sight")
        lab.down("eth1")
        wait_until(lambda: lab.switch_port_of() == "sw0", what="the RARP, of nobody's traffic, to move the FDB")
        give_addresses(elsewhere)
        wait_until(lambda: answered(elsewhere), what="an answer over eth0")
        wait_until(lambda: "cannot be seen" in (tmp_path / "log").read_text(), what="a line about it")
    finally:
        os.close(read)
        process.terminate()
        assert process.wait(10) == 0
        log.close()


# (d) The slaves in another namespace.


@contextmanager
def apart(lab: Lab, run_dir: Path, *options: str, netns: str = "") -> Iterator[tuple[Namespace, FailoverProcess]]:
    """Run tapbond in a namespace of its own; the lab's host is only the slaves'."""
    options = options or NAMED
    with (
        Namespace("app") as app,
        FailoverProcess(app, "tb0", *options, "--slave-netns", netns or lab.host.path, run_dir=run_dir) as process,
    ):
        process.wait_ready()
        give_addresses(app)
        yield app, process


def test_slaves_in_another_namespace(lab: Lab, tmp_path: Path, isolation: str) -> None:
    before = everything(lab.host)
    with apart(lab, tmp_path, *NAMED, "--isolation", isolation) as (app, process):
        with numbered_traffic(lab, app) as more:
            for slave in ("eth0", "eth1"):
                process.call("Switch", slave=slave)
                more()
        lab.down("eth1")
        becomes_active(process, "eth0")
        wait_until(lambda: answered(app), what="an answer over eth0")
        lab.up("eth1")
        becomes_active(process, "eth1")
        assert link_names(app) == {"lo", "tb0"}
        assert process.stop() == 0
        assert link_names(app) == {"lo"}
    assert everything(lab.host) == before


def test_hot_plug_and_matching_by_mac_there(lab: Lab, tmp_path: Path) -> None:
    with apart(lab, tmp_path, "--standby", "eth0") as (app, process):
        becomes_active(process, "eth1")
        for _ in range(3):
            lab.unplug("eth1")
            becomes_active(process, "eth0")
            wait_until(lambda: answered(app), what="an answer over eth0")
            lab.plug("eth1")
            becomes_active(process, "eth1")
            wait_until(lambda: answered(app), what="an answer over eth1")


def test_the_carrier_poll_asks_there(lab: Lab, tmp_path: Path) -> None:
    """In the app's namespace there is a link that has the slave's ifindex and is down."""
    with Namespace("app") as app:
        for ifindex in (lab.host.index_of("eth0"), lab.host.index_of("eth1")):
            link = ["ip", "link", "add", f"x{ifindex}", "index", str(ifindex), "address", MAC, "type", "veth"]
            app.check_output([*link, "peer", "name", f"y{ifindex}", "index", str(ifindex + 1000)])
        options = (*NAMED, "--slave-netns", lab.host.path)
        with FailoverProcess(app, "tb0", *options, run_dir=tmp_path) as process:
            process.wait_ready()
            becomes_active(process, "eth1")
            for ifindex in (lab.host.index_of("eth0"), lab.host.index_of("eth1")):
                app.check_output(["ip", "link", "set", f"x{ifindex}", "up"])
                app.check_output(["ip", "link", "del", f"x{ifindex}"])
            give_addresses(app)
            wait_until(lambda: answered(app), what="an answer")
            assert [slave.name for slave in process.status().slaves] == ["eth0", "eth1"]
            lab.lose_carrier("eth1")
            becomes_active(process, "eth0")
            assert process.status().switchovers == 2


@pytest.mark.parametrize("how", ["pid", "path"])
def test_the_namespace_is_named_in_several_ways(lab: Lab, tmp_path: Path, how: str) -> None:
    with lab.host.spawn(["sleep", "60"]) as sleeper:
        netns = str(sleeper.pid) if how == "pid" else f"/proc/{sleeper.pid}/ns/net"
        with apart(lab, tmp_path, netns=netns) as (_, process):
            becomes_active(process, "eth1")
        sleeper.kill()


@pytest.mark.parametrize(
    ("netns", "line"),
    [
        ("lan", "lan: no such network namespace (see: ip netns list; or give a path or a process id)"),
        ("/etc/hosts", "/etc/hosts: /etc/hosts is not a network namespace"),
        ("/none", "/none: no such network namespace (/none: No such file or directory)"),
    ],
)
def test_a_namespace_that_is_none(lab: Lab, tmp_path: Path, netns: str, line: str) -> None:
    assert refusal(lab.host, *NAMED, "--slave-netns", netns, "--run-dir", str(tmp_path)) == f"tapbond: {line}"


def test_a_standby_that_is_not_there(lab: Lab, tmp_path: Path, elsewhere: Namespace) -> None:
    line = refusal(lab.host, *NAMED, "--slave-netns", elsewhere.path, "--run-dir", str(tmp_path))
    assert line.startswith(f"tapbond: eth0: no such interface in {elsewhere.path} (")


def refusal(namespace: Namespace, *arguments: str) -> str:
    """Run tapbond, which must refuse with one line; return that line."""
    command = [sys.executable, "-m", "tapbond", "run", "tb0", *arguments]
    process = namespace.spawn(command, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    _, text = process.communicate(timeout=20)
    assert process.returncode == 1, text
    assert text.count("\n") == 1, text
    return text.strip()


def test_the_same_name_from_two_namespaces(lab: Lab, tmp_path: Path, elsewhere: Namespace) -> None:
    """Both would make tb0-iso among the slaves, and the second one take the first one's for a leftover."""
    with apart(lab, tmp_path) as (app, _):
        line = refusal(elsewhere, *NAMED, "--slave-netns", lab.host.path, "--run-dir", str(tmp_path))
        assert "tb0: already run by process" in line
        wait_until(lambda: answered(app), what="an answer")


def test_a_slave_of_another_failover_there_is_refused(lab: Lab, tmp_path: Path, elsewhere: Namespace) -> None:
    with apart(lab, tmp_path):
        where = ("--slave-netns", lab.host.path, "--run-dir", str(tmp_path))
        command = [sys.executable, "-m", "tapbond", "run", "tb1", *NAMED, *where]
        process = elsewhere.spawn(command, stderr=subprocess.PIPE, text=True)
        _, text = process.communicate(timeout=20)
        assert process.returncode == 1
        assert "eth0: already a" in text


@pytest.mark.parametrize("again", ["there", "here"])
def test_killed_and_started_again(lab: Lab, tmp_path: Path, again: str) -> None:
    """What was changed there is put back, also by a start that has its slaves elsewhere."""
    lab.host.check_output(["ip", "link", "set", "eth1", "mtu", "1400"])
    before = everything(lab.host)
    with Namespace("app") as app, Namespace("other") as other:
        options = (*NAMED, "--slave-netns", lab.host.path)
        with FailoverProcess(app, "tb0", *options, run_dir=tmp_path) as process:
            process.wait_ready()
            process.stop(signal.SIGKILL)
        assert everything(lab.host) != before
        if again == "here":
            link = ["ip", "link", "add", "eth0", "type", "veth", "peer", "name", "peer0"]
            other.check_output(["ip", "link", "set", "lo", "up"])
            app.check_output(link)
            app.check_output(["ip", "link", "set", "peer0", "up"])
            options = ("--standby", "eth0")
        with FailoverProcess(app, "tb0", *options, run_dir=tmp_path) as process:
            process.wait_ready()
            assert "putting back a slave of an earlier run" in process.log
            assert process.stop() == 0
    assert everything(lab.host) == before


# (f) Root of a user namespace.


@pytest.mark.tools("unshare")
def test_as_root_of_a_user_namespace() -> None:
    """(b) and (d) inside ``unshare -Urn``, without a mount namespace."""
    chosen = "hot_plug_and_matching or moved_into_a_container or ends_with_the_container"
    assert "3 passed" in run_inside("-Urn", __file__, chosen)
