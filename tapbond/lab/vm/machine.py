"""One QEMU: the guest, its sockets, its NICs that come and go."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack, suppress
from typing import TYPE_CHECKING, Any, Self

from tapbond.errors import TapbondError
from tapbond.lab import leash
from tapbond.lab.waiting import wait_until

from . import agent
from .guest import Guest
from .qmp import Qmp

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

    from .kernel import Kernel

QEMU = "qemu-system-x86_64"
PORTS = 4
"""Root ports, ``rp0`` and so on, each with room for one NIC."""
_CONSOLE = "console=ttyS0 quiet panic=-1 loglevel=5 mitigations=off random.trust_cpu=on"


class Machine:
    """A guest that boots when this is made, and is switched off when it is closed.

    Args:
        folder: of its sockets and its console's log; its path must be short (unix(7): 107 bytes).
        kernel: which boots.
        root: the initramfs (image.build()).
        taps: file descriptors of TAPs, each behind the netdev ``net<name>``.
        nics: devices that are there at boot (:meth:`plug`).
        memory: MiB.
        incoming: wait for a migration instead of booting (``-incoming defer``).
    """

    def __init__(
        self,
        folder: Path,
        kernel: Kernel,
        root: Path,
        *,
        taps: Mapping[str, int],
        nics: Sequence[Mapping[str, Any]] = (),
        memory: int = 640,
        incoming: bool = False,
    ) -> None:
        self.folder = folder
        self._console = folder / "console"
        self._guest: Guest | None = None
        sockets = {name: folder / name for name in ("qmp", "agent")}
        argv = [
            *(sys.executable, "-IS", leash.__file__, str(os.getpid())),
            *(self._program(), "-machine", "q35,accel=tcg", "-cpu", "qemu64,+rdrand", "-m", str(memory)),
            *(
                "-nodefaults",
                "-no-user-config",
                "-display",
                "none",
                "-no-reboot",
                "-kernel",
                str(kernel.image),
                "-initrd",
                str(root),
            ),
            *("-append", _CONSOLE, "-serial", f"file:{self._console}"),
            *("-qmp", f"unix:{sockets['qmp']},server=on,wait=off", "-device", "virtio-serial-pci"),
            *("-chardev", f"socket,id=agent,path={sockets['agent']},server=on,wait=off"),
            *("-device", f"virtserialport,chardev=agent,name={agent.PORT}"),
        ]
        for number in range(PORTS):
            argv += ["-device", f"pcie-root-port,id=rp{number},chassis={number + 1},slot={number + 1}"]
        for name, fd in taps.items():
            argv += ["-netdev", f"tap,id=net{name},fd={fd}"]
        for nic in nics:
            argv += ["-device", json.dumps(dict(nic))]  # as JSON, or its id cannot be used again
        argv += ["-incoming", "defer"] if incoming else []
        with ExitStack() as stack:
            with (folder / "log").open("wb") as log:
                self.process = subprocess.Popen(  # noqa: S603 - written above
                    argv, pass_fds=list(taps.values()), stdin=subprocess.DEVNULL, stdout=log, stderr=log
                )
            stack.callback(self._end)
            wait_until(lambda: self.process.poll() is not None or sockets["agent"].exists(), what=QEMU)
            self._check_alive()
            self.qmp = Qmp(sockets["qmp"])
            stack.callback(self.qmp.close)
            self._stack = stack.pop_all()

    @staticmethod
    def _program() -> str:
        if (found := shutil.which(QEMU)) is None:
            raise TapbondError(f"{QEMU}: not installed (Debian: apt-get install qemu-system-x86)")
        return found

    def _check_alive(self) -> None:
        if self.process.poll() is not None:
            words = (self.folder / "log").read_text(encoding="utf-8", errors="replace").strip()
            raise TapbondError(f"{QEMU} ended with status {self.process.returncode}: {words}")

    @property
    def console(self) -> str:
        """What the guest's kernel and its process 1 have said."""
        return self._console.read_text(encoding="utf-8", errors="replace") if self._console.exists() else ""

    @property
    def guest(self) -> Guest:
        """The agent in the guest, once it has booted."""
        if self._guest is None:
            self._check_alive()
            try:
                self._guest = Guest(self.folder / "agent")
                self._stack.callback(self._guest.close)
            except (TimeoutError, TapbondError) as error:
                raise TapbondError(f"{error}; its console: {self.console[-2000:]}") from error
        return self._guest

    def plug(self, nic: Mapping[str, Any]) -> None:
        """Plug a NIC: ``{"driver": …, "id": …, "bus": "rp0", "netdev": …, "mac": …}``, as for ``-device``."""
        self.qmp.execute("device_add", **nic)

    def unplug(self, device: str, timeout: float = 30.0) -> None:
        """Ask the guest to let a device go and wait until it has.

        Raises:
            TimeoutError: it has not.
        """
        self.qmp.execute("device_del", id=device)
        self.qmp.wait_event("DEVICE_DELETED", timeout, device=device)

    def set_link(self, device: str, *, on: bool) -> int:
        """Switch a NIC's link; return time.monotonic_ns() from right before."""
        at = time.monotonic_ns()
        self.qmp.execute("set_link", name=device, up=on)
        return at

    def migrate(self, to: Machine, timeout: float = 120.0) -> dict[str, Any]:
        """Move the guest to a machine that waits for it (``incoming``); its NICs must be the same.

        Returns:
            ``query-migrate`` of QEMU: ``downtime`` and ``total-time`` in ms, ``ram`` in bytes.

        Raises:
            TapbondError: QEMU gave up.
            TimeoutError: it took too long.
        """
        uri = f"unix:{to.folder / 'migration'}"
        to.qmp.execute("migrate-incoming", uri=uri)
        self.qmp.execute("migrate-set-parameters", **{"max-bandwidth": 1 << 30, "downtime-limit": 300})
        self.qmp.execute("migrate", uri=uri)
        state: dict[str, Any] = {}

        def ended() -> bool:
            state.update(self.qmp.execute("query-migrate"))
            return state.get("status") in {"completed", "failed", "cancelled"}

        wait_until(ended, timeout, "the migration")
        if state["status"] != "completed":
            raise TapbondError(
                f"the migration has {state['status']}: {state.get('error-desc', 'no reason given')}"
            )
        return state

    def _end(self) -> None:
        if self.process.poll() is None:
            self.process.terminate()
            with suppress(subprocess.TimeoutExpired):
                self.process.wait(5.0)
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()

    def close(self) -> None:
        """Switch it off."""
        self._stack.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
