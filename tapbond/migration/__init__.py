"""Live migration of a guest with a passthrough NIC, seen from its host, as one transaction.

The net_failover document's migrate.sh and reattach-vf.sh (Documentation/networking/net_failover.rst): a plan of
steps that each know how to do, verify and undo themselves.
"""

from tapbond.migration.errors import (
    AnswerTimeoutError,
    GuestRefusedError,
    HypervisorError,
    MigrationError,
    NoWayBackError,
    PreconditionError,
    StepError,
    UnclearError,
    UndoneError,
    UnfinishedError,
)
from tapbond.migration.facts import Facts, FdbEntry
from tapbond.migration.plan import plan
from tapbond.migration.survey import Wishes, survey
from tapbond.migration.transaction import Transaction

__all__ = [
    "AnswerTimeoutError",
    "Facts",
    "FdbEntry",
    "GuestRefusedError",
    "HypervisorError",
    "MigrationError",
    "NoWayBackError",
    "PreconditionError",
    "StepError",
    "Transaction",
    "UnclearError",
    "UndoneError",
    "UnfinishedError",
    "Wishes",
    "plan",
    "survey",
]
