"""Counters as ``ethtool -S`` prints them: one name, one number a line, the names indented as there."""

from tapbond.model import COUNTER_FIELDS, LINK_COUNTER_FIELDS
from tapbond.state import Status


def counters(status: Status) -> dict[str, int]:
    """Return all by name: the failover's, those of its slaves' drivers (``links_``), each slave's (``eth0_``)."""
    found = {name: getattr(status.counters, name) for name in COUNTER_FIELDS}
    found["switchovers"] = status.switchovers
    found |= {f"links_{name}": getattr(status.links, name) for name in LINK_COUNTER_FIELDS}
    for slave in status.slaves:
        found |= {f"{slave.name}_{name}": getattr(slave.counters, name) for name in COUNTER_FIELDS}
        found[f"{slave.name}_link_failures"] = slave.link_failures
    return found


def ethtool(status: Status) -> str:
    """Return them as text that ends with a newline."""
    return "NIC statistics:\n" + "".join(f"     {name}: {value}\n" for name, value in counters(status).items())
