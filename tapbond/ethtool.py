"""Speed and duplex of a link: ETHTOOL_GLINKSETTINGS and ETHTOOL_SLINKSETTINGS (include/uapi/linux/ethtool.h)."""

import array
import fcntl
import socket
import struct

import msgspec

from tapbond.inquiry import MakeSocket

SIOCGIFNAME = 0x8910
SIOCETHTOOL = 0x8946
ETHTOOL_GLINKSETTINGS = 0x4C
ETHTOOL_SLINKSETTINGS = 0x4D

SPEED_UNKNOWN = 0xFFFFFFFF
DUPLEX_HALF = 0x00
DUPLEX_FULL = 0x01
DUPLEX_UNKNOWN = 0xFF

NAME = struct.Struct("16si20x")
REQUEST = struct.Struct("16sP16x")
SETTINGS = struct.Struct("=IIB")
"""The head of struct ethtool_link_settings: command, speed, duplex."""
SETTINGS_LEN = 48
"""Bytes before the three masks of link modes."""
MASK_WORDS_AT = 15
MASKS = 3
WORD_LEN = 4


class LinkSpeed(msgspec.Struct, frozen=True, kw_only=True):
    """What a link runs at."""

    speed: int = 0
    """In Mbit/s; 0: unknown."""
    duplex: int = DUPLEX_UNKNOWN
    """DUPLEX_*."""

    @property
    def full_duplex(self) -> bool:
        """Whether it sends and receives at once."""
        return self.duplex == DUPLEX_FULL


UNKNOWN = LinkSpeed()


class Ethtool:
    """Reads and sets what links run at, in one network namespace. The kernel takes its RTNL lock for it.

    Args:
        make_socket: makes a socket in that namespace.
    """

    def __init__(self, make_socket: MakeSocket = socket.socket) -> None:
        self._socket = make_socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC, 0)

    def close(self) -> None:
        """Close the socket; again is harmless."""
        self._socket.close()

    def read(self, ifindex: int) -> LinkSpeed:
        """Return what a link runs at; UNKNOWN where its driver does not say, or it has gone."""
        try:
            settings = self._settings(ifindex)
        except OSError:
            return UNKNOWN
        _, speed, duplex = SETTINGS.unpack_from(settings)
        return LinkSpeed(speed=0 if speed == SPEED_UNKNOWN else speed, duplex=duplex)

    def write(self, ifindex: int, speed: LinkSpeed) -> None:
        """Set what a link tells; a TAP takes anything (tun_set_link_ksettings() in drivers/net/tun.c).

        Raises:
            OSError: no such link, no right (CAP_NET_ADMIN), or its driver has no such thing.
        """
        settings = self._settings(ifindex)
        SETTINGS.pack_into(settings, 0, ETHTOOL_SLINKSETTINGS, speed.speed or SPEED_UNKNOWN, speed.duplex)
        self._ioctl(ifindex, settings)

    def _settings(self, ifindex: int) -> "array.array[int]":
        """Read all settings, after the kernel said by a negative number how long its masks are (the handshake)."""
        request = array.array("B", bytes(SETTINGS_LEN))
        SETTINGS.pack_into(request, 0, ETHTOOL_GLINKSETTINGS, 0, 0)
        self._ioctl(ifindex, request)
        words = -struct.unpack_from("b", request, MASK_WORDS_AT)[0]
        settings = array.array("B", bytes(SETTINGS_LEN + MASKS * WORD_LEN * max(0, words)))
        SETTINGS.pack_into(settings, 0, ETHTOOL_GLINKSETTINGS, 0, 0)
        struct.pack_into("b", settings, MASK_WORDS_AT, words)
        self._ioctl(ifindex, settings)
        return settings

    def _ioctl(self, ifindex: int, settings: "array.array[int]") -> None:
        named = fcntl.ioctl(self._socket, SIOCGIFNAME, NAME.pack(b"", ifindex))
        address, _ = settings.buffer_info()
        fcntl.ioctl(self._socket, SIOCETHTOOL, REQUEST.pack(NAME.unpack(named)[0], address))
