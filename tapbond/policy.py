"""Who sends and who receives: a pure function of configuration, facts and time.

No I/O and no clock in here, so a day of flapping links is tested in milliseconds. For two slaves the rules are
those of drivers/net/net_failover.c: ``net_failover_xmit_ready()``, ``net_failover_start_xmit()`` and, for
``ReceiveMode.KERNEL``, ``net_failover_handle_frame()``. For more, and for when a better slave takes over, they
are those of ``bond_find_best_slave()`` in drivers/net/bonding/bond_main.c.
"""

from collections.abc import Callable, Collection

from tapbond.model import Decision, ReceiveMode, Reselect, Role, SlaveFacts

RANK = {Role.PRIMARY: 0, Role.STANDBY: 1, Role.BACKUP: 2}
"""Of two slaves with the same ``prio``; a primary outranks every ``prio``."""


def decide(
    rx: ReceiveMode,
    slaves: Collection[SlaveFacts],
    now_ns: int,
    requested: int | None = None,
    *,
    active: int | None = None,
    reselect: Reselect = Reselect.ALWAYS,
) -> Decision:
    """Decide who sends and who receives.

    Args:
        rx: whose frames are delivered.
        slaves: the registered slaves, in any order.
        now_ns: CLOCK_MONOTONIC in ns.
        requested: port chosen by hand; it goes first while it is ready, and is forgotten when it is not.
        active: the port that sends now.
        reselect: when a better slave takes over from ``active``.

    The ready slaves are put in this order: those whose probes are answered (where none are, that says nothing
    against a path, and nothing takes over); those with a carrier before those whose loss is still tolerated; those
    that have settled, then the one with the least updelay left, so that the first link up is used at once when
    there is nothing else (bonding's exception, bond_miimon_inspect()); the primary; the highest ``prio``; the
    standby.
    The active one stays first while nothing takes over from it: see _takes_over().

    Returns:
        The decision. The same arguments give the same one, and deciding again with its ``requested`` and its
        ``active`` changes nothing.
    """
    ready = [slave for slave in slaves if slave.ready(now_ns)]
    heard = any(slave.answered for slave in ready)
    if requested not in {slave.port for slave in ready if slave.answered or not heard}:
        requested = None
    ready.sort(key=lambda slave: (_fitness(slave, active, now_ns), *_rank(slave), slave.port))
    first = _first(ready, requested, active, reselect, now_ns)
    times = [
        time
        for slave in slaves
        for time in (slave.held_until_ns, slave.settled_ns, slave.tolerated_until_ns)
        if time > now_ns
    ]
    return Decision(
        order=tuple(slave.port for slave in (*first, *(slave for slave in ready if slave not in first))),
        receive=_receivers(rx, slaves),
        receive_sender=rx is ReceiveMode.ACTIVE,
        drain=rx is ReceiveMode.ACTIVE,
        requested=requested,
        wake_ns=min(times, default=None),
    )


def _fitness(slave: SlaveFacts, active: int | None, now_ns: int) -> tuple[bool, bool, int]:
    """Return what is wrong with a slave that is ready: less is better, and comes before any rank.

    The one in use has nothing to wait for: a delay is there to be sure before a slave is used.
    """
    if slave.port == active:
        return (not slave.answered, False, now_ns)
    return (not slave.answered, not (slave.up and slave.carrier), max(now_ns, slave.settled_ns))


def _rank(slave: SlaveFacts) -> tuple[bool, int, int]:
    """Return a slave's place among those that are equally fit: less is better."""
    return (slave.role is not Role.PRIMARY, -slave.prio, RANK[slave.role])


def _first(
    ready: list[SlaveFacts], requested: int | None, active: int | None, reselect: Reselect, now_ns: int
) -> list[SlaveFacts]:
    """Return the one that goes before all others, or nobody."""
    wanted = active if requested is None else requested
    first = [slave for slave in ready if slave.port == wanted]
    if not first or requested is not None:
        return first
    best, current = ready[0], first[0]
    fitter = _fitness(best, active, now_ns) < _fitness(current, active, now_ns)
    # Where no path answers, the best of them may be the one that was left because it was silent.
    return [] if fitter or (current.answered and _takes_over(best, current, reselect)) else first


def _takes_over(best: SlaveFacts, current: SlaveFacts, reselect: Reselect) -> bool:
    """Return whether the best of the others takes over from the active slave, which is as fit.

    A primary that is registered for the first time always does (``force_primary`` in bond_main.c); an equal never,
    where bonding takes the first of its list.
    """
    if best.forced:
        return True
    if current.sticky or _rank(best) >= _rank(current):
        return False
    return RESELECT[reselect](best, current)


RESELECT: dict[Reselect, Callable[[SlaveFacts, SlaveFacts], bool]] = {
    Reselect.ALWAYS: lambda _best, _current: True,
    Reselect.BETTER: lambda best, current: (best.speed, best.full_duplex) > (current.speed, current.full_duplex),
    Reselect.FAILURE: lambda _best, _current: False,
}
"""Whether the first, which outranks the second, takes over from it (bond_choose_primary_or_current())."""


def _receivers(rx: ReceiveMode, slaves: Collection[SlaveFacts]) -> frozenset[int]:
    """Return the ports that deliver whatever their link says; none where the sender decides."""
    if rx is ReceiveMode.ACTIVE:
        return frozenset()
    primaries = frozenset(slave.port for slave in slaves if slave.role is Role.PRIMARY)
    if rx is ReceiveMode.KERNEL and primaries:
        return primaries
    return frozenset(slave.port for slave in slaves)
