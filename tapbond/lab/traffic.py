"""Numbered traffic from one namespace to another, sent and received by C threads (csrc/lab)."""

from __future__ import annotations

import itertools
import socket
import struct
import time
from array import array
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, Self

from ._traffic import ffi, lib
from .copying import copied
from .namespace import checked
from .report import FlowRecord, StreamRecord, stream_alive
from .waiting import wait_until

if TYPE_CHECKING:
    from .namespace import Namespace

_NS_PER_S = 1_000_000_000
_SAMPLE_NS = 1_000_000
_SIZE_MIN, _SIZE_MAX = 18, 65000
_FLOWS = itertools.count(1)


def _family(address: str) -> socket.AddressFamily:
    return socket.AF_INET6 if ":" in address else socket.AF_INET


class UdpFlow:
    """UDP datagrams at a steady rate, each with its number (udp(7)).

    ``rate``: datagrams a second; when late, those missed are sent at once. ``seconds_max``: the sender ends
    by itself after so long, as the records are allocated beforehand. ``size``: payload bytes, at least 18 (a
    minimal Ethernet frame over IPv4). ``dst`` must be an address of ``sink``.
    The socket never blocks: what it has no room for is *unsent* (EAGAIN), as when a dead link made the kernel
    forget its neighbour and some 250 datagrams wait for ARP.
    OSError: the address cannot be bound or reached; ValueError: rate or size out of range.
    """

    def __init__(
        self,
        source: Namespace,
        sink: Namespace,
        dst: str,
        port: int,
        *,
        rate: int,
        seconds_max: float,
        size: int = 18,
    ) -> None:
        if rate < 1 or not _SIZE_MIN <= size <= _SIZE_MAX:
            raise ValueError(f"rate {rate}, size {size}: at least 1/s, {_SIZE_MIN} to {_SIZE_MAX} bytes")
        self._interval_ns = _NS_PER_S // rate
        self._record: FlowRecord | None = None
        self._counted = (0, 0, 0)
        self._udp: Any = None
        with ExitStack() as stack:
            rx = stack.enter_context(sink.socket(_family(dst), socket.SOCK_DGRAM))
            rx.bind((dst, port))
            tx = stack.enter_context(source.socket(_family(dst), socket.SOCK_DGRAM))
            tx.connect((dst, port))
            self._udp = self._new(tx, rx, rate, max(1, int(rate * seconds_max)), size)
            self._sockets = stack.pop_all()

    @staticmethod
    def _new(tx: socket.socket, rx: socket.socket, rate: int, sent_max: int, size: int) -> Any:
        config = {
            "tx_fd": tx.fileno(),
            "rx_fd": rx.fileno(),
            "flow": next(_FLOWS) & 0xFF,
            "size": size,
            "rate": rate,
            "sent_max": sent_max,
        }
        out = ffi.new("struct lab_udp **")
        checked(lib.lab_udp_new(ffi.new("struct lab_udp_config *", config), out), "UDP flow")
        return out[0]

    def start(self) -> int:
        """Start receiving and sending; return time.monotonic_ns() from right before."""
        at = time.monotonic_ns()
        checked(lib.lab_udp_start(self._udp), "UDP flow")
        return at

    @property
    def sent(self) -> int:
        """Datagrams numbered so far, whether the socket took them or not."""
        return lib.lab_udp_sent(self._udp) if self._udp else self._counted[0]

    @property
    def received(self) -> int:
        """Datagrams received so far, duplicates too."""
        return lib.lab_udp_received(self._udp) if self._udp else self._counted[1]

    @property
    def instrument_lost(self) -> int:
        """Datagrams lost by the receiving socket itself: its buffer was full (SO_RXQ_OVFL, socket(7))."""
        return lib.lab_udp_instrument_lost(self._udp) if self._udp else self._counted[2]

    def stop(self, drain: float = 0.2) -> None:
        """Stop sending, wait at most ``drain`` seconds for what is under way, stop receiving."""
        if not self._udp:
            return
        lib.lab_udp_stop_sending(self._udp)
        with suppress(TimeoutError):
            wait_until(lambda: self.received >= self.sent, drain)
        lib.lab_udp_stop(self._udp)
        self._counted = (self.sent, self.received, self.instrument_lost)
        self._record = self.record()
        lib.lab_udp_free(self._udp)
        self._udp = None
        self._sockets.close()

    def record(self) -> FlowRecord:
        """Return a copy of the record: so far while it runs, of the whole flow once stopped."""
        if self._record:
            return self._record
        received, sent = self.received, self.sent
        return FlowRecord(
            interval_ns=self._interval_ns,
            sent_ns=copied("q", lib.lab_udp_sent_ns(self._udp), sent),
            error=copied("i", lib.lab_udp_error(self._udp), sent),
            received_seq=copied("Q", lib.lab_udp_received_seq(self._udp), received),
            received_ns=copied("q", lib.lab_udp_received_ns(self._udp), received),
            instrument_lost=self.instrument_lost,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()


class TcpStream:
    """One TCP connection that carries numbered bytes, verified where they arrive (tcp(7)).

    ``rate``: bits a second, 0 for as fast as possible. ``seconds_max``: for how long progress is sampled.
    ``dst`` must be an address of ``sink``. OSError: it cannot be bound.
    """

    def __init__(
        self,
        source: Namespace,
        sink: Namespace,
        dst: str,
        port: int,
        *,
        rate: int,
        seconds_max: float = 600.0,
    ) -> None:
        self._source, self._sink, self._address = source, sink, (dst, port)
        self._rate = rate
        self._samples_max = max(1, int(seconds_max * _NS_PER_S / _SAMPLE_NS))
        self._sockets = ExitStack()
        self._tcp: Any = None
        self._record: StreamRecord | None = None
        self._started_ns = 0

    def start(self, timeout: float = 5.0) -> int:
        """Connect and begin; return time.monotonic_ns() from right before the first byte is sent.

        TimeoutError: no connection within ``timeout`` seconds. OSError: it was refused or has no route.
        """
        with ExitStack() as stack:
            tx, rx = self._connect(stack, timeout)
            out = ffi.new("struct lab_tcp **")
            checked(lib.lab_tcp_new(self._config(tx, rx), out), "TCP stream")
            self._tcp = out[0]
            stack.callback(self._free)
            self._started_ns = time.monotonic_ns()
            checked(lib.lab_tcp_start(self._tcp), "TCP stream")
            self._sockets = stack.pop_all()
        return self._started_ns

    def _connect(self, stack: ExitStack, timeout: float) -> tuple[socket.socket, socket.socket]:
        family = _family(self._address[0])
        tx = stack.enter_context(self._source.socket(family, socket.SOCK_STREAM))
        try:
            with self._sink.socket(family, socket.SOCK_STREAM) as listener:
                listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                listener.bind(self._address)
                listener.listen(1)
                listener.settimeout(timeout)
                tx.settimeout(timeout)
                tx.connect(self._address)
                rx = stack.enter_context(listener.accept()[0])
        except TimeoutError as error:
            dst, port = self._address
            raise TimeoutError(
                f"no TCP connection from {self._source.name} to {dst} port {port} in {self._sink.name}"
                f" within {timeout:g} s"
            ) from error
        for end in (tx, rx):
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            # closing resets: no TIME_WAIT, no unsent bytes that keep the namespace alive
            end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        return tx, rx

    def _config(self, tx: socket.socket, rx: socket.socket) -> Any:
        config = {
            "tx_fd": tx.fileno(),
            "rx_fd": rx.fileno(),
            "rate": self._rate // 8,
            "samples_max": self._samples_max,
            "sample_ns": _SAMPLE_NS,
        }
        return ffi.new("struct lab_tcp_config *", config)

    def _free(self) -> None:
        lib.lab_tcp_free(self._tcp)
        self._tcp = None

    def _state(self) -> Any:
        state = ffi.new("struct lab_tcp_state *")
        if self._tcp:
            lib.lab_tcp_state(self._tcp, state)
        return state

    @property
    def sent(self) -> int:
        """Bytes handed to the socket so far."""
        return self._record.sent if self._record else int(self._state().sent)

    @property
    def received(self) -> int:
        """Bytes received and verified so far."""
        return self._record.received if self._record else int(self._state().received)

    def alive_since(self, at_ns: int) -> bool:
        """Return whether bytes arrived after ``at_ns`` (monotonic), with no error and the right contents."""
        if self._record:
            return stream_alive(self._record, at_ns)
        state = self._state()
        return bool(state.progress_ns > at_ns and not state.tx_error and not state.rx_error)

    def stop(self) -> None:
        """Stop both ends; what is still under way is dropped."""
        if not self._tcp:
            return
        lib.lab_tcp_stop(self._tcp)
        self._record = self.record()
        self._sockets.close()

    def record(self) -> StreamRecord:
        """Return a copy of the record: so far while it runs, of the whole stream once stopped."""
        if self._record:
            return self._record
        state = self._state()
        samples = int(state.samples)
        flat = copied("q", lib.lab_tcp_samples(self._tcp), 3 * samples) if samples else array("q")
        return StreamRecord(
            started_ns=self._started_ns,
            ended_ns=time.monotonic_ns(),
            first_ns=flat[0::3],
            last_ns=flat[1::3],
            bytes_total=flat[2::3],
            sent=int(state.sent),
            received=int(state.received),
            send_error=int(state.tx_error),
            receive_error=int(state.rx_error),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.stop()
