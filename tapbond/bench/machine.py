"""Where it was measured: figures mean nothing without."""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
from contextlib import suppress
from pathlib import Path

import msgspec

import tapbond

TOOLS = {"iperf3": ("iperf3", "--version"), "Open vSwitch": ("ovs-vswitchd", "--version")}
VERSION = re.compile(r"\d+(\.\d+)+")


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """One machine, at one time."""

    cpu: str
    """The processor's name."""
    cpus: int
    """That this process may use."""
    virtual: bool
    """Under a hypervisor (x86 only)."""
    arch: str
    kernel: str
    memory_mib: int
    congestion_control: str
    """What TCP paces itself by (tcp(7)): BBR leaves a faster path idle, CUBIC fills it."""
    python: str
    tapbond: str
    tools: dict[str, str]
    """Versions, of those that are installed."""
    load_average: tuple[float, float, float]
    """When it began, over 1, 5 and 15 min."""


def machine() -> Machine:
    """Describe this one, now."""
    info = _read("/proc/cpuinfo")
    return Machine(
        cpu=cpu_model(info) or platform.processor() or platform.machine(),
        cpus=len(os.sched_getaffinity(0)),
        virtual="hypervisor" in info,
        arch=platform.machine(),
        kernel=platform.release(),
        memory_mib=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") >> 20,
        congestion_control=_read("/proc/sys/net/ipv4/tcp_congestion_control").strip(),
        python=platform.python_version(),
        tapbond=tapbond.__version__,
        tools={name: version for name, argv in TOOLS.items() if (version := _version(argv))},
        load_average=os.getloadavg(),
    )


def cpu_model(cpuinfo: str) -> str:
    """Return the processor's name from /proc/cpuinfo, empty where it has none (some ARM)."""
    found = re.search(r"^model name\s*:\s*(.+)$", cpuinfo, re.MULTILINE)
    return " ".join(found[1].split()) if found else ""


def _read(path: str) -> str:
    with suppress(OSError):
        return Path(path).read_text(encoding="utf-8", errors="replace")
    return ""


def _version(argv: tuple[str, ...]) -> str:
    program = shutil.which(argv[0])
    if program is None:
        return ""
    done = subprocess.run([program, *argv[1:]], capture_output=True, text=True, check=False)  # noqa: S603
    found = VERSION.search(done.stdout)
    return found[0] if found else ""
