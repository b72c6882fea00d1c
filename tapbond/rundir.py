"""The run directory: locks, the journal, and where the control sockets are.

One folder a network namespace, so that ``tb0`` here and ``tb0`` in a container never meet. Everything in it may
be lost at a reboot, and must be.
"""

import errno
import fcntl
import os
import time
from pathlib import Path
from typing import Self

from tapbond.errors import BusyError, TapbondError
from tapbond.netns import own_inode

SYSTEM = Path("/run/tapbond")
ENVIRONMENT = "TAPBOND_RUN_DIR"
SOCKET_PATH_MAX = 107
"""sun_path of unix(7), less its final zero."""
OWNER_TRIES, OWNER_PAUSE_S = 50, 0.001


class RunDir:
    """The files of the failovers in one network namespace.

    Args:
        base: the run directory; None: TAPBOND_RUN_DIR, else /run/tapbond, else XDG_RUNTIME_DIR/tapbond, else
            /tmp/tapbond-UID.
        inode: number of the namespace; None: the calling thread's.
    """

    def __init__(self, base: Path | None = None, inode: int | None = None) -> None:
        self.path = (base or default_base()) / f"net-{inode or own_inode()}"

    def make(self) -> Self:
        """Make the folder, for the owner only.

        Raises:
            TapbondError: it cannot be made, or it is another user's.
        """
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            for folder in (self.path.parent, self.path):
                if folder.stat().st_uid != os.geteuid():
                    raise TapbondError(f"{folder}: belongs to another user (choose another with --run-dir)")
            self.path.parent.chmod(0o700)
        except OSError as error:
            raise TapbondError(
                f"{self.path}: cannot make the run directory: {error.strerror} (choose another with --run-dir)"
            ) from error
        return self

    def socket(self, failover: str) -> Path:
        """Return where the control socket of a failover is."""
        path = self.path / f"{failover}.sock"
        if len(os.fsencode(path)) > SOCKET_PATH_MAX:
            raise TapbondError(f"{path}: too long for a Unix socket (choose a shorter --run-dir)")
        return path

    def journal(self, failover: str) -> Path:
        """Return where the journal of a failover is."""
        return self.path / f"{failover}.journal"

    def adopted(self, failover: str) -> Path:
        """Return where a failover writes down what it adopted."""
        return self.path / f"{failover}.adopted"

    def pin(self, failover: str) -> Path:
        """Return where the private network namespace of a failover is mounted (isolation netns)."""
        return self.path / f"{failover}.netns"

    def state(self, failover: str) -> Path:
        """Return where a failover shows its state as files (tapbond.formats.sysfs)."""
        return self.path / f"{failover}.state"

    def left_behind(self) -> list[str]:
        """Return the names of the failovers that may have something to put back: those that ever ran here."""
        found = {path.stem for path in self.path.glob("*.lock") if not path.stem.startswith("link-")}
        found |= {path.stem for kind in ("journal", "adopted", "netns") for path in self.path.glob(f"*.{kind}")}
        return sorted(found)

    def lock_failover(self, failover: str) -> "Lock":
        """Make sure that no other process runs a failover of this name.

        Raises:
            BusyError: one does.
        """
        return Lock(
            self.path / f"{failover}.lock",
            f"{failover}: already run by process {{pid}} (see: tapbond status {failover})",
        )

    def lock_link(self, ifindex: int, name: str, failover: str) -> "Lock":
        """Make sure that no other failover uses this link.

        Raises:
            BusyError: one does.
        """
        return Lock(self.path / f"link-{ifindex}.lock", f"{name}: already a slave of {{note}}", failover)

    def failovers(self) -> list[str]:
        """Return the names that have a control socket here."""
        return sorted(path.stem for path in self.path.glob("*.sock"))


class Lock:
    """A file lock (flock(2)) that the kernel gives back when the process dies."""

    def __init__(self, path: Path, busy: str, note: str = "") -> None:
        self._path = path
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            pid, _, other = _owner(self._fd).partition(" ")
            os.close(self._fd)
            if error.errno not in (errno.EAGAIN, errno.EACCES):
                raise
            raise BusyError(busy.format(pid=pid, note=other.strip() or f"process {pid}")) from error
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, f"{os.getpid()} {note}".encode(), 0)

    def release(self) -> None:
        """Give it back; again is harmless. The file stays: removing it would race with the next owner."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def _owner(fd: int) -> str:
    """Return what the owner of a lock has written into it; who has only just got it has not yet."""
    for _ in range(OWNER_TRIES):
        if owner := os.pread(fd, 256, 0):
            return owner.decode(errors="replace")
        time.sleep(OWNER_PAUSE_S)
    return ""


def default_base() -> Path:
    """Return the run directory to use when none is named."""
    if named := os.environ.get(ENVIRONMENT):
        return Path(named)
    if os.access(SYSTEM if SYSTEM.exists() else SYSTEM.parent, os.W_OK):
        return SYSTEM
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        return Path(runtime) / "tapbond"
    return Path("/tmp") / f"tapbond-{_outer_uid()}"  # noqa: S108  (its owner is checked)


def _outer_uid() -> int:
    """Return the user id as the machine knows it: root of a user namespace is somebody else outside."""
    inside, outside, _ = Path("/proc/self/uid_map").read_text().split()[:3]
    return os.geteuid() - int(inside) + int(outside)
