"""What tells which frames are redirected: classifiers of tc, told by the network device that a frame came by.

``matchall`` is no use here: it cannot tell links apart, and a filter of it cannot be replaced (mall_change()).
"""

import socket
import struct
from typing import Protocol

import msgspec

from tapbond.rtmessage import encode_attribute, u32

BPF_LOAD_WORD, BPF_JUMP_IF_EQUAL, BPF_RETURN = 0x20, 0x15, 0x06
INSTRUCTION = struct.Struct("=HBBI")
ANCILLARY = -0x1000 & 0xFFFFFFFF
"""SKF_AD_OFF of include/uapi/linux/filter.h."""
PACKET_TYPE, IFINDEX = ANCILLARY + 4, ANCILLARY + 8
PACKET_BROADCAST, PACKET_MULTICAST = 1, 2
MATCH, NO_MATCH = 0xFFFFFFFF, 0

TCA_BPF_ACT, TCA_BPF_CLASSID, TCA_BPF_OPS_LEN, TCA_BPF_OPS = 1, 3, 4, 5
TCA_U32_CLASSID, TCA_U32_SEL, TCA_U32_ACT, TCA_U32_INDEV = 1, 5, 7, 8

U32_SELECTOR = struct.Struct("=BBBxHHhhI")
U32_KEY = struct.Struct("=4s4sii")
U32_TERMINAL = 1
DESTINATION_MAC = -14
"""From where IP begins."""


class Match(msgspec.Struct, frozen=True, kw_only=True):
    """Which frames a filter is for."""

    ifindex: int = 0
    """Of the link that received it; 0: of any."""
    unicast: bool = False
    """Only those for one station."""


EVERYTHING = Match()


class Classifier(Protocol):
    """One kind of filter."""

    kind: str
    act: int
    """Number of the attribute that has its actions."""

    def options(self, match: Match, actions: bytes) -> bytes:
        """Return the attributes of a filter."""


class BpfClassifier:
    """cls_bpf with a classic BPF program, which root of a user namespace may load as well."""

    kind = "bpf"
    act = TCA_BPF_ACT

    def options(self, match: Match, actions: bytes) -> bytes:
        """Return the attributes of a filter."""
        program = _program(match)
        return (
            encode_attribute(TCA_BPF_CLASSID, u32(1))
            + encode_attribute(TCA_BPF_OPS_LEN, struct.pack("=H", len(program)))
            + encode_attribute(TCA_BPF_OPS, b"".join(program))
            + encode_attribute(TCA_BPF_ACT, actions)
        )


class U32Classifier:
    """cls_u32, the oldest of them. Its selector stays what it was when a filter is replaced, its link does not."""

    kind = "u32"
    act = TCA_U32_ACT

    def options(self, match: Match, actions: bytes) -> bytes:
        """Return the attributes of a filter."""
        keys = [U32_KEY.pack(b"\1\0\0\0", bytes(4), DESTINATION_MAC, 0)] if match.unicast else []
        selector = U32_SELECTOR.pack(U32_TERMINAL, 0, len(keys), 0, 0, 0, 0, 0) + b"".join(keys)
        indev = (
            encode_attribute(TCA_U32_INDEV, socket.if_indextoname(match.ifindex).encode() + b"\0")
            if match.ifindex
            else b""
        )
        return (
            encode_attribute(TCA_U32_CLASSID, u32(1))
            + encode_attribute(TCA_U32_SEL, selector)
            + indev
            + encode_attribute(TCA_U32_ACT, actions)
        )


CLASSIFIERS: tuple[Classifier, ...] = (BpfClassifier(), U32Classifier())
"""In the order in which they are tried."""


def _program(match: Match) -> list[bytes]:
    """Return a classic BPF program: each test leads on to the next, or to the last instruction."""
    tests: list[tuple[int, int, bool]] = []
    if match.ifindex:
        tests.append((IFINDEX, match.ifindex, True))
    if match.unicast:
        tests += [(PACKET_TYPE, PACKET_BROADCAST, False), (PACKET_TYPE, PACKET_MULTICAST, False)]
    program = []
    for place, (load, value, wanted) in enumerate(tests):
        out = 2 * (len(tests) - place - 1) + 1
        program.append(INSTRUCTION.pack(BPF_LOAD_WORD, 0, 0, load))
        jumps = (0, out) if wanted else (out, 0)
        program.append(INSTRUCTION.pack(BPF_JUMP_IF_EQUAL, *jumps, value))
    program.append(INSTRUCTION.pack(BPF_RETURN, 0, 0, MATCH))
    program.append(INSTRUCTION.pack(BPF_RETURN, 0, 0, NO_MATCH))
    return program
