"""The kernel's net_failover driver in userspace: one TAP interface that survives its primary."""

from tapbond.errors import (
    BusyError,
    ControlError,
    IsolationError,
    NoSuchInterfaceError,
    NoSuchSlaveError,
    RefusedError,
    RightsError,
    TapbondError,
    TapError,
)
from tapbond.failover import Failover
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
