"""``tapbond run`` as a process of its own, inside a namespace of a lab."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

from tapbond.lab.namespace import Namespace
from tapbond.model import Status
from tapbond.rundir import RunDir
from tapbond.service.client import Client

READY_DEADLINE_S = 20.0
STOP_DEADLINE_S = 10.0


class FailoverProcess:
    """A running failover.

    Args:
        namespace: where it runs.
        name: of the failover.
        options: of ``tapbond run``.
        run_dir: of the process.
        stderr: where its log goes; None: a pipe, read by stop().
    """

    def __init__(self, namespace: Namespace, name: str, *options: str, run_dir: Path) -> None:
        self.name = name
        self.namespace = namespace
        self._run_dir: RunDir = namespace.run(RunDir, run_dir)
        self.log_path = run_dir / f"{name}.log"
        self._ready, ready = os.pipe()
        with self.log_path.open("ab") as log:
            self.process: subprocess.Popen[bytes] = namespace.spawn(
                [
                    *(sys.executable, "-m", "tapbond", "run", name, *options),
                    *("--run-dir", str(run_dir), "--ready-fd", str(ready), "-v"),
                ],
                pass_fds=[ready],
                stderr=log,
            )
        os.close(ready)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        os.close(self._ready)

    @property
    def log(self) -> str:
        """What it has logged so far."""
        return self.log_path.read_text()

    def wait_ready(self, timeout: float = READY_DEADLINE_S) -> Self:
        """Wait until traffic can pass.

        Raises:
            TimeoutError: it did not come to that; the text has the log.
        """
        readable, _, _ = select.select([self._ready], [], [], timeout)
        if not readable or not os.read(self._ready, 16):
            raise TimeoutError(f"{self.name} is not ready:\n{self.log}")
        return self

    def client(self) -> Client:
        """Return a connection to its control socket."""
        return Client(self.name, self._run_dir)

    def status(self) -> Status:
        """Return its status."""
        with self.client() as client:
            return client.status()

    def call(self, method: str, **parameters: object) -> None:
        """Call a method of its control socket; raises ControlError."""
        with self.client() as client:
            client.call(method, **parameters)

    def stop(self, how: signal.Signals = signal.SIGTERM) -> int:
        """Send a signal and return the exit status; again is harmless.

        Raises:
            subprocess.TimeoutExpired: it does not end; it is killed then.
        """
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
