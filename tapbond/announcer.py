"""When and how often a failover announces itself: ``num_grat_arp`` and ``peer_notif_delay`` of bonding.rst.

The pump sends the first announcement itself, before any frame of the host, even when it switched before anybody
was asked. Everything after that is counted here.
"""

import asyncio
from functools import cache
from ipaddress import IPv4Address, IPv6Address

from tapbond.announce import announcements, tagged
from tapbond.datapath import DataPath
from tapbond.groups import Reader, joined, read_proc, reports
from tapbond.links import Links
from tapbond.stack import Voice, voices

NS_PER_S = 1_000_000_000


class Announcer:
    """Announces a failover, and what is stacked on it, after each switchover.

    Args:
        datapath: sends.
        links: tells what is stacked on the failover, and the addresses; None: nothing is known of either.
        count: how often each switchover is announced; 0: never.
        interval_ns: from one announcement to the next.
        read: see tapbond.groups.joined(); of the namespace that the failover is in.
    """

    def __init__(
        self, datapath: DataPath, links: Links | None, *, count: int, interval_ns: int, read: Reader = read_proc
    ) -> None:
        self.ifindex = 0
        """The failover's."""
        self.mac = ""
        self._datapath = datapath
        self._links = links
        self._count = count
        self._interval_s = interval_ns / NS_PER_S
        self._read = read
        self._told: tuple[str, list[bytes]] | None = None
        self._timer: asyncio.Handle | None = None
        self._soon: asyncio.Handle | None = None

    def change(self, count: int, interval_ns: int) -> None:
        """Announce so often, and at this interval, from the next switchover on."""
        self._count, self._interval_s = count, interval_ns / NS_PER_S

    def introduce(self, ifindex: int, mac: str) -> None:
        """Say which link the failover is, and which MAC it has from now on."""
        known = (self.ifindex, self.mac) == (ifindex, mac)
        self.ifindex, self.mac = ifindex, mac
        if not known:
            self.refresh()
        elif self._soon is None:  # a thousand addresses may come with one reading of netlink
            self._soon = asyncio.get_running_loop().call_soon(self.refresh)

    def look_at(self, links: Links | None) -> None:
        """Ask these links from now on: the failover is in another namespace; None: where nobody may look."""
        self._links = links

    def refresh(self) -> None:
        """Have the data path announce what there is now."""
        self._forget_soon()
        if not self.ifindex:
            return
        frames: list[bytes] = []
        for voice in self._voices():
            frames += announcements(voice.mac, self._addresses(voice.ifindex), voice.tags)
        frames = list(dict.fromkeys(frames))  # a macvlan may have its parent's MAC
        if self._told != (self.mac, frames):
            self._told = self.mac, frames
            self._datapath.set_announcements(self.mac, frames)

    def switched(self, port: int | None) -> None:
        """Go on where the pump has begun: it sends on another port now, and has announced that once.

        Args:
            port: None: on none, so that there is nothing left to say.
        """
        self._catch_up()
        self.close()
        if port is not None and self._count:
            # Later: reading the groups takes longer than a decision, and other failovers may have one to make.
            self._timer = asyncio.get_running_loop().call_soon(self._go_on, port)

    def begin(self, port: int) -> None:
        """Announce from the beginning, all ``count`` times: something else than the pump announced."""
        self._catch_up()
        self.close()
        if self._count:
            self._once_more(port, self._count)

    def close(self) -> None:
        """Announce no more until the next switchover."""
        self._forget_soon()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _catch_up(self) -> None:
        """Take in what has changed a moment ago."""
        if self._soon is not None:
            self.refresh()

    def _forget_soon(self) -> None:
        if self._soon is not None:
            self._soon.cancel()
            self._soon = None

    def _go_on(self, port: int) -> None:
        self._add_to_announcement(port)
        self._repeat(port, self._count - 1)

    def _repeat(self, port: int, left: int) -> None:
        self._timer = None
        if left:
            loop = asyncio.get_running_loop()
            self._timer = loop.call_later(self._interval_s, self._once_more, port, left)

    def _once_more(self, port: int, left: int) -> None:
        self._datapath.announce_again()
        self._add_to_announcement(port)
        self._repeat(port, left - 1)

    def _add_to_announcement(self, port: int) -> None:
        """Send what the pump does not: announcements it has no room for, and the multicast groups."""
        self._datapath.announce(port)
        for frame in self._reports():
            self._datapath.send(port, frame)

    def _reports(self) -> list[bytes]:
        """Return the reports of all groups, as the kernel tells of them now: each file is read once for all."""
        read = cache(self._read)
        return [
            tagged(frame, voice.tags)
            for voice in self._voices()
            for frame in reports(voice.mac, joined(voice.ifindex, read), self._addresses(voice.ifindex))
        ]

    def _voices(self) -> list[Voice]:
        return voices(self._links.by_index if self._links else {}, self.ifindex, self.mac)

    def _addresses(self, ifindex: int) -> list[IPv4Address | IPv6Address]:
        return [address.ip for address in self._links.addresses(ifindex)] if self._links else []
