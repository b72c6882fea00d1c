"""Statuses of failovers as the tests of formats and metrics want them."""

from typing import Any

from tapbond.model import Counters, DataPathName, Detector, MiiStatus, ReceiveMode, Role, Switchover
from tapbond.settings import MS, Probing
from tapbond.state import ProbeStatus, Rules, SlaveStatus, Status

PROBED = Rules(probing=Probing(targets=("192.0.2.1", "2001:db8::1", "192.0.2.2"), interval_ns=20 * MS))


def slave(name: str, role: Role, **changes: Any) -> SlaveStatus:
    fields: dict[str, Any] = {
        "name": name,
        "role": role,
        "ifindex": 2 if name == "eth0" else 3,
        "mac": "02:00:00:00:00:53",
        "permanent_mac": f"02:00:00:00:01:0{name[-1]}",
        "mtu": 1500,
        "up": True,
        "carrier": True,
        "ready": True,
        "active": False,
        "isolation": "bridge",
        "counters": Counters(),
    }
    return SlaveStatus(**(fields | changes))


STANDBY = slave("eth0", Role.STANDBY, counters=Counters(tx_frames=3, tx_bytes=300, tx_resent=2))
PRIMARY = slave(
    "eth1",
    Role.PRIMARY,
    active=True,
    speed=10000,
    full_duplex=True,
    link_failures=4,
    counters=Counters(tx_frames=100, tx_bytes=9000, rx_frames=90, rx_bytes=8000, rx_duplicate=1, tx_dropped=5),
)
LOST = slave(
    "eth1",
    Role.PRIMARY,
    carrier=False,
    ready=False,
    link_failures=5,
    mii_status=MiiStatus.DOWN,
    reason="carrier lost",
    probes=(
        ProbeStatus(target="192.0.2.1", answered=False, missed=3),
        ProbeStatus(target="2001:db8::1", answered=True, missed=0, rtt_ns=250_000),
    ),
)


def status(*slaves: SlaveStatus, **changes: Any) -> Status:
    fields: dict[str, Any] = {
        "name": "tb0",
        "interface": "tb0",
        "ifindex": 9,
        "mac": "02:00:00:00:00:53",
        "mtu": 1500,
        "up": True,
        "carrier": any(one.active for one in slaves),
        "active": next((one.name for one in slaves if one.active), None),
        "requested": None,
        "rx": ReceiveMode.ACTIVE,
        "isolation": "bridge",
        "datapath": DataPathName.COPY,
        "slaves": slaves,
        "counters": Counters(tx_frames=110, tx_dropped=7),
        "switchovers": 2,
        "last_switchovers": (),
        "pid": 4711,
        "uptime_s": 12.5,
        "version": "1.2.3",
    }
    return Status(**(fields | changes))


def switchover(serial: int = 1, **changes: Any) -> Switchover:
    fields: dict[str, Any] = {
        "failover": "tb0",
        "serial": serial,
        "from_slave": "eth1",
        "to_slave": "eth0",
        "cause": "carrier lost",
        "detector": Detector.NETLINK,
        "detected_ns": 1_000_000_000,
        "decided_ns": 1_000_200_000,
    }
    return Switchover(**(fields | changes))
