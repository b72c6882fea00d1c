"""Poll the carrier, for links whose events come late: linkwatch may hold one back for a second.

A C thread asks the devices (csrc/watch.c) and wakes the event loop when an answer has changed. Once a second
everything is compared anyway, so that no chance order of events can leave a wrong belief standing.
"""

import asyncio
import os
import socket
from collections.abc import Awaitable, Callable, Collection

from tapbond._core import ffi, lib
from tapbond.datapath import DataPath
from tapbond.links import Links
from tapbond.model import Detector, Link
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
        off_loop: asks where it keeps nobody waiting: the kernel answers under its RTNL lock.
    """

    def __init__(
        self,
        slaves: Collection[Slave],
        links: Links,
        datapath: DataPath,
        clock: Callable[[], int],
        interval_s: float = POLL_S,
        open_socket: OpenSocket = socket.socket,
        off_loop: Callable[[Callable[[int], bool | None], int], Awaitable[bool | None]] = asyncio.to_thread,
    ) -> None:
        self._slaves = slaves
        self._links = links
        self._datapath = datapath
        self._clock = clock
        self._interval_s = interval_s
        self._open_socket = open_socket
        self._off_loop = off_loop
        self._comparing: asyncio.Task[None] | None = None
        self._again = False
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
        for waiting in (self._timer, self._comparing):
            if waiting is not None:
                waiting.cancel()

    def change(self, interval_s: float) -> None:
        """Poll at another interval; nothing is missed meanwhile, as start() compares everything first."""
        self.stop()
        self._interval_s = interval_s
        self.start()

    def compare(self) -> None:
        """Compare what the devices say with what is believed of them; once more if that is under way."""
        self._again = True
        if self._comparing is None or self._comparing.done():
            self._comparing = asyncio.create_task(self._compare())

    async def _compare(self) -> None:
        while self._again:
            self._again = False
            for slave in tuple(self._slaves):
                link = slave.link
                ready = await self._off_loop(self._datapath.ready, link.ifindex)
                if ready is not None and link.up and ready != link.carrier:
                    self._correct(slave, link, ready)

    def _correct(self, slave: Slave, link: Link, ready: bool) -> None:
        """Take an answer for true, unless there is news that may be newer: then ask again.

        What netlink has queued is older than the answer: it is taken in first.
        """
        self._links.read_pending()
        if slave.link is not link:
            self._again = True
        elif slave in self._slaves:
            self._links.correct(link, ready, self._clock(), Detector.POLL)

    def _changed(self) -> None:
        os.eventfd_read(lib.tb_watch_event_fd(self._watch))
        self.compare()

    def _compare_again(self) -> None:
        self._timer = asyncio.get_running_loop().call_later(COMPARE_S, self._compare_again)
        self.compare()
