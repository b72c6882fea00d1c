"""The kernel's net_failover driver in userspace: one TAP interface that survives its primary."""

from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
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
    from tapbond.failover import Failover, create, destroy
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


_HOMES = ("errors", "model", "settings", "state", "failover")
"""Where the names above are, the quickest to load first: the last takes a quarter of a second, for pyroute2."""


def __getattr__(name: str) -> object:
    """Load what is asked for, and nothing before: ``tapbond --help`` need not wait for it."""
    if name in __all__:
        for home in _HOMES:
            module = import_module(f"tapbond.{home}")
            if hasattr(module, name):
                return getattr(module, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
