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
    ChangeRefused,
    Counters,
    DataPathChanged,
    DataPathName,
    Detector,
    Event,
    MacPolicyName,
    MiiStatus,
    ReceiveMode,
    Reselect,
    Role,
    SlaveRefused,
    SlaveRegistered,
    SlaveReleased,
    Slots,
    Switchover,
)
from tapbond.settings import Backup, Probing, Settings
from tapbond.state import ProbeStatus, Rules, SlaveStatus, Status

if TYPE_CHECKING:
    from tapbond.failover import Failover, create, destroy

__version__ = "0.1.0"

__all__ = [
    "Backup",
    "BusyError",
    "CarrierChanged",
    "ChangeRefused",
    "ControlError",
    "Counters",
    "DataPathChanged",
    "DataPathName",
    "Detector",
    "Event",
    "Failover",
    "IsolationError",
    "MacPolicyName",
    "MiiStatus",
    "NamespaceError",
    "NoSuchInterfaceError",
    "NoSuchSlaveError",
    "ProbeStatus",
    "Probing",
    "ReceiveMode",
    "RefusedError",
    "Reselect",
    "RightsError",
    "Role",
    "Rules",
    "Settings",
    "SlaveRefused",
    "SlaveRegistered",
    "SlaveReleased",
    "SlaveStatus",
    "Slots",
    "Status",
    "Switchover",
    "TapError",
    "TapbondError",
    "__version__",
    "create",
    "destroy",
]


def __getattr__(name: str) -> object:
    """Load what needs pyroute2 when it is first asked for: a quarter of a second that ``status`` need not wait."""
    if name in ("Failover", "create", "destroy"):
        from tapbond import failover  # noqa: PLC0415

        return getattr(failover, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
