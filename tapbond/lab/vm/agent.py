"""What runs as process 1 in the guest: makes it habitable, then does what it is told over a virtio-serial port.

It stands alone (standard library only), since it is all there is when the guest boots. A request is one line of
JSON, ``{"id": N, "op": NAME, ...}``, and so is each answer, ``{"id": N, "result": ...}`` or
``{"id": N, "error": TEXT}``. Requests are served side by side, each in a thread of its own.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import IO, Any

PORT = "tapbond.agent"
_SYS_FINIT_MODULE = 313
_SYS_DELETE_MODULE = 176
_ENV = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/",
    "LANG": "C.UTF-8",
    "PYTHONDONTWRITEBYTECODE": "1",
}
_libc = ctypes.CDLL(None, use_errno=True)


def _mount(kind: str, where: str) -> None:
    Path(where).mkdir(exist_ok=True)
    if _libc.mount(kind.encode(), where.encode(), kind.encode(), 0, None):
        raise OSError(ctypes.get_errno(), f"mount {where}")


class Modules:
    """The kernel's modules, in a folder with a list of them and of their options."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        lines = (folder / "list").read_text(encoding="utf-8").splitlines()
        self._options = dict(line.split(" ", 1) for line in lines)

    def _load(self, file_name: str) -> None:
        with (self._folder / file_name).open("rb") as file:
            if _libc.syscall(_SYS_FINIT_MODULE, file.fileno(), self._options[file_name].encode(), 0):
                raise OSError(ctypes.get_errno(), f"{file_name}: {os.strerror(ctypes.get_errno())}")

    def load_all(self) -> None:
        """Load them; what fails is said on the console."""
        for file_name in self._options:
            try:
                self._load(file_name)
            except OSError as error:
                print(f"agent: {error}", flush=True)  # noqa: T201 - the console

    def reload(self, name: str) -> None:
        """Unload a module that nothing uses, and load it again."""
        if _libc.syscall(_SYS_DELETE_MODULE, name.encode(), os.O_NONBLOCK):
            raise OSError(ctypes.get_errno(), f"{name}: {os.strerror(ctypes.get_errno())}")
        self._load(f"{name}.ko")


def _find_port(deadline_s: float = 20.0) -> Path:
    """Return the device of the agent's port; it appears a moment after its driver."""
    deadline = time.monotonic() + deadline_s
    while time.monotonic() < deadline:
        for name in Path("/sys/class/virtio-ports").glob("*/name"):
            if name.read_text(encoding="utf-8").strip() == PORT:
                return Path("/dev") / name.parent.name
        time.sleep(0.01)
    raise FileNotFoundError(f"no virtio-serial port {PORT}")


class Programs:
    """Programs that run on after the request that started them."""

    def __init__(self) -> None:
        self._running: dict[int, tuple[subprocess.Popen[bytes], Path]] = {}

    def run(self, argv: list[str], timeout: float = 30.0) -> dict[str, Any]:
        """Run a program to its end: ``{"status": N, "out": TEXT, "err": TEXT}``."""
        done = subprocess.run(  # noqa: S603 - what the host says is done
            argv, capture_output=True, text=True, check=False, timeout=timeout, env=_ENV, stdin=subprocess.DEVNULL
        )
        return {"status": done.returncode, "out": done.stdout, "err": done.stderr}

    def start(self, argv: list[str]) -> int:
        """Start a program and return its process id; what it says is kept."""
        log = Path(f"/run/{time.monotonic_ns()}.log")
        with log.open("wb") as out:
            child = subprocess.Popen(  # noqa: S603
                argv, stdin=subprocess.DEVNULL, stdout=out, stderr=out, env=_ENV, start_new_session=True
            )
        self._running[child.pid] = child, log
        return child.pid

    def output(self, pid: int) -> str:
        """Return what a started program has said so far."""
        return self._running[pid][1].read_text(encoding="utf-8", errors="replace")

    def signal(self, pid: int, number: int = signal.SIGTERM) -> None:
        """Send a signal to a started program; none if it has ended."""
        self._running[pid][0].send_signal(number)

    def wait(self, pid: int, timeout: float = 30.0) -> dict[str, Any]:
        """Wait for the end of a started program: ``{"status": N, "out": TEXT}``."""
        status = self._running[pid][0].wait(timeout)
        out = self.output(pid)
        self._running.pop(pid)[1].unlink()
        return {"status": status, "out": out}


class Files:
    """The guest's files."""

    def read(self, path: str) -> str:
        """Return a file's text."""
        return Path(path).read_text(encoding="utf-8")

    def write(self, path: str, text: str) -> None:
        """Write into a file, as into one of /sys."""
        Path(path).write_text(text, encoding="utf-8")

    def list(self, pattern: str) -> list[str]:
        """Return the paths that match a pattern below the root."""
        return sorted(str(path) for path in Path("/").glob(pattern.lstrip("/")))


class Server:
    """Answers requests until the machine is switched off.

    Args:
        port: the device.
        modules: of the kernel.
    """

    def __init__(self, port: IO[bytes], modules: Modules) -> None:
        self._port = port
        self._writing = threading.Lock()
        programs, files = Programs(), Files()
        self._ops: dict[str, Any] = {
            "run": programs.run,
            "start": programs.start,
            "output": programs.output,
            "signal": programs.signal,
            "wait": programs.wait,
            "read": files.read,
            "write": files.write,
            "list": files.list,
            "reload": modules.reload,
            "monotonic_ns": time.monotonic_ns,
        }

    def _say(self, answer: dict[str, Any]) -> None:
        line = memoryview(json.dumps(answer).encode() + b"\n")
        with self._writing:
            while line:  # the driver takes 32 KiB at a time (port_fops_write() of drivers/char/virtio_console.c)
                line = line[self._port.write(line) :]

    def _serve(self, request: dict[str, Any]) -> None:
        number, op = request.pop("id"), request.pop("op")
        try:
            self._say({"id": number, "result": self._ops[op](**request)})
        except Exception as error:  # noqa: BLE001 - it is the host's to judge
            self._say({"id": number, "error": f"{type(error).__name__}: {error}"})

    def run(self) -> None:
        """Serve for ever."""
        self._say({"id": 0, "result": "hello"})
        while True:
            line = self._port.readline()
            if not line:
                time.sleep(0.05)  # nobody has the other end open
                continue
            threading.Thread(target=self._serve, args=(json.loads(line),), daemon=True).start()


def main() -> None:
    """Be process 1."""
    for kind, where in (("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("tmpfs", "/run")):
        _mount(kind, where)
    _mount("tmpfs", "/dev/shm")  # noqa: S108 - the guest's
    modules = Modules(Path("/modules"))
    modules.load_all()
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True, env=_ENV)  # noqa: S607
    fd = os.open(_find_port(), os.O_RDWR)
    with os.fdopen(fd, "r+b", buffering=0) as port:
        Server(port, modules).run()


if __name__ == "__main__":
    try:
        main()
    except BaseException:
        traceback.print_exc(file=sys.stdout)
        sys.stdout.flush()
        time.sleep(1)  # the serial port is slow
        raise
