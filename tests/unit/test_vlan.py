"""Putting back a VLAN tag, against a model in Python."""

import struct

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tapbond._core import ffi, lib

NEEDS_CSUM = 1
VNET_LEN, MACS_LEN, TAG_LEN = 10, 12, 4
HEADER = struct.Struct("=BBHHHH")
"""struct virtio_net_hdr: flags, gso_type, hdr_len, gso_size, csum_start, csum_offset."""

u8, u16 = st.integers(0, 255), st.integers(0, 0xFFFF)
headers = st.builds(
    HEADER.pack, st.sampled_from([0, 1, 2, 3, 255]), st.sampled_from([0, 1, 3, 4, 5, 0x81]), u16, u16, u16, u16
)
frames = st.builds(bytes.__add__, headers, st.binary(min_size=14, max_size=200))


def insert(frame: bytes, tpid: int, tci: int) -> tuple[int, bytes]:
    """Run the C function; return its result and the memory from 4 bytes before the frame to 4 behind it."""
    memory = ffi.new("uint8_t[]", b"\xee" * TAG_LEN + frame + b"\xdd" * TAG_LEN)
    result = lib.tb_vlan_insert(memory + TAG_LEN, len(frame), tpid, tci)
    return result, bytes(ffi.buffer(memory, len(frame) + 2 * TAG_LEN))


def model(frame: bytes, tpid: int, tci: int) -> bytes:
    """Say what the frame is like with its tag."""
    flags, gso_type, hdr_len, gso_size, csum_start, csum_offset = HEADER.unpack_from(frame)
    if flags & NEEDS_CSUM:
        csum_start = (csum_start + TAG_LEN) & 0xFFFF
    if gso_type:
        hdr_len = (hdr_len + TAG_LEN) & 0xFFFF
    header = HEADER.pack(flags, gso_type, hdr_len, gso_size, csum_start, csum_offset)
    ethernet = frame[VNET_LEN:]
    return header + ethernet[:MACS_LEN] + struct.pack("!HH", tpid, tci) + ethernet[MACS_LEN:]


@given(frames, u16, u16)
@example(HEADER.pack(1, 1, 54, 1448, 34, 16) + bytes(range(60)), 0x8100, 100)
@example(HEADER.pack(0, 0, 54, 0, 34, 16) + bytes(range(60)), 0x88A8, 0xFFFF)
def test_a_tag_is_inserted_as_the_model_says(frame: bytes, tpid: int, tci: int) -> None:
    result, memory = insert(frame, tpid, tci)
    assert result == 0
    assert memory == model(frame, tpid, tci) + b"\xdd" * TAG_LEN


@given(st.binary(max_size=VNET_LEN + 13), u16, u16)
def test_a_frame_that_is_too_short_is_left_as_it_is(frame: bytes, tpid: int, tci: int) -> None:
    result, memory = insert(frame, tpid, tci)
    assert result < 0
    assert memory == b"\xee" * TAG_LEN + frame + b"\xdd" * TAG_LEN


@pytest.mark.parametrize("tpid", [0x8100, 0x88A8])
def test_every_tag_there_is(tpid: int) -> None:
    frame = bytes(VNET_LEN) + bytes(range(14))
    memory = ffi.new("uint8_t[]", TAG_LEN + len(frame))
    place = TAG_LEN - TAG_LEN + VNET_LEN + MACS_LEN
    for tci in range(1 << 16):
        ffi.memmove(memory + TAG_LEN, frame, len(frame))
        assert lib.tb_vlan_insert(memory + TAG_LEN, len(frame), tpid, tci) == 0
        assert ffi.unpack(memory + place, 4) == [tpid >> 8, tpid & 255, tci >> 8, tci & 255]


def test_a_super_frame_keeps_its_64_kib() -> None:
    frame = HEADER.pack(1, 1, 66, 1448, 34, 16) + bytes(n % 251 for n in range(65535))
    result, memory = insert(frame, 0x8100, 42)
    assert result == 0
    assert memory[: len(frame) + TAG_LEN] == model(frame, 0x8100, 42)


def test_a_tag_may_be_put_before_a_tag() -> None:
    frame = bytes(VNET_LEN) + bytes(range(30))
    _, memory = insert(frame, 0x8100, 7)
    _, memory = insert(memory[: len(frame) + TAG_LEN], 0x88A8, 8)
    assert memory[VNET_LEN + MACS_LEN :][:8] == bytes.fromhex("88a8 0008 8100 0007")
