"""The lab of the demo with tapbond running in it, and the traffic through both."""

from __future__ import annotations

import errno
import os
import select
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from tapbond.errors import ControlError, RightsError, TapbondError
from tapbond.lab.demo import leash, rights
from tapbond.lab.demo.plan import FAILOVER, PRIMARY, STANDBY, Settings
from tapbond.lab.topology import FAR_V4, HOST_V4, Lab
from tapbond.lab.traffic import TcpStream, UdpFlow
from tapbond.rundir import SOCKET_PATH_MAX, RunDir
from tapbond.service.client import Client

if TYPE_CHECKING:
    from tapbond.model import Status, Switchover

READY_S = 10.0
STOP_S = 5.0
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
        self._settings = settings
        self._switchovers: dict[int, Switchover] = {}
        with ExitStack() as stack:
            self._base = Path(stack.enter_context(_run_dir()))
            self.lab = stack.enter_context(_build_lab())
            self._child = self._run_tapbond()
            self.lab.address_failover(FAILOVER)
            self._client = stack.enter_context(Client(FAILOVER, self.lab.host.run(RunDir, self._base)))
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
            raise TapbondError(f"tapbond run has ended in the middle{self._last_words()}") from error
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
        self._child.terminate()
        try:
            status = self._child.wait(STOP_S)
        except subprocess.TimeoutExpired as error:
            raise TapbondError(f"tapbond run did not end within {STOP_S:g} s of SIGTERM") from error
        if status:
            raise TapbondError(f"tapbond run ended with status {status}{self._last_words()}")

    def close(self) -> None:
        """Give everything back."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exc: object) -> None:
        self.close()

    def _run_tapbond(self) -> subprocess.Popen[bytes]:
        ready, told = os.pipe()
        try:
            with self._log.open("wb") as log:
                child = self.lab.host.spawn(
                    self._argv(told),
                    pass_fds=(told,),
                    stdin=subprocess.DEVNULL,
                    stdout=log,
                    stderr=log,
                    start_new_session=True,  # Ctrl-C is for the demo, which ends it in its turn
                )
        finally:
            os.close(told)
        try:
            readable, _, _ = select.select([ready], [], [], READY_S)
            if not readable:
                raise TapbondError(f"tapbond run was not ready within {READY_S:g} s{self._last_words()}")
            if not os.read(ready, 16):
                raise TapbondError(f"tapbond run did not start{self._last_words()}")
        finally:
            os.close(ready)
        return child

    def _argv(self, told: int) -> list[str]:
        tapbond = [sys.executable, "-m", "tapbond", "run", FAILOVER]
        options = {
            "--standby": STANDBY,
            "--primary": PRIMARY,
            "--isolation": self._settings.isolation,
            "--rx": self._settings.rx,
            "--ready-fd": str(told),
            "--run-dir": str(self._base),
        }
        tied = [sys.executable, "-IS", leash.__file__, str(os.getpid())]
        return [*tied, *tapbond, *(word for option in options.items() for word in option)]

    @property
    def _log(self) -> Path:
        return self._base / "tapbond.log"

    def _last_words(self) -> str:
        """Return the last line that tapbond wrote, to follow a sentence."""
        lines = self._log.read_text(encoding="utf-8", errors="replace").split("\n")
        said = next((line.strip() for line in reversed(lines) if line.strip()), "")
        return f": {said.removeprefix('tapbond: ')}" if said else ""


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
