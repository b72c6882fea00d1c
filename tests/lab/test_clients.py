"""Programs that are nobody's here work over tb0: ping, iperf3, curl, arping, a DHCP client."""

import hashlib
import json
import sys
from pathlib import Path

import pytest
from observe import Start, serving

from tapbond.lab import FAR_V4, FAR_V6, HOST_V4, HOST_V6, Lab, wait_until

pytestmark = [pytest.mark.namespaces, pytest.mark.timeout(120)]


def iperf(lab: Lab, *options: str) -> dict[str, float]:
    """Run iperf3 from the host to the far end for a second."""
    with serving(lab.far, ["iperf3", "-s", "-1"], ":5201"):
        report = json.loads(lab.host.check_output(["iperf3", "-J", "-t1", "-c", str(FAR_V4), *options]))
    found: dict[str, float] = report["end"].get("sum_received") or report["end"]["sum"]
    return found


@pytest.mark.tools("ping")
@pytest.mark.parametrize("size", ["56", "20000"])
def test_ping(lab: Lab, start: Start, size: str) -> None:
    start(lab)
    for address in (FAR_V4, FAR_V6):
        text = lab.host.check_output(["ping", "-c10", "-i0.02", "-s", size, str(address)])
        assert "10 packets transmitted, 10 received, 0% packet loss" in text
        assert "DUP" not in text
    assert "0% packet loss" in lab.far.check_output(["ping", "-c3", "-i0.02", str(HOST_V6)])


@pytest.mark.tools("iperf3", "ip")
@pytest.mark.parametrize("mtu", [1500, 9000])
@pytest.mark.parametrize("options", [(), ("-R",), ("-P4",), ("-u", "-b20M"), ("-u", "-b20M", "-R")])
def test_iperf3(start: Start, mtu: int, options: tuple[str, ...]) -> None:
    with Lab(mtu=mtu) as lab:
        process = start(lab)
        assert process.status().mtu == mtu
        found = iperf(lab, *options)
        assert found["bytes"] > 1_000_000
        if "-u" in options:
            assert found["lost_packets"] == 0
        process.stop()


@pytest.mark.tools("curl")
def test_curl_of_a_large_file(lab: Lab, start: Start, tmp_path: Path) -> None:
    start(lab)
    folder = tmp_path / "served"
    folder.mkdir()
    data = bytes(range(251)) * 400_000  # 100 MB
    (folder / "file").write_bytes(data)
    server = [sys.executable, "-m", "http.server", "--bind", str(FAR_V4), "--directory", str(folder), "8000"]
    with serving(lab.far, server, ":8000"):
        lab.host.check_output(["curl", "-sSf", "-o", str(tmp_path / "got"), f"http://{FAR_V4}:8000/file"])
    assert hashlib.sha256((tmp_path / "got").read_bytes()).digest() == hashlib.sha256(data).digest()


@pytest.mark.tools("arping")
def test_arping_from_the_far_side(lab: Lab, start: Start) -> None:
    start(lab)
    text = lab.far.check_output(["arping", "-c2", "-I", "eth0", str(HOST_V4)])
    assert "Received 2 response(s)" in text


LEASE_SCRIPT = """#!/bin/sh
[ "$1" = bound ] && ip addr add "$ip/24" dev "$interface"
exit 0
"""


@pytest.mark.tools("dnsmasq", "udhcpc", "ip", "ping")
def test_a_dhcp_client_gets_one_lease_on_the_failover(lab: Lab, start: Start, tmp_path: Path) -> None:
    process = start(lab, wait=True)
    lab.host.check_output(["ip", "addr", "flush", "dev", "tb0"])
    leases, script = tmp_path / "leases", tmp_path / "script"
    script.write_text(LEASE_SCRIPT)
    script.chmod(0o755)
    server = ["dnsmasq", "--no-daemon", "--conf-file=/dev/null", "--port=0", "--interface=eth0", "--user=root"]
    server += ["--bind-interfaces", "--dhcp-range=10.53.0.100,10.53.0.110,1h", f"--dhcp-leasefile={leases}"]
    with serving(lab.far, server, ":67"):
        lab.host.check_output(["udhcpc", "-i", "tb0", "-n", "-q", "-t5", "-T1", "-s", str(script)])
        lab.down("eth1")
        wait_until(lambda: process.status().active == "eth0", what="the switchover")
        lab.host.check_output(["udhcpc", "-i", "tb0", "-n", "-q", "-t5", "-T1", "-s", "/bin/true"])
    assert len(leases.read_text().splitlines()) == 1
    assert "10.53.0.1" in lab.host.check_output(["ip", "-4", "addr", "show", "tb0"])
    lab.host.check_output(["ping", "-c1", str(FAR_V4)])
