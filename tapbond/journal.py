"""What a slave was like before anything was changed.

Written down first, so that a killed process leaves nothing that the next start cannot put back.
"""

from collections.abc import Awaitable, Callable, Collection, Iterable
from functools import partial
from ipaddress import ip_interface
from pathlib import Path
from typing import Any, Self

import msgspec
import structlog

from tapbond.errors import NoSuchInterfaceError, TapbondError
from tapbond.label import take_off
from tapbond.linkmessage import Interface
from tapbond.macpolicy import POLICIES
from tapbond.model import Link, MacPolicyName
from tapbond.rtnetlink import Rtnetlink

log = structlog.get_logger()


async def undo(slave: str, steps: Iterable[Callable[[], Awaitable[None]]]) -> bool:
    """Take every step back, whatever becomes of the others; where the link has gone there is nothing to do.

    Returns:
        Whether none failed.
    """
    done = True
    for step in steps:
        try:
            await step()
        except NoSuchInterfaceError:
            continue
        except TapbondError as error:
            log.warning("slave not put back as it was found", slave=slave, error=str(error))
            done = False
    return done


class Original(msgspec.Struct, frozen=True, kw_only=True):
    """A slave as it was found."""

    ifindex: int
    name: str
    mac: str
    given_macs: tuple[str, ...] = ()
    """The MACs that it was given instead, the last one last; empty: it kept its own."""
    mtu: int
    up: bool
    addr_gen_mode: int | None
    link_local: tuple[str, ...] = ()
    """Its IPv6 link-local addresses with prefix length: the TAP makes the same from the same MAC."""
    netns: int = 0
    """Number of the network namespace where it was found."""
    netns_name: str = ""
    """What opens that namespace: a name, a path or a process id; empty: the failover's own."""
    moved: bool = False
    """It is taken to another namespace (tapbond.refuge) and comes home down and without its addresses."""
    addresses: tuple[str, ...] = ()
    """All of its other addresses, if it is moved."""

    alias: str | None = None
    """What it had before it was labelled; None: it was not."""
    altname: str = ""
    """The further name that it was given (tapbond.label)."""

    @classmethod
    def of(
        cls,
        link: Link,
        addresses: Collection[Interface],
        *,
        silenced: bool = True,
        moved: bool = False,
        **given: Any,
    ) -> Self:
        """Return what a link and its addresses are now.

        Args:
            link: not changed yet.
            addresses: all that it has.
            silenced: its link-local addresses will be removed.
            moved: see there.
            given: the other fields: what it will be given.
        """
        link_local = tuple(str(address) for address in addresses if address.ip.is_link_local)
        others = tuple(str(address) for address in addresses if not address.ip.is_link_local)
        return cls(
            ifindex=link.ifindex,
            name=link.name,
            mac=link.mac,
            mtu=link.mtu,
            up=link.up,
            addr_gen_mode=link.addr_gen_mode,
            link_local=link_local if link.up and silenced else (),
            netns=link.netns,
            moved=moved,
            addresses=others if moved else (),
            **given,
        )

    async def restore(self, rtnetlink: Rtnetlink, ifindex: int | None = None) -> bool:
        """Put a slave back as it was found, its MAC excepted; one that has gone is fine.

        Args:
            rtnetlink: of the namespace where it was found.
            ifindex: that it has there now; None: the same as then.

        Returns:
            Whether the kernel refused nothing.
        """
        link = Link(ifindex=ifindex or self.ifindex, name=self.name, mac=self.mac)
        steps: list[Callable[[], Awaitable[None]]] = []
        if not self.up:
            steps.append(lambda: rtnetlink.set_up(link, False))
        steps.append(lambda: rtnetlink.set_mtu(link, self.mtu))
        if (mode := self.addr_gen_mode) is not None:
            steps.append(lambda: rtnetlink.set_addr_gen_mode(link, mode))
        if self.up:
            steps.append(lambda: rtnetlink.set_up(link, True))
        steps += [
            partial(rtnetlink.add_address, link, ip_interface(address))
            for address in self.link_local + self.addresses
        ]
        if (alias := self.alias) is not None:
            steps.append(lambda: rtnetlink.set_alias(link, alias))
        if self.altname:
            steps.append(partial(take_off, rtnetlink, link, self.altname))
        return await undo(self.name, steps)

    async def restore_mac(self, rtnetlink: Rtnetlink, ifindex: int | None = None) -> None:
        """Give it its own MAC back, if it was given another.

        Args:
            rtnetlink: of the namespace where it is.
            ifindex: that it has there; None: the one that it was found with.

        Raises:
            TapbondError: the kernel refused.
        """
        if self.given_macs:
            # Whatever it was given last may have been refused: no MAC is taken for granted.
            link = Link(ifindex=ifindex or self.ifindex, name=self.name, mac="", up=True)
            await POLICIES[MacPolicyName.SET].take(rtnetlink, link, self.mac)

    def describes(self, link: Link) -> bool:
        """Return whether a link has a MAC of the one that was written down: an ifindex may be another's by now."""
        return link.mac in (self.mac, *self.given_macs)


class Journal:
    """The originals of a failover's slaves, in a file.

    Args:
        path: of the file; it exists only while there is something to put back.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._originals: dict[tuple[int, int, str], Original] = {}

    def record(self, original: Original) -> None:
        """Write a slave down, before it is changed."""
        self._originals[_identity(original)] = original
        self._write()

    def forget(self, original: Original) -> None:
        """Cross a slave out: it has been put back, or has gone."""
        self._originals.pop(_identity(original), None)
        self._write()

    def left_behind(self) -> list[Original]:
        """Return what an earlier process did not put back; an unreadable file holds nothing."""
        try:
            return msgspec.json.decode(self._path.read_bytes(), type=list[Original])
        except (FileNotFoundError, msgspec.DecodeError):
            return []

    def keep(self, originals: Iterable[Original]) -> None:
        """Cross everything out but these."""
        self._originals = {_identity(original): original for original in originals}
        self._write()

    def _write(self) -> None:
        if not self._originals:
            self._path.unlink(missing_ok=True)
            return
        draft = self._path.with_suffix(".new")
        draft.write_bytes(msgspec.json.encode(list(self._originals.values())))
        draft.replace(self._path)


def _identity(original: Original) -> tuple[int, int, str]:
    """Return what tells originals apart: once a link was moved, another one may have its ifindex."""
    return original.netns, original.ifindex, original.name
