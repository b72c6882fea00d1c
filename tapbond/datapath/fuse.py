"""Requests that the kernel is given the moment a link ends, by a thread in C: see csrc/fuse.c."""

import os
import socket

import structlog

from tapbond._core import ffi, lib
from tapbond.linknews import RTMGRP_LINK
from tapbond.netns import OpenSocket

log = structlog.get_logger()


class Fuse:
    """Waits for the end of one link: set down, without carrier, or deleted.

    Args:
        open_socket: in the links' network namespace.
    """

    def __init__(self, open_socket: OpenSocket = socket.socket) -> None:
        self._open_socket = open_socket
        self._fuse = ffi.NULL

    def open(self) -> None:
        """Start the thread; again is harmless.

        Raises:
            OSError: no descriptors or thread for it.
        """
        if self._fuse != ffi.NULL:
            return
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        with (
            self._open_socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE) as news,
            self._open_socket(socket.AF_NETLINK, kind, socket.NETLINK_ROUTE) as requests,
        ):
            news.bind((0, RTMGRP_LINK))
            requests.bind((0, 0))
            self._fuse = lib.tb_fuse_new(news.fileno(), requests.fileno())
        if self._fuse == ffi.NULL:
            raise OSError(ffi.errno, os.strerror(ffi.errno))

    def arm(self, ifindex: int, request: bytes) -> None:
        """Have the kernel asked this when the link ends; forget what was waited for before.

        Args:
            ifindex: of the link.
            request: netlink messages.
        """
        if self._fuse != ffi.NULL and lib.tb_fuse_arm(self._fuse, ifindex, request, len(request)):
            log.debug("too much to ask at once", bytes=len(request))

    def disarm(self) -> None:
        """Wait for nothing: after this no request is under way."""
        self.arm(0, b"")

    def blown(self) -> tuple[int, int]:
        """Return how often it has come to that, and 0 or the -errno of the last time."""
        if self._fuse == ffi.NULL:
            return 0, 0
        error = ffi.new("int *")
        return int(lib.tb_fuse_blown(self._fuse, error)), int(error[0])

    def close(self) -> None:
        """End the thread; again is harmless."""
        lib.tb_fuse_free(self._fuse)
        self._fuse = ffi.NULL
