"""The C threads of the lab over socket pairs: what they note, and that they always stop."""

import errno
import socket
import struct
import time
from collections.abc import Iterator
from typing import Any

import pytest

from tapbond.lab import UdpFlow, wait_until
from tapbond.lab._traffic import ffi, lib
from tapbond.lab.copying import copied


@pytest.fixture
def datagrams() -> Iterator[list[socket.socket]]:
    ends = [*socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)]
    yield ends
    for end in ends:
        end.close()


@pytest.fixture
def streams() -> Iterator[list[socket.socket]]:
    ends = [*socket.socketpair(), *socket.socketpair()]
    yield ends
    for end in ends:
        end.close()


@pytest.fixture
def udp(datagrams: list[socket.socket]) -> Iterator[Any]:
    handle = UdpFlow._new(*datagrams, rate=2000, sent_max=100, size=18)
    yield handle
    lib.lab_udp_free(handle)


@pytest.fixture
def tcp(streams: list[socket.socket]) -> Iterator[Any]:
    """A stream whose sender writes to one pair and whose receiver reads from the other."""
    tx, _, rx, _ = streams
    config = {"tx_fd": tx.fileno(), "rx_fd": rx.fileno(), "rate": 0, "samples_max": 10, "sample_ns": 1}
    out = ffi.new("struct lab_tcp **")
    assert lib.lab_tcp_new(ffi.new("struct lab_tcp_config *", config), out) == 0
    yield out[0]
    lib.lab_tcp_free(out[0])


def state_of(tcp: Any) -> Any:
    state = ffi.new("struct lab_tcp_state *")
    lib.lab_tcp_state(tcp, state)
    return state


def test_each_number_is_sent_once_at_its_time_and_received_in_order(udp: Any) -> None:
    assert lib.lab_udp_start(udp) == 0
    wait_until(lambda: lib.lab_udp_received(udp) == lib.lab_udp_sent(udp) == 100)
    sent_ns = copied("q", lib.lab_udp_sent_ns(udp), 100)
    assert list(copied("Q", lib.lab_udp_received_seq(udp), 100)) == list(range(100))
    assert all(at - sent_ns[0] >= seq * 400_000 for seq, at in enumerate(sent_ns))
    assert list(sent_ns) == sorted(sent_ns)


def test_foreign_and_truncated_datagrams_are_not_recorded(udp: Any, datagrams: list[socket.socket]) -> None:
    datagrams[0].send(b"\xb5")
    datagrams[0].send(bytes(18))
    assert lib.lab_udp_start(udp) == 0
    wait_until(lambda: lib.lab_udp_received(udp) == 100)
    lib.lab_udp_stop(udp)
    assert lib.lab_udp_received(udp) == 100


def test_a_refused_datagram_is_recorded_and_the_sender_goes_on(udp: Any, datagrams: list[socket.socket]) -> None:
    datagrams[1].close()
    assert lib.lab_udp_start(udp) == 0
    wait_until(lambda: lib.lab_udp_sent(udp) == 100)
    assert set(copied("i", lib.lab_udp_error(udp), 100)) <= {-errno.ECONNREFUSED, -errno.ENOTCONN}


def test_a_flow_starts_once_and_stops_twice(udp: Any) -> None:
    assert lib.lab_udp_start(udp) == 0
    assert lib.lab_udp_start(udp) == -errno.EALREADY
    before = time.monotonic()
    lib.lab_udp_stop(udp)
    lib.lab_udp_stop(udp)
    assert time.monotonic() - before < 1.0
    assert lib.lab_udp_start(udp) == -errno.EALREADY


def test_stream_counts_verified_bytes_across_words(tcp: Any, streams: list[socket.socket]) -> None:
    words = struct.pack("=6Q", *range(6))
    assert lib.lab_tcp_start(tcp) == 0
    for end in (3, 20, 21, 48):
        streams[3].sendall(words[state_of(tcp).received : end])
        wait_until(lambda end=end: state_of(tcp).received == end)
    assert state_of(tcp).rx_error == 0
    assert state_of(tcp).samples == 4


def test_stream_with_wrong_contents_ends_with_an_error(tcp: Any, streams: list[socket.socket]) -> None:
    streams[3].sendall(struct.pack("=3Q", 0, 1, 3))
    assert lib.lab_tcp_start(tcp) == 0
    wait_until(lambda: state_of(tcp).rx_error)
    assert state_of(tcp).rx_error == -errno.EBADMSG


def test_stream_that_ends_says_so_on_both_sides(tcp: Any, streams: list[socket.socket]) -> None:
    streams[1].close()
    streams[3].close()
    assert lib.lab_tcp_start(tcp) == 0
    wait_until(lambda: state_of(tcp).rx_error and state_of(tcp).tx_error)
    assert (state_of(tcp).rx_error, state_of(tcp).tx_error) == (-errno.EPIPE, -errno.EPIPE)


def test_stream_sender_numbers_each_word_however_the_socket_splits_it(
    tcp: Any, streams: list[socket.socket]
) -> None:
    assert lib.lab_tcp_start(tcp) == 0
    got = bytearray()
    while len(got) < 3_000_000:
        got += streams[1].recv(10_007)
    words = struct.unpack(f"={len(got) // 8}Q", got[: len(got) // 8 * 8])
    assert words == tuple(range(len(words)))


def test_stalled_stream_stops_at_once(tcp: Any) -> None:
    assert lib.lab_tcp_start(tcp) == 0
    wait_until(lambda: state_of(tcp).sent)
    before = time.monotonic()
    lib.lab_tcp_stop(tcp)
    assert time.monotonic() - before < 1.0
