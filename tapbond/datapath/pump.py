"""The copy path: the C pump, seen from the event loop."""

import asyncio
import errno
import itertools
import os
import socket
from collections.abc import Sequence
from typing import Any

import structlog

from tapbond._core import ffi, lib
from tapbond.closing import close_all
from tapbond.datapath import PumpEvent, PumpEventKind, PumpListener
from tapbond.datapath.hearing import Hearing
from tapbond.datapath.selection import Selection
from tapbond.datapath.sockets import SlaveSockets
from tapbond.errors import TapbondError
from tapbond.filters import EVERYTHING, Filters
from tapbond.model import COUNTER_FIELDS, Counters, Decision, Link
from tapbond.netns import OpenSocket

log = structlog.get_logger()

DRAIN_NS = 50_000_000
"""How long a former receiver still delivers unicast: longer than frames are under way in a switched network."""
ADOPT_DEADLINE_S = 5.0
"""The pump adopts between two batches; longer than this it is stuck."""


class Pump:
    """Carries frames between a TAP and its slaves in threads of its own, one a queue of the TAP.

    Args:
        tap_fd: non-blocking, each frame behind a 10-byte virtio_net_hdr; stays the caller's, and open.
        more_queues: further queues of the same TAP, likewise.
        drain_ns: see DRAIN_NS.
        open_socket: in the slaves' network namespace.
        tolerant: a sender that is only down (ENETDOWN) goes on being the sender: who waits for its link to come
            back decides when that is over. What is sent meanwhile is lost, and counted as dropped.
        silent: announce nothing when the sender changes.
        busy_poll_ns: how long the pump looks for the next frame before it sleeps, at the most (csrc/busy.c). With
            no processor more than queues to run on there is nobody else to wait for.

    Raises:
        OSError: no memory or descriptors for it.
    """

    def __init__(
        self,
        tap_fd: int,
        drain_ns: int = DRAIN_NS,
        open_socket: OpenSocket = socket.socket,
        *,
        tolerant: bool = False,
        silent: bool = False,
        busy_poll_ns: int = 0,
        more_queues: Sequence[int] = (),
    ) -> None:
        self.queues = 1 + len(more_queues)
        self._pump = _open_pump(tap_fd, more_queues)
        if len(os.sched_getaffinity(0)) > self.queues:
            lib.tb_pump_busy_poll(self._pump, busy_poll_ns)
        self._selection = Selection(drain_ns, tolerant=tolerant, silent=silent)
        self._sockets: dict[int, SlaveSockets] = {}
        self._hearings: dict[int, Hearing] = {}
        self._filters = EVERYTHING
        self._baseline: dict[int, Counters] = {}
        self._last_total = Counters()
        self._more_announcements: list[bytes] = []
        self._held_back: list[tuple[int, int, bytes]] = []
        self._generation = 0
        self._ids = itertools.count(1)
        self._listener: PumpListener | None = None
        self._adopted = asyncio.Event()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._open_socket = open_socket
        self._asking = open_socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, 0)

    def start(self, listener: PumpListener) -> None:
        """Start the threads, and tell ``listener`` what it sees.

        Raises:
            OSError: no thread can be made.
        """
        self._listener = listener
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(lib.tb_pump_event_fd(self._pump), self._read_events)
        if (result := lib.tb_pump_start(self._pump)) < 0:
            raise OSError(-result, os.strerror(-result))

    def attach(self, link: Link) -> int:
        """Open a port on a link and return it; it is idle until a decision names it.

        Raises:
            TapbondError: see open_port(); or all ports are taken.
        """
        sockets = SlaveSockets.open(link, self.queues, self._open_socket)
        port = self._attach(sockets)
        self._hearings[port] = Hearing(sockets.first, link)
        self._hearings[port].set(self._filters)
        return port

    def attach_socket(self, *sockets: socket.socket) -> int:
        """Attach open sockets, one a queue, whose gates are closed; they are closed by detach()."""
        return self._attach(SlaveSockets(list(sockets)))

    def _attach(self, sockets: SlaveSockets) -> int:
        free = set(range(lib.TB_PORTS_MAX)) - self._sockets.keys()
        if not free:
            for one in sockets.take():
                one.close()
            raise TapbondError(f"no more than {lib.TB_PORTS_MAX} slaves")
        place = min(free)
        self._sockets[place] = sockets
        self._baseline[place] = self._raw(place)
        self._selection.put(place, sockets.first.fileno(), next(self._ids))
        self._set_sockets(place)
        return place

    def _set_sockets(self, place: int) -> None:
        for queue, one in enumerate(self._sockets[place]):
            lib.tb_pump_set_socket(self._pump, queue, place, one.fileno())

    async def detach(self, port: int) -> None:
        """Take a port out of the pump's hands, then close it."""
        self._selection.clear(port)
        for queue in range(1, self.queues):
            lib.tb_pump_set_socket(self._pump, queue, port, -1)
        generation = self._publish()
        await self._wait_adopted(generation)
        self._hearings.pop(port, None)
        await close_all(self._sockets.pop(port).take())

    def hear(self, filters: Filters) -> None:
        """Have every slave, those attached later too, let through what the failover wants to hear."""
        self._filters = filters
        for hearing in self._hearings.values():
            hearing.set(filters)

    def send_direct(self, port: int, direct: bool) -> None:
        """Send past the qdisc, or through it: see tb_port_direct() for what that is good for.

        It is asked for whenever the link has changed, which may be up now: then the queues share what it hears.
        """
        sockets = self._sockets[port]
        if not sockets.shared and sockets.share(self.queues):
            self._set_sockets(port)
            self._publish()
        for one in sockets:
            lib.tb_port_direct(one.fileno(), direct)

    def apply(self, decision: Decision, seen_serial: int) -> int:
        """Put a decision in force at the next batch; return its generation."""
        self._selection.decide(decision, seen_serial)
        return self._publish()

    def tune(self, drain_ns: int, *, tolerant: bool, silent: bool) -> None:
        """Change what it was made with, at the next batch."""
        self._selection.tune(drain_ns, tolerant=tolerant, silent=silent)
        self._publish()

    def set_announcements(self, mac: str, frames: list[bytes]) -> None:
        """Give the pump the frames to send whenever the sender changes.

        The pump itself sends the first 128, before any frame of the host; the others, and those longer than it
        can hold, follow from announce().
        """
        self._more_announcements = self._selection.announce(mac, frames)
        self._publish()

    def announce(self, port: int) -> None:
        """Send the announcements for which the pump had no room on this port."""
        for frame in self._more_announcements:
            self.send(port, frame)

    def announce_again(self) -> None:
        """Have the pump send what it sends when the sender changes once more, on the sender."""
        self._selection.announce_again()
        self._publish()

    def send(self, port: int, frame: bytes) -> None:
        """Send a frame on a port, as soon as what was published before is in force.

        Sooner, a switch would learn from it the way to a slave that is not heard yet.
        """
        self._held_back.append((self._generation, port, frame))
        self._send_held_back()

    def ready(self, ifindex: int) -> bool | None:
        """Return whether the device is up with a carrier, None when it does not exist."""
        result = lib.tb_link_ready(self._asking.fileno(), ifindex)
        if result < 0:
            return None if -result in (errno.ENODEV, errno.ENXIO) else False
        return bool(result)

    def sender(self) -> int | None:
        """Return the port that sends now, by the pump's own knowledge."""
        port = -1 if self._pump == ffi.NULL else lib.tb_pump_sender(self._pump)
        return None if port < 0 else port

    def counters(self, port: int) -> Counters:
        """Return what a port has carried since it was attached."""
        return self._raw(port) - self._baseline[port]

    def total(self) -> Counters:
        """Return the sum over every slave that ever was; it never runs backwards."""
        if self._pump == ffi.NULL:
            return self._last_total
        tap = ffi.new("struct tb_tap_counters *")
        lib.tb_pump_tap_counters(self._pump, tap)
        total = Counters(tx_dropped=tap.tx_dropped, rx_dropped=tap.rx_dropped)
        for place in range(lib.TB_PORTS_MAX):
            total += self._raw(place)
        return total

    async def close(self) -> None:
        """Stop the threads, close the sockets; again is harmless."""
        if self._pump == ffi.NULL:
            return
        if self._loop is not None:
            self._loop.remove_reader(lib.tb_pump_event_fd(self._pump))
        lib.tb_pump_stop(self._pump)
        self._last_total = self.total()
        lib.tb_pump_free(self._pump)
        self._pump = ffi.NULL
        ports = [one for sockets in self._sockets.values() for one in sockets.take()]
        self._sockets.clear()
        self._hearings.clear()
        self._held_back.clear()
        self._asking.close()
        await close_all(ports)

    def _publish(self) -> int:
        self._check_open()
        self._generation = int(lib.tb_pump_publish(self._pump, self._selection.raw))
        return self._generation

    def _send_held_back(self) -> None:
        adopted = 0 if self._pump == ffi.NULL else lib.tb_pump_adopted(self._pump)
        while self._held_back and self._held_back[0][0] <= adopted:
            _, port, frame = self._held_back.pop(0)
            sockets = self._sockets.get(port)
            if sockets is not None and (reason := sockets.send(frame)):
                log.debug("cannot announce", port=port, error=reason)

    def _check_open(self) -> None:
        if self._pump == ffi.NULL:
            raise RuntimeError("the pump is closed")

    async def _wait_adopted(self, generation: int) -> None:
        try:
            async with asyncio.timeout(ADOPT_DEADLINE_S):
                while lib.tb_pump_adopted(self._pump) < generation:
                    self._adopted.clear()
                    await self._adopted.wait()
        except TimeoutError as error:
            raise TapbondError(f"the pump has not come round for {ADOPT_DEADLINE_S:g} s") from error

    def _raw(self, place: int) -> Counters:
        self._check_open()
        raw = ffi.new("struct tb_port_counters *")
        lib.tb_pump_port_counters(self._pump, place, raw)
        return Counters(**{field: getattr(raw, field) for field in COUNTER_FIELDS})

    def _read_events(self) -> None:
        event_fd = lib.tb_pump_event_fd(self._pump)
        os.eventfd_read(event_fd)
        # Whatever it is: the event that tells of an adoption may be the one that found no room.
        self._adopted.set()
        self._send_held_back()
        try:
            self._pass_on_events()
        except BaseException:
            os.eventfd_write(event_fd, 1)  # come back for those that wait behind this one
            raise

    def _pass_on_events(self) -> None:
        raw = ffi.new("struct tb_event *")
        while self._pump != ffi.NULL and lib.tb_pump_next_event(self._pump, raw):
            event = PumpEvent(
                kind=PumpEventKind(raw.kind),
                port=None if raw.port < 0 else raw.port,
                error=raw.error,
                generation=raw.generation,
                serial=raw.serial,
                when_ns=raw.when_ns,
            )
            if self._listener is not None:
                self._listener.pump_event(event)


def _open_pump(tap_fd: int, more_queues: Sequence[int]) -> Any:
    """Return a pump with all its queues."""
    pump = lib.tb_pump_new(tap_fd)
    if pump == ffi.NULL:
        raise OSError(ffi.errno, os.strerror(ffi.errno))
    for fd in more_queues:
        if (result := lib.tb_pump_add_queue(pump, fd)) < 0:
            lib.tb_pump_free(pump)
            raise OSError(-result, os.strerror(-result))
    return pump
