"""Root of an unprivileged user namespace, with CAP_NET_ADMIN and CAP_NET_RAW alone, on a read-only /proc/sys."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tapbond.lab import Lab

pytestmark = [pytest.mark.namespaces, pytest.mark.tools("unshare", "ip", "ping")]

READ_ONLY = 'set -e; mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys; exec "$@"'


def test_only_two_capabilities_are_needed(lab: Lab, tmp_path: Path) -> None:
    """The process itself runs with net_admin and net_raw alone."""
    read, write = os.pipe()
    command = ["setpriv", "--bounding-set=-all,+net_admin,+net_raw", "--inh-caps=-all", "--no-new-privs"]
    command += [sys.executable, "-m", "tapbond", "run", "tb0", "--standby", "eth0", "--primary", "eth1"]
    process = lab.host.spawn([*command, "--run-dir", str(tmp_path), "--ready-fd", str(write)], pass_fds=[write])
    os.close(write)
    try:
        assert os.read(read, 16) == b"1\n"
        effective = Path(f"/proc/{process.pid}/status").read_text().split("CapEff:")[1].split()[0]
        assert int(effective, 16) == (1 << 12) | (1 << 13)
        lab.address_failover("tb0")
        lab.host.check_output(["ping", "-c1", "10.53.0.2"])
    finally:
        os.close(read)
        process.terminate()
        assert process.wait(10) == 0


@pytest.mark.timeout(150)
def test_the_demo_as_root_of_a_user_namespace(tmp_path: Path) -> None:
    report = tmp_path / "demo.json"
    outer = ["unshare", "--user", "--map-root-user", "--net", "--mount", "sh", "-c", READ_ONLY, "sh"]
    demo = [sys.executable, "-m", "tapbond", "demo", "--json", str(report)]
    done = subprocess.run([*outer, *demo], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert json.loads(report.read_text())
