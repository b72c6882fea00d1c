"""A network namespace that is not the process's own (network_namespaces(7)): found, made, entered, pinned."""

import contextlib
import errno
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Self

from tapbond._core import lib
from tapbond.errors import NamespaceError, RightsError

OWN = Path("/proc/thread-self/ns/net")
NAMED = Path("/run/netns")
"""Where ip-netns(8) mounts those with a name."""

OpenSocket = Callable[[int, int, int], socket.socket]
"""socket.socket, or the same elsewhere: address family, type, protocol. It raises OSError."""


class Netns:
    """An open network namespace; it lives at least as long as this.

    Args:
        fd: of the namespace; closed by close().
        name: as a person knows it, for messages.
    """

    def __init__(self, fd: int, name: str) -> None:
        self.name = name
        self._fd = fd
        self.inode = os.fstat(fd).st_ino
        """Its number, as in ``net:[4026531840]``."""

    @classmethod
    def open(cls, path: Path, name: str = "") -> Self:
        """Open a namespace by a path that shows it.

        Raises:
            RightsError: it may not be opened.
            NamespaceError: there is nothing there, or something else.
        """
        name = name or str(path)
        try:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except PermissionError as error:
            raise RightsError(f"{name}: may not open the network namespace {path} (be root)") from error
        except OSError as error:
            raise NamespaceError(f"{name}: no such network namespace ({path}: {error.strerror})") from error
        if os.fstat(fd).st_dev != OWN.stat().st_dev:
            os.close(fd)
            raise NamespaceError(f"{name}: {path} is not a network namespace")
        return cls(fd, name)

    @classmethod
    def find(cls, text: str) -> Self:
        """Open a namespace by a name of ip-netns(8), a path or a process id, as ``ip link set netns`` does.

        Raises:
            RightsError: it may not be opened.
            NamespaceError: there is none.
        """
        if "/" in text:
            return cls.open(Path(text))
        if (named := NAMED / text).exists():
            return cls.open(named, text)
        if text.isascii() and text.isdigit():
            return cls.open(Path(f"/proc/{text}/ns/net"), text)
        raise NamespaceError(
            f"{text}: no such network namespace (see: ip netns list; or give a path or a process id)"
        )

    @classmethod
    def create(cls, name: str) -> Self:
        """Make a namespace that holds nothing but its loopback.

        Raises:
            RightsError: that needs CAP_SYS_ADMIN.
            NamespaceError: the kernel refused for another reason.
        """
        fd = lib.tb_netns_create()
        _check(fd, f"{name}: cannot make a network namespace")
        return cls(fd, name)

    def fileno(self) -> int:
        """Return the descriptor."""
        return self._fd

    def enter(self) -> None:
        """Move the calling thread there, for good.

        Raises:
            RightsError: that needs CAP_SYS_ADMIN, here and there.
            NamespaceError: the kernel refused for another reason.
        """
        enter(self._fd, self.name)

    def socket(self, family: int, kind: int, protocol: int) -> socket.socket:
        """Return a socket of that namespace; it belongs there whatever becomes of the caller (OpenSocket)."""
        fd = lib.tb_netns_socket(self._fd, family, kind, protocol)
        if fd < 0:
            raise OSError(-fd, os.strerror(-fd))
        return socket.socket(fileno=fd)

    def pin(self, path: Path) -> None:
        """Keep it alive without any process, until unpin(); ``path`` shows it from then on.

        Raises:
            RightsError: that needs CAP_SYS_ADMIN over the mount namespace.
            NamespaceError: the kernel refused for another reason.
        """
        path.touch(mode=0o600)
        result = lib.tb_netns_pin(self._fd, os.fsencode(path))
        if result < 0:
            path.unlink()
        _check(result, f"{path}: cannot mount a network namespace")

    def close(self) -> None:
        """Let go of it; again is harmless."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def unpin(path: Path) -> None:
    """Undo Netns.pin(); where nothing is pinned, only a file is removed, and that only if it is there."""
    lib.tb_netns_unpin(os.fsencode(path))
    path.unlink(missing_ok=True)


def enter(fd: int, name: str) -> None:
    """Move the calling thread into a namespace for good; see Netns.enter()."""
    _check(lib.tb_netns_enter(fd), f"{name}: cannot enter the network namespace")


def own_inode() -> int:
    """Return the number of the calling thread's own namespace."""
    return OWN.stat().st_ino


def mounts_outlive_us() -> bool:
    """Return whether the first process or our parent has the mounts that we have: else a pin may end with us."""
    own = Path("/proc/self/ns/mnt").stat().st_ino
    for pid in (1, os.getppid()):
        with contextlib.suppress(OSError):
            if Path(f"/proc/{pid}/ns/mnt").stat().st_ino == own:
                return True
    return False


def shows_netns(path: Path) -> bool:
    """Return whether a path shows a namespace, as a pin does until it is undone or the machine starts anew."""
    try:
        return path.stat().st_dev == OWN.stat().st_dev
    except FileNotFoundError:
        return False


def _check(result: int, what: str) -> None:
    if result >= 0:
        return
    if -result in (errno.EPERM, errno.EACCES):
        raise RightsError(f"{what}: not permitted (needs CAP_SYS_ADMIN: be root, or use unshare -Urnm)")
    raise NamespaceError(f"{what}: {os.strerror(-result)}")
