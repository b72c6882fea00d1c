"""The failover as a link of the host: the TAP with its MAC, its MTU, its queue and its carrier."""

from collections.abc import Callable

import structlog

from tapbond.errors import NoSuchInterfaceError, TapError
from tapbond.netns import Netns
from tapbond.rtnetlink import Rtnetlink
from tapbond.tap import Tap

log = structlog.get_logger()

QUEUE_LEN = 4096
"""Frames that wait on the TAP while the pump waits for a processor: 80 ms of 50 000 a second."""


class Master:
    """The TAP of a failover, open and set up; its carrier is off at first.

    Args:
        name: of the interface.
        rtnetlink: an open one.
        lost: is called with the reason when the TAP has gone.
        queues: see Tap.

    Raises:
        RightsError, TapError: see Tap.
    """

    def __init__(self, name: str, rtnetlink: Rtnetlink, lost: Callable[[str], None], queues: int = 1) -> None:
        self.name = name
        self.ifindex = 0
        """Known after set_up()."""
        self._rtnetlink = rtnetlink
        self._lost = lost
        self._tap = Tap(name, queues)

    @property
    def queues(self) -> int:
        """How many queues it has."""
        return self._tap.queues

    def filenos(self) -> list[int]:
        """Return the descriptors that carry the frames, one a queue."""
        return self._tap.filenos()

    @property
    def interface(self) -> str:
        """What the interface is called now; the failover's name when it has gone."""
        try:
            return self._tap.interface
        except OSError:
            return self.name

    def open_netns(self) -> Netns:
        """Open the network namespace where the interface is now; raises OSError, see Tap.open_netns()."""
        return self._tap.open_netns()

    async def set_up(self, mac: str, mtu: int | None, standby_mtu: int | None) -> None:
        """Give the link what it needs and set it up.

        Args:
            mac: the failover's.
            mtu: in bytes; None: a persistent TAP keeps its own, another one gets the standby's.
            standby_mtu: the standby's, None where there is none yet.

        Raises:
            TapbondError: the kernel refused.
        """
        link = await self._rtnetlink.find(self.name)
        if link is None:
            raise NoSuchInterfaceError(self.name, "the TAP that was just made")
        self.ifindex = link.ifindex
        if mtu is None and not self._tap.persistent:
            mtu = standby_mtu
        if link.mac != mac:
            await self._rtnetlink.set_mac(link, mac)
        if mtu is not None and link.mtu != mtu:
            await self._rtnetlink.set_mtu(link, mtu)
        if not self._tap.persistent:
            await self._rtnetlink.set_queue_len(link, QUEUE_LEN)
        if not link.up:
            await self._rtnetlink.set_up(link, True)

    def set_carrier(self, on: bool) -> None:
        """Switch the carrier that the host sees."""
        try:
            self._tap.set_carrier(on)
        except OSError as error:
            self.failed(error.strerror or str(error))
            return
        log.info("carrier on" if on else "carrier off", failover=self.name)

    def failed(self, reason: str) -> None:
        """Tell that the TAP has gone."""
        self._lost(str(TapError(f"{self.name}: the TAP has gone ({reason}): was it deleted?")))

    def close(self) -> None:
        """Close it; the interface vanishes unless it is persistent."""
        self._tap.close()
