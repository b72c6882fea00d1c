"""What a migration has done so far, in a file that survives a crash of the tool and of the machine.

Each change is a whole new file: written, flushed to the disk, and put in place of the old one (rename(2)), whose
folder is flushed too. So after a crash there is the old state or the new one.
"""

import os
from enum import StrEnum
from pathlib import Path
from urllib.parse import quote

import msgspec

from tapbond.errors import TapbondError
from tapbond.migration.errors import MigrationError
from tapbond.migration.facts import Facts
from tapbond.rundir import Lock

VERSION = 1
SYSTEM = Path("/var/lib/tapbond")
ENVIRONMENT = "TAPBOND_STATE_DIR"
NAME_MAX = 200


class State(StrEnum):
    """Of a step."""

    BEGUN = "begun"
    """It may have been done, or half of it."""
    DONE = "done"
    """It was done and verified."""
    UNDONE = "undone"


class Record(msgspec.Struct, kw_only=True):
    """What is in the file."""

    version: int = VERSION
    facts: Facts
    backward: bool = False
    """It is being undone."""
    states: dict[str, State] = msgspec.field(default_factory=dict)
    """By key of the step; one that is not there was not begun."""


class Journal:
    """The journal of one domain, and the lock that keeps others from it.

    Args:
        domain: as the user names it.
        folder: None: TAPBOND_STATE_DIR, else /var/lib/tapbond, else XDG_STATE_HOME/tapbond.
    """

    def __init__(self, domain: str, folder: Path | None = None) -> None:
        self.domain = domain
        self._folder = folder or default_folder()
        self._path = self._folder / f"{quote(domain, safe='')[-NAME_MAX:]}.migration"
        self._lock: Lock | None = None

    def open(self) -> None:
        """Make the folder and take the lock.

        Raises:
            TapbondError: the folder cannot be made.
            BusyError: another process migrates this domain.
        """
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            busy = f"{self.domain}: already being migrated by process {{pid}}"
            self._lock = Lock(self._path.with_suffix(".lock"), busy)
        except OSError as error:
            raise TapbondError(
                f"{self._folder}: cannot keep a journal: {error.strerror} (choose another with --state-dir)"
            ) from error

    def close(self) -> None:
        """Give the lock back; again is harmless."""
        if self._lock is not None:
            self._lock.release()

    def load(self) -> Record | None:
        """Return what an earlier run left, None: nothing.

        Raises:
            MigrationError: it cannot be read.
        """
        try:
            record = msgspec.json.decode(self._path.read_bytes(), type=Record)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError) as error:
            raise MigrationError(f"{self._path}: unreadable ({error}): look at it, then remove it") from error
        if record.version != VERSION:
            raise MigrationError(f"{self._path}: journal of another version of tapbond ({record.version})")
        return record

    def save(self, record: Record) -> None:
        """Put a state on the disk; it is there when this returns.

        Raises:
            MigrationError: it cannot be written.
        """
        draft = self._path.with_suffix(".new")
        try:
            with draft.open("wb") as file:
                file.write(msgspec.json.format(msgspec.json.encode(record)))
                file.flush()
                os.fsync(file.fileno())
            draft.replace(self._path)
            self._sync_folder()
        except OSError as error:
            raise MigrationError(f"{self._path}: cannot write the journal: {error.strerror}") from error

    def forget(self) -> None:
        """Remove the file: there is nothing left to do or to undo."""
        self._path.unlink(missing_ok=True)
        self._sync_folder()

    def _sync_folder(self) -> None:
        fd = os.open(self._folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(fd)
        finally:
            os.close(fd)


def default_folder() -> Path:
    """Return where journals are when none is named: not in /run, for a domain's definition outlives a boot."""
    if named := os.environ.get(ENVIRONMENT):
        return Path(named)
    if os.access(SYSTEM if SYSTEM.exists() else SYSTEM.parent, os.W_OK):
        return SYSTEM
    return Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "tapbond"
