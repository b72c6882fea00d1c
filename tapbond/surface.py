"""What a failover and its slaves show of each other: what it hears, what they count, how fast they are."""

import socket
from collections.abc import Callable

import structlog

from tapbond.datapath import DataPath
from tapbond.errors import TapbondError
from tapbond.ethtool import Ethtool, LinkSpeed
from tapbond.filters import Filters
from tapbond.inquiry import Inquiry, MakeSocket
from tapbond.model import Detector, Link, LinkCounters
from tapbond.reception import GroupNews, Reception
from tapbond.rounds import Rounds
from tapbond.rtnetlink import Rtnetlink
from tapbond.selector import Selector
from tapbond.slave import Slave
from tapbond.speed import SpeedMirror
from tapbond.tally import Tally

log = structlog.get_logger()


class TapView:
    """The TAP as a link, in the network namespace where it is.

    Args:
        ifindex: there.
        make_socket: makes sockets in that namespace.
        told: is called when a group was joined or left there.
    """

    def __init__(self, ifindex: int, make_socket: MakeSocket, told: Callable[[], None]) -> None:
        self._ifindex = ifindex
        self._inquiry = Inquiry(make_socket)
        self._ethtool = Ethtool(make_socket)
        self._news = GroupNews(ifindex, told, make_socket)
        if not self._news.open():
            log.debug("the kernel does not tell of groups: they are compared once a second")

    def filters(self) -> Filters | None:
        """Return what it wants to hear; see Inquiry."""
        return self._inquiry.filters(self._ifindex)

    def show(self, speed: LinkSpeed) -> None:
        """Have it tell that it runs at this; see Ethtool."""
        self._ethtool.write(self._ifindex, speed)

    def close(self) -> None:
        """Look no more; again is harmless."""
        self._news.close()
        self._inquiry.close()
        self._ethtool.close()


class Surface:
    """Looks after all of that while it is open.

    Args:
        failover: its name.
        rtnetlink: in whose thread the kernel is asked.
        datapath: asks for what is to be heard.
        selector: knows the slaves, and decides again when their speeds change.
        clock: CLOCK_MONOTONIC in ns.
        make_socket: makes sockets in the slaves' network namespace.
    """

    def __init__(
        self,
        failover: str,
        rtnetlink: Rtnetlink,
        datapath: DataPath,
        selector: Selector,
        clock: Callable[[], int],
        make_socket: MakeSocket = socket.socket,
    ) -> None:
        self._rtnetlink = rtnetlink
        self._selector = selector
        self._clock = clock
        self._tap: TapView | None = None
        self._followed = 0
        self._inquiry = Inquiry(make_socket)
        self._ethtool = Ethtool(make_socket)
        self._reception = Reception(failover, self._filters, datapath)
        self._tally = Tally(selector.slaves, self._counters)
        self._speed = SpeedMirror(
            selector.slaves, lambda: selector.active, self._read_speed, self._show_speed, self._speed_changed
        )
        self._rounds = Rounds(self._reception.look, self._tally.look, self._speed.look)

    @property
    def counters(self) -> LinkCounters:
        """What the slaves' drivers have counted, as of the last second."""
        return self._tally.total

    async def open(self, tap: int) -> None:
        """Begin, with the TAP of this ifindex in the process's own namespace, before there is any slave."""
        self.follow_tap(tap)
        await self._reception.look()
        self._rounds.start()

    def follow_tap(self, ifindex: int) -> None:
        """The TAP has this ifindex in the process's own namespace; 0: it is elsewhere.

        There nobody stays to look: an open socket would keep that namespace alive. Everything is heard then.

        Raises:
            OSError: no socket can be made.
        """
        if ifindex == self._followed:
            return
        self._followed = ifindex
        if self._tap is not None:
            self._tap.close()
            self._tap = None
        if ifindex:
            self._tap = TapView(ifindex, socket.socket, self._rounds.hurry)
        self._speed.show_again()
        self._rounds.hurry()

    async def close(self) -> None:
        """Read the counters of those that are slaves no more, and end; again is harmless."""
        await self._rounds.stop()
        await self._tally.look()
        if self._tap is not None:
            self._tap.close()
        self._inquiry.close()
        self._ethtool.close()

    async def refresh(self) -> None:
        """Read the counters now."""
        await self._tally.look()

    async def greet(self, slave: Slave) -> None:
        """Count a new slave from here on, and find out how fast it is."""
        await self._tally.begin(slave.link.ifindex)
        await self._speed.read(slave)

    def changed(self, ifindex: int = 0) -> None:
        """Look now: something has changed; of a slave (its ifindex), its speed too."""
        self._speed.doubt(ifindex)
        self._rounds.hurry()

    def gone(self, link: Link, counters: LinkCounters | None) -> None:
        """Take note of a link that was unplugged; ``counters`` are its last, None: nobody told them."""
        self._tally.end(link.ifindex, counters)
        self._rounds.hurry()

    async def _filters(self) -> Filters | None:
        return None if (tap := self._tap) is None else await self._rtnetlink.run(tap.filters)

    async def _counters(self, ifindex: int) -> LinkCounters | None:
        try:
            return await self._rtnetlink.run(lambda: self._inquiry.counters(ifindex))
        except (OSError, TapbondError) as error:
            log.debug("cannot read what a slave's driver counts", ifindex=ifindex, error=str(error))
            return None

    async def _read_speed(self, ifindex: int) -> LinkSpeed:
        return await self._rtnetlink.run(lambda: self._ethtool.read(ifindex))

    async def _show_speed(self, speed: LinkSpeed) -> None:
        if (tap := self._tap) is None:
            return
        try:
            await self._rtnetlink.run(lambda: tap.show(speed))
        except OSError as error:
            log.debug("cannot show the speed of the active slave", error=error.strerror)

    def _speed_changed(self) -> None:
        self._selector.decide(Detector.NETLINK, self._clock(), "link speed changed")
