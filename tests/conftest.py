"""What every test shares: which rights and tools it needs, said aloud when they are missing."""

import os
import shutil
import subprocess
import sys
from functools import cache

import pytest

IN_CI = os.environ.get("CI") == "true"

DEBIAN_PACKAGE = {
    "arping": "iputils-arping",
    "curl": "curl",
    "dnsmasq": "dnsmasq-base",
    "ethtool": "ethtool",
    "ip": "iproute2",
    "iperf3": "iperf3",
    "nft": "nftables",
    "ping": "iputils-ping",
    "libvirtd": "libvirt-daemon libvirt-daemon-driver-qemu",
    "qemu-system-x86_64": "qemu-system-x86",
    "virsh": "libvirt-clients",
    "tcpdump": "tcpdump",
    "udhcpc": "udhcpc",
    "unshare": "util-linux",
}

PROBE = """
import ctypes, os
CLONE_NEWNET = 0x40000000
libc = ctypes.CDLL(None, use_errno=True)
if libc.unshare(CLONE_NEWNET):
    raise SystemExit("no right to make network namespaces (CAP_SYS_ADMIN: be root, or unshare -Urn)")
try:
    os.close(os.open("/dev/net/tun", os.O_RDWR))
except OSError as error:
    raise SystemExit(f"/dev/net/tun: {error.strerror}")
"""


@cache
def _missing_right() -> str:
    """Return which right the namespace tests lack here, empty when none."""
    done = subprocess.run([sys.executable, "-c", PROBE], capture_output=True, text=True, check=False)
    return done.stderr.strip() if done.returncode else ""


def _skip(reason: str) -> None:
    """Skip; in CI nothing may be skipped for want of a right or a tool."""
    if IN_CI:
        pytest.fail(f"in CI this must run: {reason}", pytrace=False)
    pytest.skip(reason)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("namespaces") and (reason := _missing_right()):
        _skip(reason)
    for marker in item.iter_markers("tools"):
        for tool in marker.args:
            if shutil.which(tool) is None:
                _skip(f"{tool} is not installed (Debian: apt-get install {DEBIAN_PACKAGE[tool]})")


@pytest.fixture(autouse=True)
def own_run_dir(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the tests' control sockets away from the machine's."""
    monkeypatch.setenv("TAPBOND_RUN_DIR", str(tmp_path_factory.mktemp("run")))
