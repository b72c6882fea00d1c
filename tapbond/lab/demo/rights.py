"""The rights for a lab: the caller's own, or those of root in a user namespace (user_namespaces(7))."""

from __future__ import annotations

import ctypes
import errno
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tapbond import tapqueues
from tapbond.errors import RightsError, TapError

if TYPE_CHECKING:
    from collections.abc import Callable

CLONE_NEWUSER = 0x10000000
CLONE_NEWNET = 0x40000000
CAP_NET_ADMIN = 12
CAP_NET_RAW = 13
CAP_SYS_ADMIN = 21
NEEDED = 1 << CAP_NET_ADMIN | 1 << CAP_NET_RAW | 1 << CAP_SYS_ADMIN

SYSCTLS = (
    ("kernel.unprivileged_userns_clone", "0", "1"),
    ("user.max_user_namespaces", "0", "10000"),
    ("kernel.apparmor_restrict_unprivileged_userns", "1", "0"),
)
"""Name, the value that forbids user namespaces, one that allows them."""


def acquire() -> bool:
    """Make sure that namespaces, links and a TAP can be made; to be called while there is one thread.

    Returns:
        Whether it took a user namespace, in which the process now is root.

    Raises:
        RightsError: /dev/net/tun may not be opened, or user namespaces are forbidden.
    """
    check_device(Path(tapqueues.DEVICE))
    if capabilities() & NEEDED == NEEDED:
        return False
    try:
        become_root()
    except OSError as error:
        raise RightsError(forbidden(error, read_sysctl)) from error
    return True


def capabilities() -> int:
    """Return the effective capabilities as a bit mask (proc(5), CapEff)."""
    for line in Path("/proc/self/status").read_text(encoding="ascii", errors="replace").splitlines():
        if line.startswith("CapEff:"):
            return int(line.split()[1], 16)
    return 0


def check_device(device: Path) -> None:
    """Open the TAP's device; nothing else tells whether that is allowed.

    Raises:
        RightsError: it cannot be opened, with the way out.
    """
    try:
        tapqueues.check_device(device)
    except TapError as error:
        raise RightsError(str(error)) from error


def become_root() -> None:
    """Move to a new user namespace, as its root, and to a new network namespace.

    OSError: unshare(2) or the mapping was refused; EINVAL means that this process has several threads.
    """
    uid, gid = os.geteuid(), os.getegid()
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNET):
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    own = Path("/proc/self")
    (own / "uid_map").write_text(f"0 {uid} 1")
    with suppress(FileNotFoundError):  # before Linux 3.19
        (own / "setgroups").write_text("deny")
    (own / "gid_map").write_text(f"0 {gid} 1")


def read_sysctl(name: str) -> str | None:
    """Return a sysctl's value, None if this kernel has no such."""
    with suppress(OSError):
        return Path("/proc/sys", *name.split(".")).read_text(encoding="ascii").strip()
    return None


def forbidden(error: OSError, sysctl: Callable[[str], str | None]) -> str:
    """Return why a user namespace could not be had, and the way out.

    Args:
        error: what the kernel said.
        sysctl: returns a value by name.
    """
    for name, bad, good in SYSCTLS:
        if sysctl(name) == bad:
            return (
                f"user namespaces are forbidden here: {name} is {bad}"
                f" (run as root; or, as root: sysctl -w {name}={good})"
            )
    names = ", ".join(name for name, _, _ in SYSCTLS)
    if error.errno in (errno.EPERM, errno.EACCES):
        reason = "a container's seccomp profile or a security module may forbid it"
    else:
        reason = f"see the sysctls {names}"
    return f"no user namespace: {error.strerror} ({reason}; run as root)"
