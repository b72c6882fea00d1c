"""What becomes of the links that could be slaves, or are: they come, change, are renamed and go."""

from collections.abc import Callable

import structlog

from tapbond.links import Links
from tapbond.membership import Membership
from tapbond.model import Detector, Link
from tapbond.selector import Selector
from tapbond.slave import Slave
from tapbond.surface import Surface

log = structlog.get_logger()


class Arrivals:
    """The LinkListener of the places where slaves are found and where they live.

    Args:
        failover: its name, for messages.
        members: takes links in and lets them go.
        selector: is told of how slaves are.
        surface: is told of what may have changed on them.
        links: where slaves live.
        is_tap: tells the failover itself from the others.
        mac_changed: is called when a slave has another MAC.
    """

    def __init__(
        self,
        failover: str,
        members: Membership,
        selector: Selector,
        surface: Surface,
        links: Links,
        *,
        is_tap: Callable[[Link], bool],
        mac_changed: Callable[[Slave], None],
    ) -> None:
        self._failover = failover
        self._members = members
        self._selector = selector
        self._surface = surface
        self._links = links
        self._is_tap = is_tap
        self._mac_changed = mac_changed

    def look_around(self, links: Links) -> None:
        """Consider every link that is there already."""
        for link in tuple(links.by_index.values()):
            if self._members.slave_of(link) is None and not self._is_tap(link):
                self._members.consider(link)

    def link_changed(self, link: Link, when_ns: int, detector: Detector) -> None:
        """Take note of a link that appeared or changed."""
        slave = self._members.slave_of(link)
        if slave is None:
            if not self._is_tap(link):
                self._members.consider(link)
            return
        if slave.name != link.name:
            log.info("slave renamed", failover=self._failover, slave=slave.name, to=link.name)
            self._selector.switchovers.renamed(slave.name, link.name)
        moved = link.mac != slave.link.mac
        self._selector.update(slave, link, detector, when_ns)
        if moved:
            self._mac_changed(slave)
        self._surface.changed(link.ifindex)

    def link_removed(self, link: Link, when_ns: int) -> None:
        """Take note of a link that was deleted or moved to another namespace."""
        if self._members.slave_of(link) is not None:
            self._surface.gone(link, self._links.last_counters)
        self._members.gone(link, when_ns)

    def addresses_changed(self, ifindex: int) -> None:
        """Do nothing: a slave's addresses are not used."""
