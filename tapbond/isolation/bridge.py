"""Isolation by a private bridge that is administratively down.

Packet sockets are served before the bridge's receive handler (__netif_receive_skb_core() in net/core/dev.c),
which then eats the frame because its bridge is down: just what net_failover's own handler does. The slave
shows a ``master``, so DHCP clients and network daemons that skip enslaved links skip it.
"""

import asyncio
import contextlib
import zlib

from tapbond.errors import IsolationError, NoSuchInterfaceError, RightsError, TapbondError
from tapbond.model import Link
from tapbond.refuge import Refuge
from tapbond.rtnetlink import Rtnetlink
from tapbond.tap import NAME_MAX

SUFFIX = "-iso"


def bridge_name(failover: str) -> str:
    """Return the name of a failover's bridge: ``tb0-iso``, or a checksum where that is too long."""
    name = failover + SUFFIX
    return name if len(name.encode()) <= NAME_MAX else f"iso-{zlib.crc32(failover.encode()):08x}"


class BridgeIsolation:
    """Enslaves links to a bridge that is never set up."""

    kind = "bridge"
    refuge: Refuge | None = None

    def __init__(self, failover: str, rtnetlink: Rtnetlink) -> None:
        self._name = bridge_name(failover)
        self._rtnetlink = rtnetlink
        self._bridge: Link | None = None

    async def open(self) -> None:
        """Make the bridge."""
        try:
            self._bridge = await self._rtnetlink.add_bridge(self._name)
        except RightsError:
            raise
        except TapbondError as error:
            raise IsolationError(str(error)) from error
        except asyncio.CancelledError:
            self._bridge = await self._rtnetlink.find(self._name)
            await self.close()
            raise

    async def add(self, link: Link) -> None:
        """Make the link a port of the bridge."""
        if self._bridge is None:
            raise IsolationError(f"{self._name}: the bridge is not there")
        await self._rtnetlink.set_master(link, self._bridge.ifindex)

    async def remove(self, link: Link) -> None:
        """Take the link out of the bridge."""
        with contextlib.suppress(NoSuchInterfaceError):
            await self._rtnetlink.set_master(link, 0)

    async def close(self) -> None:
        """Delete the bridge."""
        if self._bridge is not None:
            with contextlib.suppress(NoSuchInterfaceError):
                await self._rtnetlink.delete(self._bridge)
            self._bridge = None
