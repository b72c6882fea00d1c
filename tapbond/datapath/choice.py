"""Which data path a failover has, and why."""

from collections.abc import Callable
from contextlib import AsyncExitStack

import structlog

from tapbond.datapath import DataPath
from tapbond.datapath.fuse import Fuse
from tapbond.datapath.pump import Pump
from tapbond.datapath.qdiscs import QdiscWatch
from tapbond.datapath.redirect import RedirectPath
from tapbond.datapath.tc import Tc
from tapbond.datapath.wiring import Wiring
from tapbond.errors import TapbondError
from tapbond.macpolicy import POLICIES
from tapbond.model import DataPathChanged, DataPathName, Link
from tapbond.netns import OpenSocket
from tapbond.settings import Settings

log = structlog.get_logger()


def open_datapath(
    settings: Settings,
    queues: list[int],
    tap: Link | None,
    open_socket: OpenSocket,
    clock: Callable[[], int],
    emit: Callable[[DataPathChanged], None],
    unwind: AsyncExitStack,
) -> tuple[RedirectPath | None, DataPath]:
    """Return the redirect path, if there may be one, and the path to use: that or the pump.

    Args:
        settings: the failover's.
        queues: descriptors of the TAP: see Pump.
        tap: the TAP as a link.
        open_socket: in the slaves' network namespace.
        clock: CLOCK_MONOTONIC in ns.
        emit: is told when frames take another path.
        unwind: closes it in the end.

    Raises:
        TapbondError: redirecting was asked for and does not work.
        OSError: no memory or descriptors for it.
    """
    pump = Pump(
        queues[0],
        settings.drain_ns,
        open_socket,
        tolerant=settings.downdelay_ns > 0,
        silent=settings.announce_count == 0 or POLICIES[settings.mac_policy].follows,
        busy_poll_ns=settings.busy_poll_ns,
        more_queues=queues[1:],
    )
    unwind.push_async_callback(pump.close)
    if settings.datapath is DataPathName.COPY:
        return None, pump
    wiring = Wiring(settings.name, Tc(open_socket))
    automatic = settings.datapath is DataPathName.AUTO
    fuse = Fuse(open_socket)
    path = RedirectPath(
        settings.name,
        pump,
        wiring,
        settings.drain_ns,
        clock,
        emit,
        fuse,
        patient=automatic,
        tolerant=settings.downdelay_ns > 0,
    )
    unwind.push_async_callback(path.close)
    fuse.open()
    watch = QdiscWatch(open_socket, path.qdiscs_changed)
    unwind.callback(watch.close)
    watch.open()
    if reason := settings.copies_because():
        path.reasons["settings"] = reason
    elif tap is not None:
        _try(path, tap, automatic=automatic)
    if path.reason:
        log.info("frames are copied", failover=settings.name, reason=path.reason)
    else:
        log.info("frames are redirected", failover=settings.name, classifier=wiring.classifier)
    return path, path


def _try(path: RedirectPath, tap: Link, *, automatic: bool) -> None:
    """Begin to redirect; with ``auto`` a failure is a reason to copy."""
    try:
        path.open(tap)
    except TapbondError as error:
        if not automatic:
            raise TapbondError(f"{error} (use --datapath copy, or leave it out)") from error
        path.reasons["kernel"] = str(error)
