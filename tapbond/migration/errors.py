"""What can go wrong with a migration, one type a cause."""

from collections.abc import Sequence

from tapbond.errors import TapbondError


class MigrationError(TapbondError):
    """Base of them all."""


class PreconditionError(MigrationError):
    """Something is not as it must be; nothing was touched. ``problems`` are all that were found."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        super().__init__("; ".join(problems))


class HypervisorError(MigrationError):
    """The hypervisor could not be reached, or said no."""


class GuestRefusedError(MigrationError):
    """The guest will not let go of a device (DEVICE_UNPLUG_GUEST_ERROR)."""


class AnswerTimeoutError(MigrationError):
    """Nobody answered in time."""


class StepError(MigrationError):
    """A step was done, and what it should have brought about is not so."""


class NoWayBackError(MigrationError):
    """The guest runs on the destination by now: nothing can be undone, only finished."""


class UnclearError(MigrationError):
    """Nobody can tell on which host the guest is: nothing may be touched."""


class UndoneError(MigrationError):
    """It failed, and all that had been done was undone; ``__cause__`` is why it failed."""


class UnfinishedError(MigrationError):
    """Some of it could not be done, or undone; the journal keeps what is left."""
