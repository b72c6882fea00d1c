"""The packet socket through which one slave is probed (packet(7)), apart from the pump's.

It hears every protocol: with the bridge isolation, only such sockets are served before the bridge's receive
handler eats the frame (__netif_receive_skb_core() in net/core/dev.c). A filter lets answers through and nothing
else.
"""

import ctypes
import errno
import os
import socket
import struct
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Protocol

import structlog

from tapbond._core import lib
from tapbond.closing import close_soon
from tapbond.errors import NoSuchInterfaceError, RightsError, TapbondError
from tapbond.model import Link
from tapbond.netns import OpenSocket
from tapbond.probe.watcher import Match

log = structlog.get_logger()

SOL_PACKET = 263
PACKET_ADD_MEMBERSHIP = 1
PACKET_IGNORE_OUTGOING = 23
PACKET_MR_UNICAST = 3
PACKET_MREQ = struct.Struct("=iHH8s")
SO_ATTACH_FILTER = 26
SO_TIMESTAMPNS = 35
TIMESPEC = struct.Struct("@ll")
PRIORITY = 6
"""TC_PRIO_INTERACTIVE, the highest that needs no right: a probe does not queue behind bulk (pfifo_fast)."""

INSTRUCTION = struct.Struct("=HBBI")
LOAD = {1: 0x30, 2: 0x28}
"""BPF_LD | BPF_ABS | BPF_B or BPF_H."""
JUMP_IF_EQUAL = 0x15
RETURN = 0x06
WHOLE_FRAME = 0xFFFF

ANSWER_MAX = 2048
BURST_MAX = 256
"""Frames taken in at once: whoever floods a host with answers does not stop it."""

NS_PER_S = 1_000_000_000

SocketOpener = Callable[[Link], socket.socket]


class ProbePort(Protocol):
    """Sends probes and hears what may be answers. Stamps are CLOCK_REALTIME in ns."""

    def send(self, frame: bytes) -> int | None:
        """Send a frame; return when, None: it could not be sent."""

    def receive(self) -> list[tuple[bytes, int | None]]:
        """Return the frames that have arrived, and when the kernel got each."""

    def close(self) -> None:
        """Hear no more."""


def socket_opener(make_socket: OpenSocket) -> SocketOpener:
    """Return what opens packet sockets that hear nothing yet, in the namespace of ``make_socket``."""
    kind = socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC
    return lambda _link: make_socket(socket.AF_PACKET, kind, 0)


open_socket = socket_opener(socket.socket)
"""In the namespace of the calling thread."""


class SocketPort:
    """A ProbePort on a link.

    Args:
        link: the slave's.
        mac: what it may probe with beside the link's own: the network card is told to let that through.
        patterns: of what is let through.
        opener: returns a packet socket with protocol 0 in the link's namespace.

    Raises:
        RightsError: no CAP_NET_RAW.
        NoSuchInterfaceError: the link has gone.
        TapbondError: the kernel refused for another reason.
    """

    def __init__(
        self,
        link: Link,
        mac: bytes,
        patterns: Iterable[Sequence[Match]],
        opener: SocketOpener = open_socket,
    ) -> None:
        try:
            self._socket = opener(link)
        except PermissionError as error:
            raise RightsError(f"{link.name}: may not open a packet socket to probe with (CAP_NET_RAW)") from error
        except OSError as error:
            raise TapbondError(f"{link.name}: cannot open a packet socket: {error.strerror}") from error
        try:
            self._prepare(link, patterns)
            self._hear(link, mac)
        except OSError as error:
            self.close()
            raise TapbondError(f"{link.name}: cannot probe: {error.strerror}") from error
        except TapbondError:
            self.close()
            raise

    def send(self, frame: bytes) -> int | None:
        """Send a frame; return when, None: it could not be sent. A stale error on the socket costs no probe."""
        for _ in range(2):
            now_ns = time.time_ns()
            try:
                self._socket.send(frame)
            except OSError:
                continue
            return now_ns
        return None

    def receive(self) -> list[tuple[bytes, int | None]]:
        """Return the frames that have arrived, and when the kernel got each."""
        found: list[tuple[bytes, int | None]] = []
        for _ in range(BURST_MAX):
            try:
                frame, ancillary, _, _ = self._socket.recvmsg(ANSWER_MAX, 64)
            except BlockingIOError:
                break
            except OSError as error:
                # What a link that was down has left on the socket; there may be frames behind it.
                if error.errno != errno.ENETDOWN:
                    break
                continue
            found.append((frame, _stamp(ancillary)))
        return found

    def close(self) -> None:
        """Hear no more; the kernel undoes the membership."""
        close_soon(self._socket)

    def _prepare(self, link: Link, patterns: Iterable[Sequence[Match]]) -> None:
        self._socket.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_TIMESTAMPNS, 1)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_PRIORITY, PRIORITY)
        code = ctypes.create_string_buffer(program(patterns))
        count = (ctypes.sizeof(code) - 1) // INSTRUCTION.size
        self._socket.setsockopt(
            socket.SOL_SOCKET, SO_ATTACH_FILTER, struct.pack("@HP", count, ctypes.addressof(code))
        )
        result = lib.tb_port_bind(self._socket.fileno(), link.ifindex)
        if -result in (errno.ENODEV, errno.ENXIO):
            raise NoSuchInterfaceError(link.name)
        if result:
            raise OSError(-result, os.strerror(-result))

    def _hear(self, link: Link, mac: bytes) -> None:
        """Let a MAC through the network card's filter; one that has no room for it may still hear everything."""
        try:
            request = PACKET_MREQ.pack(link.ifindex, PACKET_MR_UNICAST, len(mac), mac)
            self._socket.setsockopt(SOL_PACKET, PACKET_ADD_MEMBERSHIP, request)
        except OSError as error:
            log.warning(
                "the link does not take a second MAC: probes may go unanswered while it is not active",
                slave=link.name,
                mac=mac.hex(":"),
                reason=error.strerror,
            )


def program(patterns: Iterable[Sequence[Match]]) -> bytes:
    """Return the classic BPF program (Linux' Documentation/networking/filter.rst) that passes these frames.

    Args:
        patterns: a frame passes that has all the numbers of one of them.
    """
    code = b""
    for pattern in patterns:
        left = 2 * len(pattern) + 1
        for match in pattern:
            left -= 2
            code += INSTRUCTION.pack(LOAD[match.size], 0, 0, match.offset)
            code += INSTRUCTION.pack(JUMP_IF_EQUAL, 0, left, match.value)
        code += INSTRUCTION.pack(RETURN, 0, 0, WHOLE_FRAME)
    return code + INSTRUCTION.pack(RETURN, 0, 0, 0)


def _stamp(ancillary: list[tuple[int, int, bytes]]) -> int | None:
    for level, kind, data in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, SO_TIMESTAMPNS):
            seconds, ns = TIMESPEC.unpack_from(data)
            return int(seconds) * NS_PER_S + int(ns)
    return None
