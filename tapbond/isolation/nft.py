"""Isolation by an nftables ingress chain whose policy is to drop.

Packet sockets are served before the netdev ingress hook, so the pump gets a copy of what is dropped there. The
table has the flag ``owner`` (Linux 5.12): it belongs to this process's netlink socket and vanishes with it.
"""

import asyncio
import contextlib
import errno
import os
import socket
import struct
from typing import Any

from pyroute2.netlink import NLM_F_ACK, NLM_F_CREATE, NLM_F_REQUEST
from pyroute2.netlink.nfnetlink import nfgen_msg
from pyroute2.netlink.nfnetlink.nftsocket import (
    NFT_MSG_DELCHAIN,
    NFT_MSG_DELTABLE,
    NFT_MSG_NEWCHAIN,
    NFT_MSG_NEWTABLE,
    nft_chain_msg,
    nft_table_msg,
)

from tapbond.errors import IsolationError, RightsError
from tapbond.model import Link
from tapbond.netns import OpenSocket
from tapbond.refuge import Refuge
from tapbond.rtnetlink import Rtnetlink

NETLINK_NETFILTER = 12
NFNL_SUBSYS_NFTABLES = 10
NFNL_MSG_BATCH_BEGIN = 0x10
NFNL_MSG_BATCH_END = 0x11
NFPROTO_NETDEV = 5
NFT_TABLE_F_OWNER = 0x2
NF_NETDEV_INGRESS = 0
NF_DROP = 0
PRIORITY = -500
NLMSG_ERROR = 2
ERROR_HEADER = struct.Struct("=IHHIIi")
REPLY_DEADLINE_S = 5.0


class NftIsolation:
    """Drops, at the ingress of each link, what the packet sockets have already seen."""

    kind = "nft"
    refuge: Refuge | None = None

    def __init__(self, failover: str, _rtnetlink: Rtnetlink, open_socket: OpenSocket = socket.socket) -> None:
        self._open_socket = open_socket
        self._table = f"tapbond-{failover}"
        self._socket: socket.socket | None = None
        self._sequence = 0

    async def open(self) -> None:
        """Make the table."""
        try:
            self._socket = self._open_socket(
                socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_NETFILTER
            )
        except OSError as error:
            raise IsolationError(f"nftables: {error.strerror}") from error
        self._socket.settimeout(REPLY_DEADLINE_S)
        self._socket.bind((0, 0))
        try:
            await self._request(
                nft_table_msg,
                NFT_MSG_NEWTABLE,
                NLM_F_CREATE,
                [("NFTA_TABLE_NAME", self._table), ("NFTA_TABLE_FLAGS", NFT_TABLE_F_OWNER)],
            )
        except (IsolationError, RightsError):
            self._socket.close()
            self._socket = None
            raise

    async def add(self, link: Link) -> None:
        """Hook a chain that drops everything into the link's ingress."""
        hook = {
            "attrs": [
                ("NFTA_HOOK_HOOKNUM", NF_NETDEV_INGRESS),
                ("NFTA_HOOK_PRIORITY", PRIORITY),
                ("NFTA_HOOK_DEV", link.name),
            ]
        }
        await self._request(
            nft_chain_msg,
            NFT_MSG_NEWCHAIN,
            NLM_F_CREATE,
            [
                *self._chain(link),
                ("NFTA_CHAIN_HOOK", hook),
                ("NFTA_CHAIN_POLICY", NF_DROP),
                ("NFTA_CHAIN_TYPE", "filter"),
            ],
        )

    async def remove(self, link: Link) -> None:
        """Remove the link's chain; the kernel did it already if the link is gone."""
        with contextlib.suppress(IsolationError):
            await self._request(nft_chain_msg, NFT_MSG_DELCHAIN, 0, self._chain(link))

    async def close(self) -> None:
        """Remove the table."""
        if self._socket is None:
            return
        with contextlib.suppress(IsolationError):
            await self._request(nft_table_msg, NFT_MSG_DELTABLE, 0, [("NFTA_TABLE_NAME", self._table)])
        self._socket.close()
        self._socket = None

    def _chain(self, link: Link) -> list[tuple[str, Any]]:
        return [("NFTA_CHAIN_TABLE", self._table), ("NFTA_CHAIN_NAME", f"link{link.ifindex}")]

    async def _request(self, message_class: Any, kind: int, flags: int, attributes: list[tuple[str, Any]]) -> None:
        """Run one change as a batch of its own (nfnetlink knows nothing smaller); wait for the answer."""
        message = message_class()
        message["nfgen_family"] = NFPROTO_NETDEV
        message["attrs"] = attributes
        batch = (
            self._encode(_boundary(), NFNL_MSG_BATCH_BEGIN, 0)
            + self._encode(message, NFNL_SUBSYS_NFTABLES << 8 | kind, NLM_F_ACK | flags)
            + self._encode(_boundary(), NFNL_MSG_BATCH_END, 0)
        )
        await asyncio.get_running_loop().run_in_executor(None, self._exchange, batch, self._sequence - 1)

    def _encode(self, message: Any, kind: int, flags: int) -> bytes:
        self._sequence += 1
        message["header"]["type"] = kind
        message["header"]["flags"] = NLM_F_REQUEST | flags
        message["header"]["sequence_number"] = self._sequence
        message.encode()
        return bytes(message.data)

    def _exchange(self, batch: bytes, sequence: int) -> None:
        if self._socket is None:
            raise IsolationError(f"nftables table {self._table}: not open")
        try:
            self._socket.send(batch)
            while True:
                _, kind, _, answered, _, error = ERROR_HEADER.unpack_from(self._socket.recv(1 << 16))
                if kind == NLMSG_ERROR and (error or answered == sequence):
                    break
        except OSError as failure:
            raise IsolationError(f"nftables table {self._table}: {failure}") from failure
        if -error == errno.EPERM:
            raise RightsError(
                f"nftables table {self._table}: not permitted (needs CAP_NET_ADMIN; or a table of this name"
                " belongs to another process)"
            )
        if error:
            raise IsolationError(f"nftables table {self._table}: {os.strerror(-error)}")


def _boundary() -> Any:
    message = nfgen_msg()
    message["res_id"] = NFNL_SUBSYS_NFTABLES
    return message
