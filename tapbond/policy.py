"""Who sends and who receives: a pure function of configuration, facts and time.

No I/O and no clock in here, so a day of flapping links is tested in milliseconds. The rules are those of
drivers/net/net_failover.c: ``net_failover_xmit_ready()``, ``net_failover_start_xmit()`` and, for
``ReceiveMode.KERNEL``, ``net_failover_handle_frame()``.
"""

from collections.abc import Collection

from tapbond.model import Decision, ReceiveMode, Role, SlaveFacts

RANK = {Role.PRIMARY: 0, Role.STANDBY: 1}


def decide(rx: ReceiveMode, slaves: Collection[SlaveFacts], now_ns: int, requested: int | None = None) -> Decision:
    """Decide who sends and who receives.

    Args:
        rx: whose frames are delivered.
        slaves: the registered slaves, in any order.
        now_ns: CLOCK_MONOTONIC in ns.
        requested: port chosen by hand; it goes first while it is ready, and is forgotten when it is not.

    A slave whose link has just come up follows those that have settled; where there are none, the one with the
    least delay left is used at once (bonding's exception to updelay, bond_miimon_inspect() in
    drivers/net/bonding/bond_main.c).

    Returns:
        The decision. The same arguments give the same one, and deciding again with its ``requested`` changes
        nothing.
    """
    ready = [slave for slave in slaves if slave.ready(now_ns)]
    if requested not in {slave.port for slave in ready}:
        requested = None
    ready.sort(
        key=lambda slave: (slave.port != requested, max(now_ns, slave.settled_ns), RANK[slave.role], slave.port)
    )
    times = [time for slave in slaves for time in (slave.held_until_ns, slave.settled_ns) if time > now_ns]
    return Decision(
        order=tuple(slave.port for slave in ready),
        receive=_receivers(rx, slaves),
        receive_sender=rx is ReceiveMode.ACTIVE,
        drain=rx is ReceiveMode.ACTIVE,
        requested=requested,
        wake_ns=min(times, default=None),
    )


def _receivers(rx: ReceiveMode, slaves: Collection[SlaveFacts]) -> frozenset[int]:
    """Return the ports that deliver whatever their link says; none where the sender decides."""
    if rx is ReceiveMode.ACTIVE:
        return frozenset()
    primaries = frozenset(slave.port for slave in slaves if slave.role is Role.PRIMARY)
    if rx is ReceiveMode.KERNEL and primaries:
        return primaries
    return frozenset(slave.port for slave in slaves)
