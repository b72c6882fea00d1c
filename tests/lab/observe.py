"""What the tests ask of links and wires: states as ``ip`` shows them, frames as they pass."""

import json
import re
import socket
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Self

from tapbond.lab import Namespace, wait_until
from tapbond.lab.process import FailoverProcess

Start = Callable[..., FailoverProcess]

ETH_P_ALL = 3
SOL_PACKET = 263
PACKET_AUXDATA = 8
PACKET_VNET_HDR = 15
PACKET_IGNORE_OUTGOING = 23


@contextmanager
def serving(namespace: Namespace, argv: list[str], listening: str) -> Iterator[None]:
    """Run a server in a namespace, whose ``ss`` shows ``listening`` when it is there."""
    with namespace.spawn(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as server:
        try:
            wait_until(lambda: listening in namespace.check_output(["ss", "-ltun"]), what=f"{argv[0]} to listen")
            yield
        finally:
            server.kill()


def ip_link(namespace: Namespace, name: str) -> dict[str, Any]:
    """Return a link as ``ip -d -j link`` tells it."""
    found = json.loads(namespace.check_output(["ip", "-d", "-j", "link", "show", name]))
    return found[0]


def link_names(namespace: Namespace) -> set[str]:
    return {link["ifname"] for link in json.loads(namespace.check_output(["ip", "-j", "link"]))}


def everything(namespace: Namespace) -> str:
    """Return ``ip -d link``, addresses and nft rules, without what the kernel itself never takes back.

    A link that was up once keeps its qdisc (noop becomes noqueue), and ageing timers run.
    """
    text = namespace.check_output(["ip", "-d", "link"]) + namespace.check_output(["ip", "addr"])
    text += namespace.check_output(["nft", "list", "ruleset"])
    text = re.sub(r" qdisc \w+", "", text)
    return re.sub(r"(valid_lft|preferred_lft) \w+", "", text)


class Wire:
    """Everything that a link of a namespace sees, kept in the order in which it came.

    Args:
        namespace: where.
        link: its name.
        wanted: which frames to keep.
    """

    def __init__(self, namespace: Namespace, link: str, wanted: Callable[[bytes], bool]) -> None:
        self.frames: list[bytes] = []
        self.headers: list[bytes] = []
        self._wanted = wanted
        self._socket = namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
        self._socket.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        self._socket.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        self._socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 22)
        namespace.run(self._socket.bind, (link, ETH_P_ALL))
        self._socket.settimeout(0.05)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._read)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()
        self._socket.close()

    def send(self, frame: bytes, vnet: bytes = bytes(10)) -> None:
        self._socket.send(vnet + frame)

    def _read(self) -> None:
        while not self._stop.is_set():
            try:
                data, ancillary, _, _ = self._socket.recvmsg(1 << 17, 128)
            except TimeoutError:
                continue
            frame = retag(data[10:], ancillary)
            if self._wanted(frame):
                self.headers.append(data[:10])
                self.frames.append(frame)


def run_inside(options: str, file: str, chosen: str) -> str:
    """Run tests of a file as root of a user namespace (unshare(1)); return what pytest says."""
    with tempfile.TemporaryDirectory() as base:  # a short name: sockets are made below it
        pytest_inside = [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", file, "-k", chosen]
        done = subprocess.run(
            ["unshare", options, *pytest_inside, "--basetemp", f"{base}/t"],
            capture_output=True,
            text=True,
            timeout=50,
            check=False,
        )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def retag(frame: bytes, ancillary: list[tuple[int, int, bytes]]) -> bytes:
    """Put the VLAN tag of the auxdata (packet(7)) back."""
    for level, kind, data in ancillary:
        if (level, kind) == (SOL_PACKET, PACKET_AUXDATA):
            status, _, _, _, _, tci, tpid = struct.unpack("IIIHHHH", data[:20])
            if status & 0x10:
                return frame[:12] + struct.pack("!HH", tpid, tci) + frame[12:]
    return frame


def raw(namespace: Namespace, link: str) -> socket.socket:
    """Return a packet socket to send raw frames with, each behind a virtio_net_hdr."""
    made = namespace.socket(socket.AF_PACKET, socket.SOCK_RAW, 0)
    made.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
    namespace.run(made.bind, (link, 0))
    return made
