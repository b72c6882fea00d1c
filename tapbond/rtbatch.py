"""Dumps of everything, and many requests in one datagram: rtnetlink(7) without a wait in between.

A socket of its own for each, in the thread (and so in the network namespace) of the Rtnetlink.
"""

import errno
import os
import socket
import sys
from collections.abc import Iterator, Sequence

import structlog

from tapbond.errors import LinkRequestError, NoSuchInterfaceError, RightsError, TapbondError
from tapbond.moves import Step
from tapbond.rtmessage import (
    HEADER_LEN,
    NLMSG,
    RTM_GETADDR,
    RTM_GETNEIGH,
    RTM_GETROUTE,
    Message,
    align,
    parse_attributes,
)
from tapbond.rtnetlink import Rtnetlink

log = structlog.get_logger()

SOL_NETLINK = 270
NETLINK_CAP_ACK = 10
NETLINK_EXT_ACK = 11
NLM_F_REQUEST, NLM_F_ACK, NLM_F_DUMP = 0x1, 0x4, 0x300
NLM_F_DUMP_INTR = 0x10
NLMSG_ERROR, NLMSG_DONE = 2, 3
NLMSGERR_ATTR_MSG = 1
ACK_LEN = 4 + NLMSG.size
"""The error and the header of the request that it is about; after it come attributes (NETLINK_CAP_ACK)."""

DEADLINE_S = 5.0
READ_SIZE = 1 << 18
BATCH = 64
"""Requests in one datagram: their answers must fit into the socket's buffer."""
DUMP_TRIES = 10


class RtBatch:
    """Reads and changes addresses, routes and neighbours of all links.

    Args:
        rtnetlink: an open one.
    """

    def __init__(self, rtnetlink: Rtnetlink) -> None:
        self._rtnetlink = rtnetlink

    async def dump(self) -> list[Message]:
        """Return all addresses, routes and neighbours, in the kernel's order.

        Raises:
            TapbondError: they cannot be read.
        """
        found: list[Message] = await self._rtnetlink.request("routes and addresses", lambda _ipr: _dump())
        return found

    async def perform(self, steps: Sequence[Step]) -> None:
        """Do all steps, whatever becomes of each; wait for the answers.

        Raises:
            LinkRequestError, NoSuchInterfaceError, RightsError: why the first of those that failed did.
        """
        errors: list[TapbondError] = await self._rtnetlink.request("routes and addresses", lambda _ipr: _do(steps))
        for error in errors[1:]:
            log.debug("refused too", error=str(error))
        if errors:
            raise errors[0]


def _open() -> socket.socket:
    opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
    opened.settimeout(DEADLINE_S)
    for option in (NETLINK_CAP_ACK, NETLINK_EXT_ACK):
        opened.setsockopt(SOL_NETLINK, option, 1)
    opened.bind((0, 0))
    return opened


def _dump() -> list[Message]:
    with _open() as rtnetlink:
        return [
            message
            for kind in (RTM_GETADDR, RTM_GETROUTE, RTM_GETNEIGH)
            for message in _dump_kind(rtnetlink, kind)
        ]


def _dump_kind(rtnetlink: socket.socket, kind: int) -> list[Message]:
    """Read one table; again when it changed meanwhile (netlink(7), NLM_F_DUMP_INTR)."""
    new = kind - 2
    body = bytes(HEADER_LEN[new])
    for attempt in range(1, DUMP_TRIES + 1):
        length = NLMSG.size + len(body)
        rtnetlink.send(NLMSG.pack(length, kind, NLM_F_REQUEST | NLM_F_DUMP, attempt, 0) + body)
        found, whole = [], True
        for number, flags, sequence, payload in _answers(rtnetlink):
            if sequence != attempt:
                continue
            whole = whole and not flags & NLM_F_DUMP_INTR
            if number == NLMSG_DONE:
                break
            if number == NLMSG_ERROR:
                code = -int.from_bytes(payload[:4], sys.byteorder, signed=True)
                raise LinkRequestError("routes and addresses", code, os.strerror(code))
            if number == new:
                found.append(Message.parse(new, payload))
        if whole:
            return found
    raise LinkRequestError("routes and addresses", errno.EAGAIN, "they change too fast to be read")


def _answers(rtnetlink: socket.socket) -> Iterator[tuple[int, int, int, bytes]]:
    """Read for ever: type, flags, sequence and payload of each message."""
    while True:
        try:
            data = rtnetlink.recv(READ_SIZE)
        except OSError as error:
            raise TapbondError(f"rtnetlink does not answer: {error.strerror or error}") from error
        offset = 0
        while offset + NLMSG.size <= len(data):
            length, number, flags, sequence, _ = NLMSG.unpack_from(data, offset)
            yield number, flags, sequence, data[offset + NLMSG.size : offset + length]
            offset += align(max(length, NLMSG.size))


def _do(steps: Sequence[Step]) -> list[TapbondError]:
    errors: list[TapbondError] = []
    with _open() as rtnetlink:
        for start in range(0, len(steps), BATCH):
            batch = steps[start : start + BATCH]
            rtnetlink.send(b"".join(_request(step, sequence) for sequence, step in enumerate(batch)))
            answers = _answers(rtnetlink)
            for _ in batch:
                number, _, sequence, payload = next(answers)
                if number == NLMSG_ERROR and (error := _refusal(batch[sequence], payload)) is not None:
                    errors.append(error)
    return errors


def _request(step: Step, sequence: int) -> bytes:
    body = step.message.encode()
    flags = NLM_F_REQUEST | NLM_F_ACK | step.flags
    return NLMSG.pack(NLMSG.size + len(body), step.message.kind, flags, sequence, 0) + body


def _refusal(step: Step, payload: bytes) -> TapbondError | None:
    """Return what an answer means; the kernel's own words where it has some (NLMSGERR_ATTR_MSG)."""
    code = -int.from_bytes(payload[:4], sys.byteorder, signed=True)
    if code == 0 or code in step.tolerated:
        return None
    if code == errno.ENODEV:
        return NoSuchInterfaceError(step.what.split(":", 1)[0])
    if code in (errno.EPERM, errno.EACCES):
        return RightsError(f"{step.what}: not permitted (needs CAP_NET_ADMIN)")
    words = dict(parse_attributes(payload[ACK_LEN:])).get(NLMSGERR_ATTR_MSG, b"")
    return LinkRequestError(step.what, code, words.rstrip(b"\0").decode(errors="replace") or os.strerror(code))
