"""Where the TAP is and how it is there: renamed, moved into a container's namespace, moved on, moved back."""

import asyncio
import errno
from collections.abc import Callable
from typing import Protocol

import msgspec
import structlog

from tapbond.errors import NoSuchInterfaceError, TapbondError
from tapbond.foreign import ForeignNews
from tapbond.model import Detector, Link
from tapbond.netns import Netns
from tapbond.place import Place
from tapbond.stack import STACKABLE

log = structlog.get_logger()

LOOK_S = 1.0
"""How often a TAP in another namespace is looked at where no news is heard."""
HEARING_S = 5.0
"""And where news is: of a namespace that has no id in ours it is not."""
SETTLE_S = 0.02
"""News comes in bursts: one look for all of them."""
PATIENCE = 2
"""So many looks in a row must fail until it is said: a namespace that is about to end cannot be entered either."""
TUN = "tun"


class Roaming(Protocol):
    """What is asked of the TAP itself (tapbond.master.Master)."""

    name: str
    ifindex: int

    @property
    def interface(self) -> str:
        """What it is called now."""

    def open_netns(self) -> Netns:
        """Open the namespace where it is; raises OSError."""


class Whereabouts:
    """Follows the TAP. A LinkListener of the place where it was made, and of the place where it is.

    Args:
        master: set up.
        home: where it was made; open.
        away: where it is when it is not at home (tapbond.visit).
        changed: is called with the TAP's link when it is another than before.
        addresses_changed: is called when addresses, or what is stacked on it, have changed in the TAP's place,
            and when it has another place.

    Raises:
        NoSuchInterfaceError: it is not at home, where it was just made.
    """

    def __init__(
        self,
        master: Roaming,
        home: Place,
        away: Place,
        changed: Callable[[Link], None],
        addresses_changed: Callable[[], None],
    ) -> None:
        self.place = home
        """Where it is, or was when it was last seen."""
        self.link = home.links.by_name(master.name)
        """The TAP, as it was when it was last seen."""
        self.blind = False
        """It is where we may not look."""
        self._moved_down = False
        self._master = master
        self._home = home
        self._away = away
        self._changed = changed
        self._addresses_changed = addresses_changed
        self._news = ForeignNews(self._look_soon)
        self._looking: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._failures = 0
        self._open = False

    @property
    def at_home(self) -> bool:
        """Whether it is where it was made."""
        return self.place is self._home and not self.blind

    @property
    def was_closed(self) -> bool:
        """Whether somebody has set it down at home. A move does that, too, and elsewhere news comes late."""
        return self.at_home and not self.link.up and not self._moved_down

    @property
    def netns(self) -> str:
        """Where it is, for Status.netns."""
        return "" if self.at_home else "?" if self.blind else f"net:[{self.place.inode}]"

    def open(self) -> None:
        """Begin to follow."""
        self._home.links.listen(self)
        self._away.links.listen(self)
        self._open = True
        self._changed(self.link)

    def close(self) -> None:
        """Stop; again is harmless."""
        self._stay()
        if self._looking is not None:
            self._looking.cancel()
            self._looking = None
        if self._open:
            self._open = False
            self._home.links.unlisten(self)
            self._away.links.unlisten(self)

    def is_tap(self, link: Link) -> bool:
        """Return whether a link is the TAP, also in the moment when it has just arrived."""
        if link.key == self.link.key:
            return True
        if self.at_home and self.link.ifindex:
            return False  # it is seen, and another one: asking takes the kernel's RTNL lock
        return link.kind == TUN and link.name == self._master.interface and link.netns == self._inode()

    # What is set on it.

    async def look(self) -> Link | None:
        """Return how it is where it was last seen, by the kernel: news may be old. None: gone."""
        return next((link for link in await self.place.rtnetlink.links() if link.key == self.link.key), None)

    async def set_mtu(self, mtu: int) -> None:
        """Set its MTU in bytes; raises TapbondError."""
        await self.place.rtnetlink.set_mtu(self.link, mtu)

    async def set_mac(self, mac: str) -> None:
        """Set its MAC; raises TapbondError."""
        await self.place.rtnetlink.set_mac(self.link, mac)

    # What the links tell.

    def link_changed(self, link: Link, when_ns: int, detector: Detector) -> None:  # noqa: ARG002
        """Take note of the TAP's name, MTU and state; or that it has come home."""
        if link.key == self.link.key:
            self._store(link)
        elif link.netns == self._home.inode and link.kind == TUN and not self.at_home:
            self._look_soon()
        elif link.kind in STACKABLE and link.netns == self.link.netns:
            self._addresses_changed()

    def link_removed(self, link: Link, when_ns: int) -> None:  # noqa: ARG002
        """Find out where the TAP has gone, if it is the TAP."""
        if link.key == self.link.key:
            self.link = msgspec.structs.replace(self.link, ifindex=0)  # another link may get it now
            self._look_soon()
        elif link.kind in STACKABLE and link.netns == self.link.netns:
            self._addresses_changed()

    def addresses_changed(self, ifindex: int) -> None:
        """Tell of other addresses; those of links on top of the TAP count, too."""
        link = self.place.links.by_index.get(ifindex)
        if link is None or link.key == self.link.key or link.kind in STACKABLE:
            self._addresses_changed()

    # Looking.

    def _look_soon(self) -> None:
        if self._looking is None or self._looking.done():
            self._looking = asyncio.create_task(self._look_around())

    async def _look_around(self) -> None:
        await asyncio.sleep(SETTLE_S)
        try:
            await self._look()
        except NoSuchInterfaceError:
            log.debug("the failover's interface moves while it is looked for", failover=self._master.name)
        except TapbondError as error:
            self._lose_sight(str(error))
        except OSError as error:
            if error.errno == errno.EBADFD:
                return  # deleted: the pump says so
            self._lose_sight(error.strerror or str(error))
        self._look_again()

    async def _look(self) -> None:
        """Find the TAP, at home or away.

        Raises:
            TapbondError, OSError: it is where we may not look, or has gone.
        """
        netns = self._master.open_netns()
        at_home = netns.inode == self._home.inode
        netns.close()
        place = self._home if at_home else self._away
        if at_home:
            place.links.read_pending()
        else:
            self._news.open()
            await place.links.refresh()
        link = place.links.by_name(self._master.interface)
        if (place, link.netns) != (self.place, self.link.netns):
            self.place, self.blind, self._moved_down = place, False, True
            log.info("failover moved", failover=self._master.name, interface=link.name, netns=self.netns or "back")
        self.blind, self._failures = False, 0
        self._store(link)
        self._addresses_changed()

    def _look_again(self) -> None:
        """Look again in a while if it is away: not all news is heard."""
        self._stop_timer()
        if self.at_home and self.link.ifindex:
            self._stay()
            return
        pause_s = HEARING_S if self._news.hears and self.link.ifindex else LOOK_S
        self._timer = asyncio.get_running_loop().call_later(pause_s, self._look_soon)

    def _lose_sight(self, reason: str) -> None:
        self.blind = True
        self._addresses_changed()  # to none that is known
        self._failures += 1
        if self._failures != PATIENCE:
            return
        log.warning(
            "the failover's interface is where it cannot be seen: frames and carrier go on, its addresses are not"
            " announced and its MTU and state not followed",
            failover=self._master.name,
            interface=self._master.interface,
            reason=reason,
        )

    def _store(self, link: Link) -> None:
        before, self.link = self.link, link
        self._moved_down &= not link.up
        self._master.ifindex = link.ifindex
        if before.name != link.name:
            log.info("failover renamed", failover=self._master.name, interface=before.name, to=link.name)
        if before != link:
            self._changed(link)

    def _inode(self) -> int | None:
        try:
            netns = self._master.open_netns()
        except OSError:
            return None
        netns.close()
        return netns.inode

    def _stay(self) -> None:
        self._news.close()
        self._stop_timer()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
