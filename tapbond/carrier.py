"""Wait for a link's carrier."""

import asyncio

from tapbond.links import Links
from tapbond.model import Detector, Link


async def carrier_on(links: Links, ifindex: int, deadline_s: float) -> bool:
    """Wait for the event that tells of a link's carrier: it is sent when its queue is open (linkwatch_do_dev()).

    Args:
        links: open.
        ifindex: the link; one that goes away is waited for no more.
        deadline_s: how long to wait.

    Returns:
        Whether the event came in time.
    """
    waiting = _Carrier(links, ifindex)
    links.listen(waiting)
    try:
        await asyncio.wait_for(waiting.on.wait(), deadline_s)
    except TimeoutError:
        return False
    finally:
        links.unlisten(waiting)
    return True


class _Carrier:
    """Waits for a link's carrier."""

    def __init__(self, links: Links, ifindex: int) -> None:
        self.on = asyncio.Event()
        self._ifindex = ifindex
        if (link := links.by_index.get(ifindex)) is not None:
            self.link_changed(link, 0, Detector.NETLINK)

    def link_changed(self, link: Link, _when_ns: int, _detector: Detector) -> None:
        if link.ifindex == self._ifindex and link.carrier:
            self.on.set()

    def link_removed(self, link: Link, _when_ns: int) -> None:
        if link.ifindex == self._ifindex:
            self.on.set()

    def addresses_changed(self, ifindex: int) -> None:
        pass
