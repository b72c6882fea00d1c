"""Traffic control over rtnetlink(7): the few requests that redirecting needs, each answered before it returns.

The kernel has done what it was asked when sendmsg() returns, so that a switchover is over when its request is.
That takes the lock of all links (rtnl): while somebody deletes a link, it waits.
"""

import errno
import os
import socket
import struct
import sys
from collections.abc import Iterator

import msgspec

from tapbond.datapath.classifier import Classifier, Match
from tapbond.errors import LinkRequestError, RightsError, TapbondError
from tapbond.netns import OpenSocket
from tapbond.rtmessage import NLA_TYPE_MASK, NLMSG, encode_attribute, parse_attributes, u32
from tapbond.rtsocket import (
    NETLINK_CAP_ACK,
    NETLINK_EXT_ACK,
    NLM_F_ACK,
    NLM_F_DUMP,
    NLMSG_DONE,
    NLMSG_ERROR,
    SOL_NETLINK,
    error_code,
    messages,
    request,
)

RTM_NEWQDISC, RTM_DELQDISC, RTM_GETQDISC = 36, 37, 38
RTM_NEWTFILTER, RTM_DELTFILTER, RTM_GETTFILTER = 44, 45, 46
NLM_F_ECHO, NLM_F_REPLACE, NLM_F_EXCL, NLM_F_CREATE = 0x8, 0x100, 0x200, 0x400
NLMSGERR_ATTR_MSG = 1

TCMSG = struct.Struct("=BxxxiIII")
"""Family, ifindex, handle, parent, info: struct tcmsg of include/uapi/linux/rtnetlink.h."""
TCA_KIND, TCA_OPTIONS, TCA_CHAIN, TCA_INGRESS_BLOCK, TCA_EGRESS_BLOCK = 1, 2, 11, 13, 14
TC_H_CLSACT = 0xFFFFFFF1
"""Parent of an ``ingress`` and of a ``clsact`` qdisc."""
CLSACT_HANDLE = 0xFFFF0000
BLOCK = -1
"""TCM_IFINDEX_MAGIC_BLOCK: the parent is then the number of a block."""
ETH_P_ALL = 3

TCA_ACT_KIND, TCA_ACT_OPTIONS, TCA_ACT_STATS = 1, 2, 4
TCA_MIRRED_PARMS = 2
MIRRED = struct.Struct("=IIiiiiI")
"""Index, capab, action, refcnt, bindcnt, eaction, ifindex: struct tc_mirred."""
EGRESS_REDIRECT, INGRESS_REDIRECT = 1, 3
TC_ACT_STOLEN = 4
TCA_STATS_BASIC, TCA_STATS_QUEUE, TCA_STATS_PKT64 = 1, 3, 8
BASIC = struct.Struct("=QI")
QUEUE = struct.Struct("=IIIII")

DEADLINE_S = 5.0
READ_SIZE = 1 << 16


class Redirect(msgspec.Struct, frozen=True, kw_only=True):
    """Where a filter sends what it matches (act_mirred)."""

    index: int = 0
    """Of an action that exists already; 0: a new one."""
    ingress: bool = False
    """As if the other link had received it; False: sent by the other link."""
    ifindex: int = 0
    """Of the other link, for a new action."""

    def encode(self) -> bytes:
        """Return the action list with this as its only member."""
        eaction = INGRESS_REDIRECT if self.ingress else EGRESS_REDIRECT
        parms = MIRRED.pack(self.index, 0, TC_ACT_STOLEN, 0, 0, eaction, self.ifindex)
        options = encode_attribute(TCA_MIRRED_PARMS, parms)
        action = encode_attribute(TCA_ACT_KIND, b"mirred\0") + encode_attribute(TCA_ACT_OPTIONS, options)
        return encode_attribute(1, action)


class Place(msgspec.Struct, frozen=True, kw_only=True):
    """Which filters of a block a filter belongs to."""

    block: int
    prio: int = 1
    """The lowest is asked first."""
    chain: int = 0
    """0: asked about each frame; any other is asked when a filter says so, and here none does."""


class Filter(msgspec.Struct, frozen=True, kw_only=True):
    """A filter as the kernel tells it."""

    handle: int
    index: int
    """Of its action."""
    frames: int
    bytes: int
    lost: int
    """Frames that its action could not redirect: the link was down."""


class Tc:
    """Requests to traffic control of one network namespace.

    Args:
        open_socket: makes a socket there.
    """

    def __init__(self, open_socket: OpenSocket = socket.socket) -> None:
        self._socket = open_socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._socket.settimeout(DEADLINE_S)
        for option in (NETLINK_CAP_ACK, NETLINK_EXT_ACK):
            self._socket.setsockopt(SOL_NETLINK, option, 1)
        self._socket.bind((0, 0))
        self._sequence = 0

    def close(self) -> None:
        """Close the socket; again is harmless."""
        self._socket.close()

    def add_qdisc(self, what: str, ifindex: int, block: int, *, egress: bool = False) -> None:
        """Have a block's filters asked about what a link receives; ``egress``: about what it sends.

        Args:
            what: the link's name, for errors.
            ifindex: its number.
            block: any number; the block is made when the first link has it, and goes with the last one.
            egress: see above.

        Raises:
            LinkRequestError: EEXIST where the link has an ``ingress`` or a ``clsact`` qdisc already.
        """
        header = TCMSG.pack(0, ifindex, CLSACT_HANDLE, TC_H_CLSACT, 0)
        kind = b"clsact\0" if egress else b"ingress\0"
        number = TCA_EGRESS_BLOCK if egress else TCA_INGRESS_BLOCK
        body = header + encode_attribute(TCA_KIND, kind) + encode_attribute(number, u32(block))
        self._request(f"{what}: cannot filter its frames", RTM_NEWQDISC, NLM_F_CREATE | NLM_F_EXCL, body)

    def remove_qdisc(self, what: str, ifindex: int) -> None:
        """Take that from a link again; raises LinkRequestError where there is nothing to take."""
        header = TCMSG.pack(0, ifindex, CLSACT_HANDLE, TC_H_CLSACT, 0)
        self._request(f"{what}: cannot stop filtering its frames", RTM_DELQDISC, 0, header)

    def filtered(self) -> dict[int, set[int]]:
        """Return by ifindex the blocks of every link that has such a qdisc; none: it has filters of its own."""
        found: dict[int, set[int]] = {}
        for kind, payload in self._request("qdiscs", RTM_GETQDISC, NLM_F_DUMP, TCMSG.pack(0, 0, 0, 0, 0)):
            if kind != RTM_NEWQDISC:
                continue
            _, ifindex, _, parent, _ = TCMSG.unpack_from(payload)
            if parent == TC_H_CLSACT:
                told = _attributes(payload[TCMSG.size :])
                blocks = (told.get(number) for number in (TCA_INGRESS_BLOCK, TCA_EGRESS_BLOCK))
                found[ifindex] = {int.from_bytes(block, sys.byteorder) for block in blocks if block}
        return found

    def put(
        self, what: str, classifier: Classifier, place: Place, match: Match, to: Redirect, handle: int = 0
    ) -> Filter:
        """Add a filter, or replace the one with this handle, and return it.

        A replacement is one step: each frame meets the one or the other (list_replace_rcu() in cls_bpf.c,
        u32_replace_knode() in cls_u32.c).
        """
        body = _named(classifier, place, handle) + _options(classifier, match, to)
        flags = NLM_F_ECHO | NLM_F_CREATE | (NLM_F_REPLACE if handle else NLM_F_EXCL)
        return _filter(classifier, self._request(f"{what}: cannot set its filter", RTM_NEWTFILTER, flags, body))

    def get(self, what: str, classifier: Classifier, place: Place, handle: int) -> Filter:
        """Return a filter with what it has counted."""
        body = _named(classifier, place, handle)
        return _filter(classifier, self._request(f"{what}: cannot read its filter", RTM_GETTFILTER, 0, body))

    def remove(self, what: str, classifier: Classifier, place: Place, handle: int) -> None:
        """Remove a filter."""
        body = _named(classifier, place, handle)
        self._request(f"{what}: cannot remove its filter", RTM_DELTFILTER, 0, body)

    def _request(self, what: str, kind: int, flags: int, body: bytes) -> list[tuple[int, bytes]]:
        """Ask; return what came before the acknowledgement, type and payload each.

        Raises:
            LinkRequestError, RightsError: the kernel refused.
            TapbondError: no answer.
        """
        self._sequence += 1
        found = []
        try:
            self._socket.send(request(kind, NLM_F_ACK | flags, self._sequence, body))
            for number, _, sequence, payload in self._answers():
                if sequence != self._sequence:
                    continue
                if number == NLMSG_DONE:
                    break
                if number == NLMSG_ERROR:
                    _check(what, payload)
                    break
                found.append((number, payload))
        except OSError as error:
            raise TapbondError(f"{what}: {error.strerror or error}") from error
        return found

    def _answers(self) -> Iterator[tuple[int, int, int, bytes]]:
        while True:
            yield from messages(self._socket.recv(READ_SIZE))


def replacement(classifier: Classifier, place: Place, match: Match, to: Redirect, handle: int) -> bytes:
    """Return the message that replaces a filter, for somebody else to send: only a refusal is answered."""
    body = _named(classifier, place, handle) + _options(classifier, match, to)
    return request(RTM_NEWTFILTER, NLM_F_REPLACE, 0, body)


def _named(classifier: Classifier, place: Place, handle: int) -> bytes:
    return (
        _filter_header(place, handle)
        + encode_attribute(TCA_KIND, classifier.kind.encode() + b"\0")
        + encode_attribute(TCA_CHAIN, u32(place.chain))
    )


def _options(classifier: Classifier, match: Match, to: Redirect) -> bytes:
    return encode_attribute(TCA_OPTIONS, classifier.options(match, to.encode()))


def _filter_header(place: Place, handle: int) -> bytes:
    info = place.prio << 16 | socket.htons(ETH_P_ALL)
    return TCMSG.pack(0, BLOCK, handle, place.block, info)


def _attributes(data: bytes) -> dict[int, bytes]:
    return {number & NLA_TYPE_MASK: value for number, value in parse_attributes(data)}


def _filter(classifier: Classifier, answers: list[tuple[int, bytes]]) -> Filter:
    """Return the filter that an answer tells of."""
    payload = next(payload for kind, payload in answers if kind == RTM_NEWTFILTER)
    options = _attributes(_attributes(payload[TCMSG.size :])[TCA_OPTIONS])
    action = _attributes(_attributes(options[classifier.act])[1])
    parms = _attributes(action[TCA_ACT_OPTIONS])[TCA_MIRRED_PARMS]
    stats = _attributes(action.get(TCA_ACT_STATS, b""))
    octets, frames = BASIC.unpack_from(stats.get(TCA_STATS_BASIC, bytes(BASIC.size)))
    if (many := stats.get(TCA_STATS_PKT64)) is not None:  # present where 32 bits are too few
        frames = int.from_bytes(many, sys.byteorder)
    return Filter(
        handle=TCMSG.unpack_from(payload)[2],
        index=MIRRED.unpack(parms)[0],
        frames=frames,
        bytes=octets,
        lost=QUEUE.unpack_from(stats.get(TCA_STATS_QUEUE, bytes(QUEUE.size)))[4],
    )


def _check(what: str, payload: bytes) -> None:
    """Raise what an acknowledgement says, in the kernel's own words where it has some (NLMSGERR_ATTR_MSG)."""
    if (code := error_code(payload)) == 0:
        return
    if code in (errno.EPERM, errno.EACCES):
        raise RightsError(f"{what}: not permitted (needs CAP_NET_ADMIN)")
    words = _attributes(payload[4 + NLMSG.size :]).get(NLMSGERR_ATTR_MSG, b"")
    raise LinkRequestError(what, code, words.rstrip(b"\0").decode(errors="replace") or os.strerror(code))
