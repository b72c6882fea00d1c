"""What a failover that runs was told, by its file and by the command line, and may be told anew."""

from pathlib import Path
from typing import Any, Self

import msgspec

from tapbond.config.file import ConfigFile, find
from tapbond.config.options import DEFAULTS
from tapbond.settings import Settings


class Configuration(msgspec.Struct, frozen=True, kw_only=True):
    """The options of one failover, and where they come from."""

    failover: str
    named: Path | None
    """The file that was named on the command line; None: the failover's own, if there is one."""
    typed: dict[str, Any]
    """What the command line says: it wins, now and whenever the file is read again."""
    file: ConfigFile
    settings: Settings

    @classmethod
    def read(cls, failover: str, named: Path | None, typed: dict[str, Any]) -> Self:
        """Read the file, if there is one.

        Raises:
            TapbondError: it cannot be used, or what it says contradicts itself or the command line.
        """
        return cls.of(failover, named, typed, find(failover, named))

    @classmethod
    def of(cls, failover: str, named: Path | None, typed: dict[str, Any], file: ConfigFile) -> Self:
        """Return the configuration that a file makes; see read()."""
        settings = file.settings(failover, typed)
        return cls(failover=failover, named=named, typed=typed, file=file, settings=settings)

    def again(self) -> Self:
        """Return what the file says now.

        Raises:
            TapbondError: see read().
        """
        return self.read(self.failover, self.named, self.typed)

    @property
    def options(self) -> dict[str, Any]:
        """All options, as tapbond.config.options.DEFAULTS has them."""
        return {**DEFAULTS, **self.file.options, **self.typed}

    @property
    def verbose(self) -> bool:
        """Whether the log says why."""
        return bool(self.options["verbose"])

    @property
    def quiet(self) -> bool:
        """Whether the log says only what is wrong."""
        return bool(self.options["quiet"])
