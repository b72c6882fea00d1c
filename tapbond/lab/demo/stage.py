"""The lab of the demo with tapbond running in it, and the traffic through both."""

from __future__ import annotations

import errno
import os
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from tapbond.errors import ControlError, RightsError, TapbondError
from tapbond.lab.demo import rights
from tapbond.lab.demo.plan import FAILOVER, PRIMARY, STANDBY, Settings
from tapbond.lab.process import FailoverProcess
from tapbond.lab.topology import FAR_V4, HOST_V4, Lab
from tapbond.lab.traffic import TcpStream, UdpFlow
from tapbond.rundir import SOCKET_PATH_MAX

if TYPE_CHECKING:
    from tapbond.model import Switchover
    from tapbond.state import Status

PORT_TO_FAR, PORT_TO_HOST, PORT_TCP = 5301, 5302, 5303
MBIT = 1_000_000
RUN_DIR_PATH = len("/tapbond-demo-12345678/net-4026531840/tb0.sock")


class Counts(NamedTuple):
    """What has arrived so far."""

    to_far: int
    to_host: int
    tcp_bytes: int


class Stage:
    """A lab, ``tapbond run`` as a process of its own in its host, and three flows; all gone when closed.

    Args:
        settings: the rate, and what ``tapbond run`` is told.
        seconds_max: how long the traffic may last.

    Raises:
        RightsError: no namespaces here.
        TapbondError: ``tapbond run`` ended, or did not get ready.
    """

    def __init__(self, settings: Settings, seconds_max: float) -> None:
        self._switchovers: dict[int, Switchover] = {}
        with ExitStack() as stack:
            run_dir = Path(stack.enter_context(_run_dir()))
            self.lab = stack.enter_context(_build_lab())
            slaves = ("--standby", STANDBY, "--primary", PRIMARY)
            kinds = ("--isolation", settings.isolation, "--rx", settings.rx)
            self._running = stack.enter_context(
                FailoverProcess(self.lab.host, FAILOVER, *slaves, *kinds, run_dir=run_dir)
            ).wait_ready()
            self.lab.address_failover(FAILOVER)
            self._client = stack.enter_context(self._running.client())
            host, far = self.lab.host, self.lab.far
            rate = settings.rate
            self.stream = TcpStream(
                host, far, FAR_V4, PORT_TCP, rate=settings.tcp_mbit * MBIT, seconds_max=seconds_max
            )
            stack.enter_context(self.stream)
            self.to_far = stack.enter_context(
                UdpFlow(host, far, FAR_V4, PORT_TO_FAR, rate=rate, seconds_max=seconds_max)
            )
            self.to_host = stack.enter_context(
                UdpFlow(far, host, HOST_V4, PORT_TO_HOST, rate=rate, seconds_max=seconds_max)
            )
            self._stack = stack.pop_all()

    def start_traffic(self) -> None:
        """Start the flows; TCP goes first, so that both ends know the other's MAC before UDP needs it."""
        self.stream.start()
        self.to_far.start()
        self.to_host.start()

    def stop_traffic(self) -> None:
        """Stop the flows and wait for what is under way."""
        self.to_far.stop()
        self.to_host.stop()
        self.stream.stop()

    def counts(self) -> Counts:
        """Return what has arrived so far."""
        return Counts(self.to_far.received, self.to_host.received, self.stream.received)

    def status(self) -> Status:
        """Ask tapbond, and keep the switchovers that it has recorded.

        Raises:
            TapbondError: it has ended.
        """
        try:
            status = self._client.status()
        except ControlError as error:
            raise TapbondError(f"tapbond run has ended in the middle{self._running.last_words()}") from error
        for record in status.last_switchovers:
            self._switchovers[record.serial] = record
        return status

    @property
    def switchovers(self) -> list[Switchover]:
        """The records seen by :meth:`status`, oldest first."""
        return [self._switchovers[serial] for serial in sorted(self._switchovers)]

    def queue_dropped(self) -> int:
        """Return how many frames of the host the kernel dropped as the failover's queue was full."""

        def ask(ipr: Any) -> int:
            (link,) = ipr.link("get", ifname=FAILOVER)
            return int(link.get("stats64")["tx_dropped"])

        return self.lab.host.netlink(ask)

    def switch(self, slave: str | None) -> int:
        """Switch by hand, or let the rules choose again; return the time.monotonic_ns() from right before."""
        at = time.monotonic_ns()
        self._client.call("Switch", slave=slave)
        return at

    def stop_tapbond(self) -> None:
        """End ``tapbond run`` as systemd would.

        Raises:
            TapbondError: it did not end well.
        """
        if status := self._running.stop():
            raise TapbondError(f"tapbond run ended with status {status}{self._running.last_words()}")

    def close(self) -> None:
        """Give everything back."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()


def _run_dir() -> tempfile.TemporaryDirectory[str]:
    room = SOCKET_PATH_MAX - len(os.fsencode(tempfile.gettempdir())) - RUN_DIR_PATH
    return tempfile.TemporaryDirectory(prefix="tapbond-demo-", dir=None if room >= 0 else "/tmp")  # noqa: S108


def _build_lab() -> Lab:
    try:
        return Lab()
    except PermissionError as error:
        raise RightsError(rights.forbidden(error, rights.read_sysctl)) from error
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            raise TapbondError("this kernel has no veth or bridge (modprobe veth bridge)") from error
        raise
