"""Poll the carrier, for links whose events come late: linkwatch may hold one back for a second.

A C thread asks the devices (csrc/watch.c) and wakes the event loop when an answer has changed. Once a second
everything is compared anyway, so that no chance order of events can leave a wrong belief standing.
"""

import asyncio
import os
import socket
from collections.abc import Callable, Collection

from tapbond._core import ffi, lib
from tapbond.datapath import DataPath
from tapbond.links import Links
from tapbond.model import Detector
from tapbond.netns import OpenSocket
from tapbond.slave import Slave

POLL_S = 0.010
COMPARE_S = 1.0


class CarrierPoll:
    """Asks each slave's device for its carrier, every ``interval_s``.

    Args:
        slaves: a live collection; follow() after each change.
        links: is told what netlink has not told yet.
        datapath: asks the device (ETHTOOL_GLINK).
        clock: CLOCK_MONOTONIC in ns.
        interval_s: 0: never.
        open_socket: in the slaves' network namespace.
    """

    def __init__(
        self,
        slaves: Collection[Slave],
        links: Links,
        datapath: DataPath,
        clock: Callable[[], int],
        interval_s: float = POLL_S,
        open_socket: OpenSocket = socket.socket,
    ) -> None:
        self._slaves = slaves
        self._links = links
        self._datapath = datapath
        self._clock = clock
        self._interval_s = interval_s
        self._open_socket = open_socket
        self._watch = ffi.NULL
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin.

        Raises:
            OSError: no thread or descriptor can be had.
        """
        if self._interval_s <= 0:
            return
        with self._open_socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, 0) as asking:
            self._watch = lib.tb_watch_new(max(1, round(self._interval_s * 1000)), asking.fileno())
        if self._watch == ffi.NULL:
            raise OSError(ffi.errno, os.strerror(ffi.errno))
        asyncio.get_running_loop().add_reader(lib.tb_watch_event_fd(self._watch), self._changed)
        self._compare_again()
        self.follow()

    def follow(self) -> None:
        """Poll the slaves that there are now."""
        if self._watch == ffi.NULL:
            return
        links = [slave.link.ifindex for slave in self._slaves]
        for place in range(lib.TB_PORTS_MAX):
            lib.tb_watch_follow(self._watch, place, links[place] if place < len(links) else 0)

    def stop(self) -> None:
        """End; again is harmless."""
        if self._watch == ffi.NULL:
            return
        asyncio.get_running_loop().remove_reader(lib.tb_watch_event_fd(self._watch))
        lib.tb_watch_free(self._watch)
        self._watch = ffi.NULL
        if self._timer is not None:
            self._timer.cancel()

    def compare(self) -> None:
        """Compare what the devices say with what is believed of them."""
        for slave in tuple(self._slaves):
            ready = self._datapath.ready(slave.link.ifindex)
            if ready is None or not slave.link.up or ready == slave.link.carrier:
                continue
            # What netlink has queued is older than this answer: take it in first.
            self._links.read_pending()
            self._links.correct(slave.link, ready, self._clock(), Detector.POLL)

    def _changed(self) -> None:
        os.eventfd_read(lib.tb_watch_event_fd(self._watch))
        self.compare()

    def _compare_again(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(COMPARE_S, self._compare_again)
        self.compare()
