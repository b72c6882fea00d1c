"""A failover in one line, in the columns of ``ip -brief link``."""

from tapbond.state import Status


def brief(status: Status) -> str:
    """Return name, state, active slave, and each slave with its MII status."""
    state = "DOWN" if not status.up else "UP" if status.carrier else "LOWERLAYERDOWN"
    slaves = ",".join(f"{slave.name}={slave.mii_status.replace(' ', '-')}" for slave in status.slaves)
    return f"{status.name:<16} {state:<14} {status.active or 'none':<16} <{slaves}>"
