"""``tapbond run`` as a process of its own, inside a namespace of a lab."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from typing import Self

from tapbond.errors import TapbondError
from tapbond.lab import leash
from tapbond.lab.namespace import Namespace
from tapbond.rundir import RunDir
from tapbond.service.client import Client
from tapbond.state import Status

READY_DEADLINE_S = 20.0
STOP_DEADLINE_S = 10.0
RUN = ("tapbond", "run")


class FailoverProcess:
    """A running failover, which ends with the process that started it.

    Args:
        namespace: where it runs.
        name: of the failover.
        options: of ``tapbond run``.
        run_dir: of the process; its log is there too.
        program: a module and its first words, that takes what ``tapbond run`` takes.
    """

    def __init__(
        self,
        namespace: Namespace,
        name: str,
        *options: str,
        run_dir: Path,
        program: tuple[str, ...] = RUN,
    ) -> None:
        self.name = name
        self.namespace = namespace
        self._run_dir: RunDir = namespace.run(RunDir, run_dir)
        self.log_path = run_dir / f"{name}.log"
        self._ready, ready = os.pipe()
        # The machine's configuration is not the lab's.
        mine = () if program != RUN or "--config" in options else ("--config", os.devnull)
        with self.log_path.open("ab") as log:
            self.process: subprocess.Popen[bytes] = namespace.spawn(
                [
                    *(sys.executable, "-IS", leash.__file__, str(os.getpid())),
                    *(sys.executable, "-m", *program, name, *options, *mine),
                    *("--run-dir", str(run_dir), "--ready-fd", str(ready), "-v"),
                ],
                pass_fds=[ready],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # Ctrl-C is for who started it, which ends it in its turn
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
        return self.log_path.read_text(encoding="utf-8", errors="replace")

    def last_words(self) -> str:
        """Return the last line that it wrote, to follow a sentence."""
        said = next((line.strip() for line in reversed(self.log.split("\n")) if line.strip()), "")
        return f": {said.removeprefix('tapbond: ')}" if said else ""

    def wait_ready(self, timeout: float = READY_DEADLINE_S) -> Self:
        """Wait until traffic can pass.

        Raises:
            TapbondError: it did not come to that; the text has its last words.
        """
        readable, _, _ = select.select([self._ready], [], [], timeout)
        if not readable:
            raise TapbondError(f"tapbond run was not ready within {timeout:g} s{self.last_words()}")
        if not os.read(self._ready, 16):
            raise TapbondError(f"tapbond run did not start{self.last_words()}")
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
            TapbondError: it does not end; it is killed then.
        """
        if self.process.poll() is None:
            self.process.send_signal(how)
        try:
            return self.process.wait(STOP_DEADLINE_S)
        except subprocess.TimeoutExpired as error:
            self.process.kill()
            self.process.wait()
            raise TapbondError(f"tapbond run did not end within {STOP_DEADLINE_S:g} s") from error
