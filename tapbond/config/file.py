"""Read a configuration file, and say what is wrong with it: file, line, and what is allowed."""

import json
import os
import re
import tomllib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Self

import msgspec

from tapbond.config.keylines import key_lines
from tapbond.config.options import PARAMETERS, Options, name_of, to_settings
from tapbond.config.values import address_of, backup_of, mac_of
from tapbond.errors import ConfigError, TapbondError
from tapbond.settings import Settings

FOLDER = Path("/etc/tapbond")
ENVIRONMENT = "TAPBOND_CONFIG_DIR"
SUFFIX = ".toml"
NO_FILE = Path(os.devnull)
"""Whoever names this wants none, not even the failover's own."""

SIZE_MAX = 1 << 20
"""In bytes: somebody may name a disk by mistake."""

FIELDS = {field.encode_name: field for field in msgspec.structs.fields(Options)}

MEANINGS: dict[str, Callable[[Any], object]] = {
    "mac": mac_of,
    "backup": lambda texts: tuple(backup_of(text) for text in texts),
    "probe": lambda texts: tuple(address_of(text) for text in texts),
    "run-dir": Path,
}
"""What is made of a value that has the right type."""

QUOTED_MAX = 40
OPTION = re.compile(r"--([a-z-]+)")


class ConfigFile(msgspec.Struct, frozen=True, kw_only=True):
    """What a file says."""

    path: Path | None = None
    """None: there is no file, and nothing is said."""
    options: dict[str, Any] = {}
    """As tapbond.config.options.DEFAULTS has them; only those that the file names."""
    lines: dict[str, int] = {}
    """Where each key is."""

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a file.

        Raises:
            ConfigError: it cannot be read, is not TOML, or has keys or values that are not allowed.
        """
        text = _text(path)
        try:
            table = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ConfigError([_not_toml(path, text, str(error))]) from error
        lines, options, findings = key_lines(text), {}, []
        for key, value in table.items():
            try:
                options[_parameter(key)] = _meaning(key, value)
            except ValueError as error:
                line = lines.get(key, 1)
                findings.append((line, f"{path}:{line}: {error}"))
        if findings:
            raise ConfigError([text for _, text in sorted(findings)], f"tapbond check {path}")
        return cls(path=path, options=options, lines=lines)

    def settings(self, failover: str, typed: Mapping[str, Any] | None = None) -> Settings:
        """Return the settings of a failover.

        Args:
            failover: its name.
            typed: what the command line says, which wins.

        Raises:
            ConfigError: what the file says contradicts itself, or the command line.
            TapbondError: so does the command line.
        """
        try:
            return to_settings(failover, {**self.options, **(typed or {})})
        except TapbondError as error:
            if self.path is None:
                raise
            raise ConfigError([f"{self._place(str(error))}: {error}"]) from error

    def _place(self, error: str) -> str:
        """Return where what an error speaks of is: an option that it names, or a link that it is about."""
        about, _, _ = error.partition(":")
        keys = OPTION.findall(error)
        keys += [
            name_of(field) for field in ("backup", "primary", "sticky", "standby") if self._names(field, about)
        ]
        line = next((f":{self.lines[key]}" for key in keys if key in self.lines), "")
        return f"{self.path}{line}"

    def _names(self, field: str, link: str) -> bool:
        value = self.options.get(PARAMETERS.get(field, field), ())
        values = [value] if isinstance(value, str) else value
        return link in [getattr(each, "link", each) for each in values]


def find(failover: str, named: Path | None) -> ConfigFile:
    """Read the file that was named, else the failover's own if there is one, else say nothing.

    Raises:
        ConfigError: see ConfigFile.read().
    """
    path = named or folder() / f"{failover}{SUFFIX}"
    if path == NO_FILE or (named is None and not os.path.lexists(path)):
        return ConfigFile()
    return ConfigFile.read(path)


def folder() -> Path:
    """Return where files are looked for: TAPBOND_CONFIG_DIR, else /etc/tapbond."""
    return Path(os.environ.get(ENVIRONMENT) or FOLDER)


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            data = file.read(SIZE_MAX + 1)
    except OSError as error:
        raise ConfigError([f"{path}: cannot be read: {error.strerror}"]) from error
    if len(data) > SIZE_MAX:
        raise ConfigError([f"{path}: longer than {SIZE_MAX} bytes: not a configuration file"])
    try:
        return data.decode().replace("\r\n", "\n")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise ConfigError([f"{path}:{line}: not UTF-8 text, which TOML is"]) from error


def _not_toml(path: Path, text: str, reason: str) -> str:
    """Return ``FILE:LINE:COLUMN: reason`` for a reason that ends with ``(at line 3, column 7)``."""
    what, _, where = reason.removesuffix(")").rpartition(" (at ")
    if not what:
        return f"{path}: {reason}"
    numbers = re.findall(r"\d+", where) or [str(text.count("\n") + 1)]  # "at end of document"
    return f"{path}:{':'.join(numbers)}: not TOML: {what[0].lower()}{what[1:]}"


def _parameter(key: str) -> str:
    field = FIELDS[key].name if key in FIELDS else key
    return PARAMETERS.get(field, field)


def _meaning(key: str, value: object) -> object:
    """Return what a value is for the program.

    Raises:
        ValueError: there is no such key, or the value is not allowed.
    """
    from tapbond.config.allowed import allowed, instead_of  # noqa: PLC0415  (only for what is wrong)

    if key not in FIELDS:
        shown = key if key.isprintable() else _quoted(key)
        raise ValueError(f"{shown}: no such option ({instead_of(key)})")
    try:
        typed = msgspec.convert(value, FIELDS[key].type)
    except msgspec.ValidationError as error:
        raise ValueError(f"{key}: {_quoted(value)} is not allowed here: {allowed(key)}") from error
    try:
        return MEANINGS[key](typed) if key in MEANINGS else typed
    except ValueError as error:
        raise ValueError(f"{key}: {error}; allowed: {allowed(key)}") from error


def _quoted(value: object) -> str:
    """Return a value as a file has it, or nearly so, on one line."""
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= QUOTED_MAX else f"{text[:QUOTED_MAX]}…"
