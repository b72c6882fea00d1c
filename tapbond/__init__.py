"""The kernel's net_failover driver in userspace: one TAP interface that survives its primary."""

from typing import TYPE_CHECKING

from tapbond.errors import (
    BusyError,
    ControlError,
    IsolationError,
    NamespaceError,
    NoSuchInterfaceError,
    NoSuchSlaveError,
    RefusedError,
    RightsError,
    TapbondError,
    TapError,
)
from tapbond.model import (
    CarrierChanged,
    Counters,
    Detector,
    Event,
    ReceiveMode,
    Role,
    SlaveRefused,
    SlaveRegistered,
    SlaveReleased,
    SlaveStatus,
    Status,
    Switchover,
)

if TYPE_CHECKING:
    from tapbond.failover import Failover

__version__ = "0.1.0"

__all__ = [
    "BusyError",
    "CarrierChanged",
    "ControlError",
    "Counters",
    "Detector",
    "Event",
    "Failover",
    "IsolationError",
    "NamespaceError",
    "NoSuchInterfaceError",
    "NoSuchSlaveError",
    "ReceiveMode",
    "RefusedError",
    "RightsError",
    "Role",
    "SlaveRefused",
    "SlaveRegistered",
    "SlaveReleased",
    "SlaveStatus",
    "Status",
    "Switchover",
    "TapError",
    "TapbondError",
    "__version__",
]


def __getattr__(name: str) -> object:
    """Load what needs pyroute2 when it is first asked for: a quarter of a second that ``status`` need not wait."""
    if name == "Failover":
        from tapbond.failover import Failover  # noqa: PLC0415

        return Failover
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
