"""The classic BPF programs, run by a small interpreter; u32's selector by its fields."""

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapbond.datapath.classifier import (
    EVERYTHING,
    IFINDEX,
    INSTRUCTION,
    MATCH,
    NO_MATCH,
    PACKET_TYPE,
    TCA_U32_SEL,
    Match,
    U32Classifier,
    _program,
)
from tapbond.rtmessage import parse_attributes

HOST, BROADCAST, MULTICAST, OTHER = range(4)


def run(program: list[bytes], ifindex: int, packet_type: int) -> int:
    """Run a program of loads, comparisons and returns on a frame."""
    at, loaded = 0, 0
    while True:
        code, jump_true, jump_false, value = INSTRUCTION.unpack(program[at])
        at += 1
        if code == 0x06:
            return int(value)
        if code == 0x20:
            loaded = {IFINDEX: ifindex, PACKET_TYPE: packet_type}[value]
        else:
            assert code == 0x15
            at += jump_true if loaded == value else jump_false


@given(
    wanted=st.integers(0, 1 << 31),
    came=st.integers(1, 1 << 31),
    packet_type=st.sampled_from((HOST, BROADCAST, MULTICAST, OTHER)),
    unicast=st.booleans(),
)
def test_the_program_says_what_was_asked(wanted: int, came: int, packet_type: int, unicast: bool) -> None:
    for ifindex in (came, wanted or came):
        expected = wanted in (0, ifindex) and not (unicast and packet_type in (BROADCAST, MULTICAST))
        program = _program(Match(ifindex=wanted, unicast=unicast))
        assert run(program, ifindex, packet_type) == (MATCH if expected else NO_MATCH)


@pytest.mark.parametrize(("match", "keys"), [(EVERYTHING, 0), (Match(unicast=True), 1)])
def test_u32_tests_the_group_bit(match: Match, keys: int) -> None:
    selector = dict(parse_attributes(U32Classifier().options(match, b"")))[TCA_U32_SEL]
    assert selector[2] == keys
    assert len(selector) == 16 + 16 * keys
    if keys:
        assert struct.unpack("!I4xi4x", selector[16:20] + selector[20:32])[0] == 0x01000000
