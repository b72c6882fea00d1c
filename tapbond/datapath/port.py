"""A packet socket on one slave (packet(7)), ready for the pump."""

import errno
import os
import socket

from tapbond._core import lib
from tapbond.errors import NoSuchInterfaceError, RightsError, TapbondError
from tapbond.model import Link
from tapbond.netns import OpenSocket

SOL_PACKET = 263
PACKET_AUXDATA = 8
PACKET_VNET_HDR = 15
PACKET_IGNORE_OUTGOING = 23
SO_SNDBUFFORCE = 32
SO_RCVBUFFORCE = 33

RECEIVE_BUFFER = 8 << 20
"""Bytes. A super-frame counts with its pages: the default of 208 KiB holds three."""
SEND_BUFFER = 1 << 20


def open_port(link: Link, open_socket: OpenSocket = socket.socket, *, hear: bool = True) -> socket.socket:
    """Return a socket that hears the link, behind a closed gate.

    The protocol is 0 until bind(): otherwise frames of every interface would be queued in between. The gate
    is closed before that, too.

    Args:
        link: to hear.
        open_socket: in the link's network namespace.
        hear: False: it only sends.

    Raises:
        RightsError: no CAP_NET_RAW.
        NoSuchInterfaceError: the link has gone.
        TapbondError: the kernel refused for another reason.
    """
    try:
        port = open_socket(socket.AF_PACKET, socket.SOCK_RAW | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC, 0)
    except PermissionError as error:
        raise RightsError(
            f"{link.name}: may not open a packet socket (needs CAP_NET_RAW: be root, or root of a user"
            " namespace: unshare -Urn)"
        ) from error
    try:
        port.setsockopt(SOL_PACKET, PACKET_VNET_HDR, 1)
        port.setsockopt(SOL_PACKET, PACKET_AUXDATA, 1)
        port.setsockopt(SOL_PACKET, PACKET_IGNORE_OUTGOING, 1)
        _set_buffer(port, SO_RCVBUFFORCE, socket.SO_RCVBUF, RECEIVE_BUFFER)
        _set_buffer(port, SO_SNDBUFFORCE, socket.SO_SNDBUF, SEND_BUFFER)
        _check(link, lib.tb_port_gate(port.fileno(), 0))
        bind = lib.tb_port_bind if hear else lib.tb_port_bind_deaf
        _check(link, bind(port.fileno(), link.ifindex))
    except OSError as error:
        port.close()
        raise TapbondError(f"{link.name}: cannot open a packet socket: {error.strerror}") from error
    except TapbondError:
        port.close()
        raise
    return port


def _set_buffer(port: socket.socket, force: int, plain: int, size: int) -> None:
    """Set a buffer size; a user namespace may not exceed net.core.[rw]mem_max (socket(7))."""
    try:
        port.setsockopt(socket.SOL_SOCKET, force, size)
    except PermissionError:
        port.setsockopt(socket.SOL_SOCKET, plain, size)


def _check(link: Link, result: int) -> None:
    if result == 0:
        return
    if -result in (errno.ENODEV, errno.ENXIO):
        raise NoSuchInterfaceError(link.name)
    raise TapbondError(f"{link.name}: cannot listen: {os.strerror(-result)}")
