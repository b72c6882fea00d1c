"""A cable that carries only plain frames, for what cannot read offloaded ones (ethtool(8), -K)."""

from __future__ import annotations

import array
import fcntl
import socket
import struct
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tapbond.lab.namespace import Namespace

SIOCETHTOOL = 0x8946
ETHTOOL_STXCSUM = 0x17
ETHTOOL_STSO = 0x1F
ETHTOOL_SGSO = 0x24
REQUEST = struct.Struct("16sP16x")


def send_plainly(namespace: Namespace, ifname: str) -> None:
    """Let a link send complete checksums and no super-frame; OSError: no such link, or it cannot.

    Between two veth ends a frame keeps what the sender left to be done. A network card would do it before
    the frame is on the cable, so this makes a veth end behave as one.
    """
    with namespace.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        for command in (ETHTOOL_SGSO, ETHTOOL_STSO, ETHTOOL_STXCSUM):
            value = array.array("I", [command, 0])
            fcntl.ioctl(control, SIOCETHTOOL, REQUEST.pack(ifname.encode(), value.buffer_info()[0]))
