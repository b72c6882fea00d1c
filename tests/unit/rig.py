"""A pump between socket pairs: one stands for the TAP, one for each slave.

    test ── rig.host ══ tap end ── pump ── near end ══ rig.far[port] ── test

With more queues there is a pump between rig.hosts[queue] and rig.fars[port][queue] for each; those above are the
first queue's.

AF_UNIX datagram sockets keep frames whole and have filters, full buffers and errors as packet sockets do: a
far end that was closed answers the next send with ECONNREFUSED.
"""

import asyncio
import contextlib
import itertools
import socket
import time
from collections.abc import AsyncIterator, Callable, Collection, Sequence
from contextlib import asynccontextmanager

from tapbond._core import ffi, lib
from tapbond.datapath import PumpEvent, PumpEventKind
from tapbond.datapath.pump import Pump
from tapbond.model import Counters, Decision

DEADLINE_S = 10.0
LONG_DRAIN_NS = 600 * 10**9
"""Never over within a test."""

MAC = "02:00:00:00:00:01"
OWN = bytes.fromhex(MAC.replace(":", ""))
PEER = bytes.fromhex("020000000002")
GROUP = bytes.fromhex("01005e000001")
BROADCAST = b"\xff" * 6
VNET = bytes(range(1, 11))
"""A header that nobody could make up."""
ZERO_VNET = bytes(10)
FRAME_MAX = 17 * 4096 - 64
"""csrc/batch.c."""


def frame(
    payload: bytes | int, *, to: bytes = PEER, source: bytes = OWN, vnet: bytes = VNET, size: int = 0
) -> bytes:
    """Return a frame behind its virtio_net_hdr; a number as payload tells it from others."""
    body = payload.to_bytes(8, "big") if isinstance(payload, int) else payload
    return (vnet + to + source + b"\x88\xb5" + body).ljust(size, b"\xa5")


def inbound(payload: bytes | int, *, to: bytes = OWN, size: int = 0) -> bytes:
    """Return a frame that the far host sends."""
    return frame(payload, to=to, source=PEER, size=size)


def pair(kind: int = socket.SOCK_DGRAM, buffer: int = 0) -> tuple[socket.socket, socket.socket]:
    ends = socket.socketpair(socket.AF_UNIX, kind | socket.SOCK_NONBLOCK)
    for end in ends:
        if buffer:
            end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
    return ends


async def until(condition: Callable[[], object], what: str = "") -> None:
    """Wait for a condition, at most DEADLINE_S."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        assert time.monotonic() < deadline, f"never came: {what or condition}"
        await asyncio.sleep(0.0002)


async def receive(end: socket.socket, count: int) -> list[bytes]:
    """Receive so many frames."""
    found: list[bytes] = []

    def all_there() -> bool:
        try:
            while len(found) < count:
                found.append(end.recv(1 << 18))
        except BlockingIOError:
            return False
        return True

    await until(all_there, f"{count} frames")
    return found


async def send(end: socket.socket, frames: Sequence[bytes]) -> None:
    """Send frames, waiting for room where there is none."""
    left = list(frames)

    def all_gone() -> bool:
        try:
            while left:
                end.send(left[0])
                del left[0]
        except BlockingIOError:
            return False
        return True

    await until(all_gone, "room to send")


def waiting(end: socket.socket) -> list[bytes]:
    """Return what has arrived so far."""
    found = []
    try:
        while True:
            found.append(end.recv(1 << 18))
    except BlockingIOError:
        return found


class Rig:
    """See above; also the listener of the pump."""

    def __init__(
        self,
        slaves: int = 2,
        *,
        drain_ns: int = LONG_DRAIN_NS,
        kind: int = socket.SOCK_DGRAM,
        tolerant: bool = False,
        silent: bool = False,
        queues: int = 1,
    ) -> None:
        ends = [pair(kind, 1 << 20) for _ in range(queues)]
        self.hosts, self.taps = [host for host, _ in ends], [tap for _, tap in ends]
        self.host, self.tap = ends[0]
        self.pump = Pump(
            self.tap.fileno(),
            drain_ns,
            tolerant=tolerant,
            silent=silent,
            busy_poll_ns=50_000,
            more_queues=[tap.fileno() for tap in self.taps[1:]],
        )
        self.events: list[PumpEvent] = []
        self.far: dict[int, socket.socket] = {}
        self.fars: dict[int, list[socket.socket]] = {}
        for _ in range(slaves):
            self.plug(kind=kind)

    def plug(self, *, kind: int = socket.SOCK_DGRAM, buffer: int = 0) -> int:
        """Attach another slave."""
        ends = [pair(kind, buffer) for _ in self.hosts]
        for _, near in ends:
            assert lib.tb_port_gate(near.fileno(), 0) == 0
        port = self.pump.attach_socket(*(near for _, near in ends))
        self.fars[port] = [far for far, _ in ends]
        self.far[port] = self.fars[port][0]
        return port

    def pump_event(self, event: PumpEvent) -> None:
        self.events.append(event)

    def told(self, kind: PumpEventKind) -> list[PumpEvent]:
        return [event for event in self.events if event.kind is kind]

    def seen(self) -> int:
        """Return the serial of the newest event."""
        return max((event.serial for event in self.events), default=0)

    async def adopted(self, generation: int) -> None:
        await until(lambda: lib.tb_pump_adopted(self.pump._pump) >= generation, f"generation {generation}")
        await asyncio.sleep(0)  # the pump may be faster than the loop: let it read the events

    async def caught_up(self) -> None:
        """Wait for the event that tells of the selection in force."""
        newest = lib.tb_pump_adopted(self.pump._pump)
        await until(lambda: any(e.generation >= newest for e in self.told(PumpEventKind.ADOPTED)), "ADOPTED")

    async def order(
        self, *ports: int, receive: Collection[int] | None = None, drain: bool = True, seen: int = 0
    ) -> None:
        """Publish who sends and who follows, and wait until it is in force; ``receive`` ends rx=active."""
        decision = Decision(
            order=ports,
            receive=frozenset(receive or ()),
            receive_sender=receive is None,
            drain=drain and receive is None,
            requested=None,
        )
        await self.adopted(self.pump.apply(decision, seen))

    async def told_of(self, kind: PumpEventKind, count: int = 1) -> list[PumpEvent]:
        await until(lambda: len(self.told(kind)) >= count, f"{count} {kind.name}")
        return self.told(kind)

    async def counted(self, port: int | None, **expected: int) -> Counters:
        """Wait until counters of a port (None: of all) have these values."""

        def now() -> Counters:
            return self.pump.total() if port is None else self.pump.counters(port)

        await until(lambda: all(getattr(now(), name) == value for name, value in expected.items()), f"{expected}")
        return now()

    def tap_counters(self) -> dict[str, int]:
        raw = ffi.new("struct tb_tap_counters *")
        lib.tb_pump_tap_counters(self.pump._pump, raw)
        return {name: getattr(raw, name) for name in ("tx_dropped", "rx_dropped", "events_lost")}

    async def barrier(self, port: int) -> None:
        """Have what was sent on a slave so far dealt with: a runt is counted after everything before it."""
        before = self.pump.counters(port).rx_errors
        await send(self.far[port], [b"runt"])
        await self.counted(port, rx_errors=before + 1)

    async def close(self) -> None:
        await self.pump.close()
        for end in (*self.hosts, *self.taps, *itertools.chain(*self.fars.values()), *self.far.values()):
            end.close()


async def fill(rig: Rig) -> list[bytes]:
    """Send until the sender's buffer is full and the host has to wait; return what was sent."""
    sent = []

    def full() -> bool:
        before = rig.pump.counters(0).tx_frames
        with contextlib.suppress(BlockingIOError):
            while True:
                rig.host.send(frame(len(sent)))
                sent.append(frame(len(sent)))
        return before > 0 and before == rig.pump.counters(0).tx_frames

    await until(full, "a full buffer")
    return sent


@asynccontextmanager
async def running(slaves: int = 2, **options: int) -> AsyncIterator[Rig]:
    """A rig whose pump runs; the slaves follow each other in the order 0, 1, ..."""
    rig = Rig(slaves, **options)
    try:
        rig.pump.start(rig)
        rig.pump.set_announcements(MAC, [])
        await rig.order(*range(slaves))
        yield rig
    finally:
        await rig.close()
