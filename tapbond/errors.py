"""What can go wrong, one type a cause; the text names the interface and the way out."""

import errno
import os


class TapbondError(Exception):
    """Base of everything tapbond raises on purpose; ``str()`` of it is one line for a person."""


class NoSuchInterfaceError(TapbondError):
    """A named link does not exist in this network namespace."""

    def __init__(self, name: str, hint: str = "", where: str = "") -> None:
        self.name = name
        there = f" in {where}" if where else ""
        super().__init__(f"{name}: no such interface{there}" + (f" ({hint})" if hint else ""))


class RefusedError(TapbondError):
    """A link exists but cannot become a slave; it was left as it was."""

    def __init__(self, name: str, reason: str) -> None:
        self.name = name
        self.reason = reason
        super().__init__(f"{name}: {reason}")


class LinkRequestError(TapbondError):
    """The kernel refused a change of a link; ``code`` is the errno, ``reason`` its text."""

    def __init__(self, what: str, code: int, reason: str) -> None:
        self.code = code
        self.reason = reason
        super().__init__(f"{what}: {reason}")


class TapError(TapbondError):
    """The TAP could not be made, or failed."""


class IsolationError(TapbondError):
    """A slave's own IP stack could not be kept out of its traffic."""


class RightsError(TapbondError):
    """The kernel says no: a capability or a file permission is missing."""


class NamespaceError(TapbondError):
    """A network namespace could not be found, made or entered."""


class BusyError(TapbondError):
    """Another process runs a failover of this name, or uses this link."""


class ControlError(TapbondError):
    """The control socket of a failover could not be reached, or said no."""


class NoSuchSlaveError(TapbondError):
    """The failover has no such slave, or it is not fit for what was asked."""


class ConfigError(TapbondError):
    """A configuration file cannot be used; ``findings`` has a line for each thing that is wrong with it."""

    def __init__(self, findings: list[str], way_out: str = "") -> None:
        self.findings = findings
        more = f" (and {len(findings) - 1} more: {way_out})" if way_out and len(findings) > 1 else ""
        super().__init__(findings[0] + more)


def errno_name(error: int) -> str:
    """Return ``ENETDOWN (Network is down)`` for 100."""
    return f"{errno.errorcode.get(error, str(error))} ({os.strerror(error)})"
