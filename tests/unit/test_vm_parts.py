"""The parts of a virtual machine that need none: its archive, its modules' order, its traffic."""

import io
import json
import socket
import stat
import threading
from pathlib import Path

import pytest

from tapbond.errors import TapbondError
from tapbond.lab import wait_until
from tapbond.lab.vm.cpio import Cpio
from tapbond.lab.vm.kernel import Kernel
from tapbond.lab.vm.numbered import Numbered
from tapbond.lab.vm.qmp import Qmp, QmpError
from tapbond.lab.vm.stream import Stream


def entries(archive: bytes) -> list[tuple[str, int, int, bytes]]:
    """Read an archive as the kernel does: name, mode, mtime, content."""
    found, at = [], 0
    while True:
        fields = [int(archive[at + 6 + 8 * n : at + 14 + 8 * n], 16) for n in range(13)]
        assert archive[at : at + 6] == b"070701"
        name = archive[at + 110 : at + 110 + fields[11] - 1].decode()
        start = -(-(at + 110 + fields[11]) // 4) * 4
        at = -(-(start + fields[6]) // 4) * 4
        if name == "TRAILER!!!":
            assert at == len(archive)
            return found
        found.append((name, fields[1], fields[5], archive[start : start + fields[6]]))


def test_archive() -> None:
    out = io.BytesIO()
    with Cpio(out) as cpio:
        cpio.directory("/etc")
        cpio.symlink("/etc/a", "../b")
        cpio.file("/etc/odd", b"12345", mode=0o755, mtime=77)
    assert entries(out.getvalue()) == [
        ("etc", stat.S_IFDIR | 0o755, 0, b""),
        ("etc/a", stat.S_IFLNK | 0o777, 0, b"../b"),
        ("etc/odd", stat.S_IFREG | 0o755, 77, b"12345"),
    ]


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """Return a kernel whose modules need each other: net-a needs b_c, which needs d."""
    modules = tmp_path / "lib/modules/6.1.0/kernel/drivers"
    modules.mkdir(parents=True)
    (tmp_path / "boot").mkdir()
    (tmp_path / "boot/vmlinuz-6.1.0").touch()
    for name, depends in (("net-a", "b_c,d"), ("b-c", "d"), ("d", "")):
        (modules / f"{name}.ko").write_bytes(b"\x7fELF\0license=GPL\0depends=" + depends.encode() + b"\0")
    return tmp_path


def test_modules_come_after_those_that_they_need(unpacked: Path) -> None:
    ordered = [file.name for file in Kernel(unpacked).modules(["net_a", "d"])]
    assert ordered == ["d.ko", "b-c.ko", "net-a.ko"]


def test_missing_module_is_named(unpacked: Path) -> None:
    with pytest.raises(TapbondError, match="no_such: no such module in the kernel 6"):
        Kernel(unpacked).modules(["no-such"])


def test_missing_kernel_names_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(TapbondError, match=r"no kernel here \(\.ci/debian-kernel"):
        Kernel(tmp_path)


def test_numbered_datagrams_arrive_in_order() -> None:
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    with here, there:
        flows = [Numbered(here, 1000, 7), Numbered(there, 0, 8)]
        for flow in flows:
            flow.start()
        wait_until(lambda: len(flows[1].received) > 20)
        for flow in flows:
            flow.end()
    assert [entry[:2] for entry in flows[1].received] == [(7, n) for n in range(len(flows[0].sent_ns))]
    assert not flows[0].errors
    assert json.loads(json.dumps(flows[0].record()))["received"] == []


def tcp_pair() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        here = socket.create_connection(listener.getsockname())
        return here, listener.accept()[0]


def test_stream_checks_what_arrives() -> None:
    streams = [Stream(sock, 1000) for sock in tcp_pair()]
    for stream in streams:
        stream.start()
    wait_until(lambda: all(len(stream.arrived_ns) > 20 for stream in streams))
    assert [stream.error for stream in streams] == ["", ""]
    for stream in streams:
        stream.end()


def test_stream_tells_what_is_out_of_order() -> None:
    here, there = tcp_pair()
    stream = Stream(here, 10)
    with there:
        stream.start()
        there.send(bytes([0, 0, 0, 0]) + bytes([0, 0, 0, 2]))
        wait_until(lambda: stream.error == "2 came where 1 was due")
        stream.end()


def test_qmp_keeps_events_and_raises_refusals(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "qmp"))
        listener.listen(1)
        said = [
            {"QMP": {}},
            {"return": {}},
            {"event": "DEVICE_DELETED", "data": {"device": "a"}},
            {"error": {"class": "GenericError", "desc": "no such device"}},
            {"event": "DEVICE_DELETED", "data": {"device": "b"}},
        ]
        words = "".join(json.dumps(one) + "\n" for one in said).encode()

        def serve() -> None:
            connection = listener.accept()[0]
            connection.sendall(words)
            connections.append(connection)

        connections: list[socket.socket] = []
        server = threading.Thread(target=serve)
        server.start()
        qmp = Qmp(tmp_path / "qmp")
        with pytest.raises(QmpError, match="device_del: no such device"):
            qmp.execute("device_del", id="c")
        assert qmp.wait_event("DEVICE_DELETED", 5.0, device="b")["data"] == {"device": "b"}
        assert qmp.wait_event("DEVICE_DELETED", 5.0)["data"] == {"device": "a"}
        with pytest.raises(TimeoutError, match="no event SHUTDOWN"):
            qmp.wait_event("SHUTDOWN", 0.01)
        qmp.close()
        server.join()
        connections[0].close()
