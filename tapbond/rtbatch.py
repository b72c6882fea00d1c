"""Dumps of everything, and many requests in one datagram: rtnetlink(7) without a wait in between.

A socket of its own for each, in the thread (and so in the network namespace) of the Rtnetlink.
"""

import errno
import os
from collections.abc import Sequence

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
    parse_attributes,
)
from tapbond.rtnetlink import Rtnetlink
from tapbond.rtsocket import NLM_F_ACK, NLMSG_ERROR, answers, dump, error_code, open_socket, request

log = structlog.get_logger()

NLMSGERR_ATTR_MSG = 1
ACK_LEN = 4 + NLMSG.size
"""The error and the header of the request that it is about; after it come attributes (NETLINK_CAP_ACK)."""

BATCH = 64
"""Requests in one datagram: their answers must fit into the socket's buffer."""


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


def _dump() -> list[Message]:
    with open_socket() as rtnetlink:
        return [
            Message.parse(kind - 2, payload)
            for kind in (RTM_GETADDR, RTM_GETROUTE, RTM_GETNEIGH)
            for payload in dump(rtnetlink, "routes and addresses", kind, bytes(HEADER_LEN[kind - 2]))
        ]


def _do(steps: Sequence[Step]) -> list[TapbondError]:
    errors: list[TapbondError] = []
    with open_socket() as rtnetlink:
        for start in range(0, len(steps), BATCH):
            batch = steps[start : start + BATCH]
            rtnetlink.send(b"".join(_request(step, sequence) for sequence, step in enumerate(batch)))
            replies = answers(rtnetlink)
            for _ in batch:
                number, _, sequence, payload = next(replies)
                if number == NLMSG_ERROR and (error := _refusal(batch[sequence], payload)) is not None:
                    errors.append(error)
    return errors


def _request(step: Step, sequence: int) -> bytes:
    return request(step.message.kind, NLM_F_ACK | step.flags, sequence, step.message.encode())


def _refusal(step: Step, payload: bytes) -> TapbondError | None:
    """Return what an answer means; the kernel's own words where it has some (NLMSGERR_ATTR_MSG)."""
    code = error_code(payload)
    if code == 0 or code in step.tolerated:
        return None
    if code == errno.ENODEV:
        return NoSuchInterfaceError(step.what.split(":", 1)[0])
    if code in (errno.EPERM, errno.EACCES):
        return RightsError(f"{step.what}: not permitted (needs CAP_NET_ADMIN)")
    words = dict(parse_attributes(payload[ACK_LEN:])).get(NLMSGERR_ATTR_MSG, b"")
    return LinkRequestError(step.what, code, words.rstrip(b"\0").decode(errors="replace") or os.strerror(code))
