"""The measuring instrument itself, on a path that loses nothing.

host                                                       far
eth0 10.53.0.1/24 fd53::1/64 ──── (sw0 br0 swf) ────────── eth0 10.53.0.2/24 fd53::2/64
"""

import socket
from collections.abc import Iterator

import pytest

from tapbond.lab import FAR_V4, FAR_V6, HOST_V4, HOST_V6, Pair, TcpStream, UdpFlow, total, wait_until
from tapbond.lab._traffic import lib
from tapbond.lab.copying import copied

pytestmark = pytest.mark.namespaces


@pytest.fixture
def pair() -> Iterator[Pair]:
    with Pair() as made:
        yield made


def test_bare_pair_loses_nothing_at_5000_a_second_each_way_for_5_s(pair: Pair) -> None:
    there = UdpFlow(pair.host, pair.far, FAR_V4, 5000, rate=5000, seconds_max=5)
    back = UdpFlow(pair.far, pair.host, HOST_V6, 5000, rate=5000, seconds_max=5)
    with there, back:
        there.start()
        back.start()
        wait_until(lambda: there.sent == back.sent == 25_000, timeout=20.0)
    for flow in (there, back):
        assert flow.sent == flow.received == 25_000
        assert flow.record().instrument_lost == 0
        window = total(flow.record())
        assert (window.sent, window.unsent, window.lost) == (25_000, 0, 0)
        assert (window.duplicated, window.reordered) == (0, 0)


def test_flow_to_a_closed_port_goes_on(pair: Pair) -> None:
    with pair.host.socket(kind=socket.SOCK_DGRAM) as tx, pair.far.socket(kind=socket.SOCK_DGRAM) as rx:
        tx.connect((FAR_V4, 5000))
        udp = UdpFlow._new(tx, rx, rate=1000, sent_max=100, size=18)
        lib.lab_udp_start(udp)
        wait_until(lambda: lib.lab_udp_sent(udp) == 100)
        errors = copied("i", lib.lab_udp_error(udp), 100)
        lib.lab_udp_free(udp)
    assert list(errors) == [0] * 100  # each got out, though each second send told of the one before


@pytest.mark.parametrize("far", [FAR_V4, FAR_V6])
def test_stream_is_verified_at_its_rate(pair: Pair, far: str) -> None:
    with TcpStream(pair.host, pair.far, far, 5001, rate=20_000_000) as stream:
        start = stream.start()
        wait_until(lambda: stream.received >= 1_000_000)
        assert stream.alive_since(start)
    record = stream.record()
    assert (record.send_error, record.receive_error) == (0, 0)
    assert record.bytes_total[-1] == record.received == stream.received
    assert record.last_ns[-1] - record.started_ns >= 350_000_000
    assert stream.alive_since(start)
    assert not stream.alive_since(record.ended_ns)


def test_stream_as_fast_as_possible(pair: Pair) -> None:
    with TcpStream(pair.host, pair.far, FAR_V4, 5001, rate=0) as stream:
        stream.start()
        wait_until(lambda: stream.received >= 100_000_000)
    assert stream.record().receive_error == 0


@pytest.mark.tools("ping")
def test_pair_through_a_bridge_carries_traffic() -> None:
    with Pair(bridge=True, mtu=4000) as bridged:
        bridged.far.check_output(
            ["ping", "-c1", "-W5", HOST_V4]
        )  # the bridge's ports forward, neighbours are known
        with UdpFlow(bridged.far, bridged.host, HOST_V4, 5000, rate=1000, seconds_max=60, size=3900) as flow:
            flow.start()
            wait_until(lambda: flow.received >= 50)
        assert total(flow.record()).lost == 0
