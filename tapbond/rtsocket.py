"""Requests to rtnetlink(7) without pyroute2: a socket, and whole answers as bytes.

A socket for each use, in the network namespace of the thread that opens it.
"""

import errno
import os
import socket
import sys
from collections.abc import Callable, Iterator
from typing import TypeVar

from tapbond.errors import LinkRequestError, TapbondError
from tapbond.rtmessage import NLMSG, align

SOL_NETLINK = 270
NETLINK_CAP_ACK = 10
NETLINK_EXT_ACK = 11
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLM_F_DUMP_INTR = 0x10
NLMSG_ERROR, NLMSG_DONE = 2, 3

DEADLINE_S = 5.0
READ_SIZE = 1 << 18
DUMP_TRIES = 10

T = TypeVar("T")


def open_socket() -> socket.socket:
    """Return a socket whose reads raise TimeoutError after DEADLINE_S; raises OSError."""
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    opened.settimeout(DEADLINE_S)
    for option in (NETLINK_CAP_ACK, NETLINK_EXT_ACK):
        opened.setsockopt(SOL_NETLINK, option, 1)
    opened.bind((0, 0))
    return opened


def request(kind: int, flags: int, sequence: int, body: bytes) -> bytes:
    """Return a message with its header."""
    return NLMSG.pack(NLMSG.size + len(body), kind, NLM_F_REQUEST | flags, sequence, 0) + body


def answers(rtnetlink: socket.socket) -> Iterator[tuple[int, int, int, bytes]]:
    """Read for ever: type, flags, sequence and payload of each message.

    Raises:
        TapbondError: nothing comes.
    """
    while True:
        try:
            data = rtnetlink.recv(READ_SIZE)
        except OSError as error:
            raise TapbondError(f"rtnetlink does not answer: {error.strerror or error}") from error
        yield from messages(data)


def waiting(receive: Callable[[], T]) -> Iterator[T | None]:
    """Yield what can be read without waiting, None where something was lost (netlink(7), ENOBUFS).

    Args:
        receive: reads from a non-blocking socket.

    Raises:
        OSError: it cannot be read.
    """
    while True:
        try:
            yield receive()
        except BlockingIOError:
            return
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            yield None


def messages(data: bytes) -> Iterator[tuple[int, int, int, bytes]]:
    """Take a datagram apart: type, flags, sequence and payload of each message."""
    offset = 0
    while offset + NLMSG.size <= len(data):
        length, number, flags, sequence, _ = NLMSG.unpack_from(data, offset)
        yield number, flags, sequence, data[offset + NLMSG.size : offset + length]
        offset += align(max(length, NLMSG.size))


def ask(rtnetlink: socket.socket, what: str, kind: int, body: bytes) -> bytes | None:
    """Return the payload of the one answer, None: there is no such thing (ENODEV).

    Args:
        rtnetlink: of open_socket().
        what: is asked, for an error.
        kind: RTM_GET*.
        body: what follows the header.

    Raises:
        LinkRequestError: the kernel refused.
        TapbondError: it does not answer.
    """
    rtnetlink.send(request(kind, 0, 1, body))
    for number, _, _, payload in answers(rtnetlink):
        if number != NLMSG_ERROR:
            return payload
        if (code := error_code(payload)) == errno.ENODEV:
            return None
        raise LinkRequestError(what, code, os.strerror(code))
    return None


def dump(rtnetlink: socket.socket, what: str, kind: int, body: bytes) -> list[bytes]:
    """Return the payloads of one table; read again when it changed meanwhile (netlink(7), NLM_F_DUMP_INTR).

    Args:
        rtnetlink: of open_socket().
        what: is read, for an error.
        kind: RTM_GET*; the answers are RTM_NEW*, two less.
        body: what follows the header.

    Raises:
        LinkRequestError: the kernel refused, or it never stands still.
        TapbondError: it does not answer.
    """
    for attempt in range(1, DUMP_TRIES + 1):
        rtnetlink.send(request(kind, NLM_F_DUMP, attempt, body))
        found, whole = [], True
        for number, flags, sequence, payload in answers(rtnetlink):
            if sequence != attempt:
                continue
            whole = whole and not flags & NLM_F_DUMP_INTR
            if number == NLMSG_DONE:
                break
            if number == NLMSG_ERROR:
                code = error_code(payload)
                raise LinkRequestError(what, code, os.strerror(code))
            if number == kind - 2:
                found.append(payload)
        if whole:
            return found
    raise LinkRequestError(what, errno.EAGAIN, "they change too fast to be read")


def error_code(payload: bytes) -> int:
    """Return the errno of an NLMSG_ERROR, 0: done."""
    return -int.from_bytes(payload[:4], sys.byteorder, signed=True)
