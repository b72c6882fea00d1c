"""A status in the formats that others read, to the letter."""

import json
import re
from pathlib import Path
from zoneinfo import ZoneInfo

import click
from statuses import LOST, PRIMARY, PROBED, STANDBY, slave, status, switchover

from tapbond.formats.brief import brief
from tapbond.formats.counters import counters, ethtool
from tapbond.formats.procfs import procfs
from tapbond.formats.records import line
from tapbond.formats.sysfs import tree
from tapbond.formats.table import describe
from tapbond.formats.teamd import state, teamd
from tapbond.model import (
    COUNTER_FIELDS,
    LINK_COUNTER_FIELDS,
    Detector,
    MacPolicyName,
    MiiStatus,
    Reselect,
    Role,
    SlaveFacts,
)
from tapbond.settings import MS
from tapbond.state import Rules, Status

HEALTHY = status(STANDBY, PRIMARY)
BROKEN = status(slave("eth0", Role.STANDBY, active=True), LOST, rules=PROBED)
ALONE = status()

PROCFS = """\
Ethernet Channel Bonding Driver: v1.2.3 (tapbond)

Bonding Mode: fault-tolerance (active-backup)
Primary Slave: eth1 (primary_reselect always)
Currently Active Slave: eth1
MII Status: up
MII Polling Interval (ms): 10
Up Delay (ms): 50
Down Delay (ms): 0
Peer Notification Delay (ms): 100

Slave Interface: eth0
MII Status: up
Speed: Unknown
Duplex: Unknown
Link Failure Count: 0
Permanent HW addr: 02:00:00:00:01:00
Slave queue ID: 0

Slave Interface: eth1
MII Status: up
Speed: 10000 Mbps
Duplex: full
Link Failure Count: 4
Permanent HW addr: 02:00:00:00:01:01
Slave queue ID: 0
"""

PROCFS_ALONE = """\
Ethernet Channel Bonding Driver: v1.2.3 (tapbond)

Bonding Mode: fault-tolerance (active-backup) (fail_over_mac active)
Primary Slave: None
Currently Active Slave: None
MII Status: down
MII Polling Interval (ms): 0
Up Delay (ms): 200
Down Delay (ms): 30
Peer Notification Delay (ms): 100
ARP Polling Interval (ms): 20
ARP Missed Max: 2
ARP IP target/s (n.n.n.n form): 192.0.2.1, 192.0.2.2
NS IPv6 target/s (xx::xx form): 2001:db8::1
"""


def test_procfs_to_the_letter() -> None:
    assert procfs(HEALTHY) == PROCFS


def test_procfs_of_a_failover_without_slaves_that_has_everything_set() -> None:
    rules = Rules(
        mac_policy=MacPolicyName.FOLLOW,
        poll_ns=0,
        updelay_ns=200 * MS,
        downdelay_ns=30 * MS,
        probing=PROBED.probing,
    )
    assert procfs(status(rules=rules)) == PROCFS_ALONE


def telegraf(text: str) -> dict[str, dict[str, object]]:
    """Read it as telegraf's bond plugin does (plugins/inputs/bond/bond.go): its measurements and fields."""
    master, _, slaves = text.strip().partition("Slave Interface:")
    found: dict[str, dict[str, object]] = {"bond": {}}
    for name, value in re.findall(r"^([^:\n]+):([^:\n]*)", master, re.MULTILINE):
        if "Currently Active Slave" in name:
            found["bond"]["active_slave"] = value.strip()
        if "MII Status" in name:
            found["bond"]["status"] = int(value.strip() == "up")
            break
    slave_fields: dict[str, object] = {}
    for name, value in re.findall(r"^([^:\n]+):([^:\n]*)", f"Slave Interface:{slaves}", re.MULTILINE):
        if "Slave Interface" in name:
            slave_fields = found.setdefault(value.strip(), {"status": 0})
        if "MII Status" in name and value.strip() == "up":
            slave_fields["status"] = 1
        if "Link Failure Count" in name:
            slave_fields["failures"] = int(value)
    return found


def test_telegraf_finds_its_fields() -> None:
    assert telegraf(procfs(HEALTHY)) == {
        "bond": {"active_slave": "eth1", "status": 1},
        "eth0": {"status": 1, "failures": 0},
        "eth1": {"status": 1, "failures": 4},
    }
    assert telegraf(procfs(BROKEN))["eth1"] == {"status": 0, "failures": 5}


TEAMD = """\
{
    "ports": {
        "eth1": {
            "ifinfo": {
                "dev_addr": "02:00:00:00:00:53",
                "dev_addr_len": 6,
                "ifindex": 3,
                "ifname": "eth1"
            },
            "link": {
                "duplex": "full",
                "speed": 10000,
                "up": true
            },
            "link_watches": {
                "list": {
                    "link_watch_0": {
                        "delay_down": 0,
                        "delay_up": 50,
                        "down_count": 4,
                        "name": "ethtool",
                        "up": true
                    }
                },
                "up": true
            }
        }
    },
    "runner": {
        "active_port": "eth1"
    },
    "setup": {
        "daemonized": false,
        "dbus_enabled": false,
        "debug_level": 0,
        "kernel_team_mode_name": "activebackup",
        "pid": 4711,
        "pid_file": "",
        "runner_name": "activebackup",
        "zmq_enabled": false
    },
    "team_device": {
        "ifinfo": {
            "dev_addr": "02:00:00:00:00:53",
            "dev_addr_len": 6,
            "ifindex": 9,
            "ifname": "tb0"
        }
    }
}"""

IFINFO = {"ifindex": int, "ifname": str, "dev_addr": str, "dev_addr_len": int}
PING = {"name": str, "up": bool, "down_count": int, "target_host": str, "interval": int, "init_wait": int}
PING |= {"missed_max": int, "missed": int}
DOCUMENTED: dict[str, object] = {
    "setup": {
        "runner_name": str,
        "kernel_team_mode_name": str,
        "dbus_enabled": bool,
        "zmq_enabled": bool,
        "debug_level": int,
        "daemonized": bool,
        "pid": int,
        "pid_file": str,
    },
    "team_device": {"ifinfo": IFINFO},
    "runner": {"active_port": str},
    "ports": {
        "eth1": {
            "ifinfo": IFINFO,
            "link": {"up": bool, "speed": int, "duplex": str},
            "link_watches": {
                "up": bool,
                "list": {
                    "link_watch_0": {
                        "name": str,
                        "up": bool,
                        "down_count": int,
                        "delay_up": int,
                        "delay_down": int,
                    },
                    "link_watch_1": {
                        **PING,
                        "source_host": str,
                        "validate_active": bool,
                        "validate_inactive": bool,
                        "send_always": bool,
                    },
                    "link_watch_2": PING,
                },
            },
        }
    },
}
"""libteam: the items of teamd_state.c, teamd_link_watch.c, teamd_lw_*.c and teamd_runner_activebackup.c."""


def shape(tree: object) -> object:
    return {name: shape(value) for name, value in tree.items()} if isinstance(tree, dict) else type(tree)


def test_teamd_to_the_letter() -> None:
    assert teamd(status(PRIMARY)) == TEAMD


def test_teamd_has_the_documented_tree_key_by_key() -> None:
    assert shape(json.loads(teamd(status(LOST, rules=PROBED)))) == DOCUMENTED


def test_teamd_of_a_lost_link_and_of_none() -> None:
    ports = state(BROKEN)["ports"]
    assert isinstance(ports, dict)
    assert ports["eth1"]["link_watches"]["up"] is False
    assert ports["eth1"]["link_watches"]["list"]["link_watch_1"]["name"] == "arp_ping"
    assert ports["eth1"]["link_watches"]["list"]["link_watch_2"]["name"] == "nsna_ping"
    assert "ports" not in state(ALONE)
    assert state(ALONE)["runner"] == {"active_port": ""}


def test_stats_as_ethtool_prints_them() -> None:
    lines = ethtool(HEALTHY).splitlines()
    assert lines[:3] == ["NIC statistics:", "     tx_frames: 110", "     tx_bytes: 0"]
    assert "     eth1_tx_dropped: 5" in lines
    assert all(re.fullmatch(r"     [\w.-]+: \d+", text) for text in lines[1:])
    assert len(counters(HEALTHY)) == 3 * len(COUNTER_FIELDS) + 1 + len(LINK_COUNTER_FIELDS) + 2


def test_brief() -> None:
    assert brief(HEALTHY) == "tb0              UP             eth1             <eth0=up,eth1=up>"
    assert brief(ALONE) == "tb0              LOWERLAYERDOWN none             <>"
    assert brief(status(slave("eth0", Role.STANDBY, mii_status=MiiStatus.GOING_BACK), up=False)) == (
        "tb0              DOWN           none             <eth0=going-back>"
    )


def test_events_line() -> None:
    record = switchover(7, first_tx_ns=1_003_000_000, resent=2)
    assert line(record, 1_763_000_000 * 10**9, ZoneInfo("UTC")) == (
        "2025-11-13 02:13:21.000 #7 eth1 -> eth0: carrier lost (seen by netlink); decided +0.20 ms,"
        " first sent +3.00 ms, first received -; re-sent 2, dropped 0, duplicates 0"
    )
    first = switchover(from_slave=None, cause="first slave ready", detector=Detector.CONTROL)
    assert "#1 none -> eth0: first slave ready (seen by control);" in line(first, 0)


TABLE = """\
9: tb0: <UP,LOWER_UP> mtu 1500 state UP
    link/ether 02:00:00:00:00:53
    tapbond mode active-backup active_slave eth1 primary eth1 primary_reselect always
    miimon 10 updelay 50 downdelay 0 num_grat_arp 3 peer_notif_delay 100 fail_over_mac none
    rx active, isolation bridge, datapath copy
    switchovers 2, up 12 s, pid 4711
    SLAVE  ROLE     STATE   MII_STATUS  FAILURES  PERM_HWADDR        TX FRAMES  RX FRAMES  RE-SENT  DROPPED
    eth0   standby  ready   up                 0  02:00:00:00:01:00          3          0        2        0
    eth1   primary  active  up                 4  02:00:00:00:01:01        100         90        0        5
    total                                                                  110          0        0        7
    links: tx 0 frames 0 bytes, rx 0 frames 0 bytes, errors 0, dropped 0
"""


def test_table_to_the_letter() -> None:
    assert "\n".join(describe(HEALTHY)) + "\n" == TABLE


def test_colours_change_nothing_else() -> None:
    for one in (HEALTHY, BROKEN, ALONE):
        painted = describe(one, click.style)
        assert [click.unstyle(text) for text in painted] == describe(one)
        assert painted != describe(one)


def test_table_of_what_is_wrong() -> None:
    text = "\n".join(describe(BROKEN))
    assert "no carrier  down" in text
    assert "probe 192.0.2.1 over eth1: no answer, missed 3\n" in text
    assert "probe 2001:db8::1 over eth1: answered, missed 0, rtt 0.25 ms\n" in text
    assert "arp_interval 20 arp_missed_max 2 arp_all_targets any targets 192.0.2.1,2001:db8::1,192.0.2.2" in text


NODE_EXPORTER = {"up": 1, "down": 0, "going back": 0, "going down": 0}


def node_exporter(root: Path) -> dict[str, tuple[int, int]]:
    """Read a tree as collector/bonding_linux.go does: slaves, and how many of them are up, of each master."""
    net = root / "sys/class/net"
    found = {}
    for master in (net / "bonding_masters").read_text().split():
        names = (net / master / "bonding/slaves").read_text().split()
        states = [(net / master / f"lower_{name}/bonding_slave/mii_status").read_text().strip() for name in names]
        found[master] = (len(names), sum(NODE_EXPORTER[text] for text in states))
    return found


def test_tree_is_read_by_node_exporter_s_rules(tmp_path: Path) -> None:
    for path, text in tree(BROKEN).items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    assert node_exporter(tmp_path) == {"tb0": (2, 1)}


def test_tree_has_bonding_s_words() -> None:
    rules = Rules(reselect=Reselect.FAILURE, probing=PROBED.probing, mac_policy=MacPolicyName.FOLLOW)
    files = tree(status(STANDBY, LOST, rules=rules))
    bonding = {path.rpartition("/")[2]: text for path, text in files.items() if "tb0/bonding/" in path}
    assert bonding["active_slave"] == "\n"
    assert bonding["mode"] == "active-backup 1\n"
    assert bonding["primary"] == "eth1\n"
    assert bonding["primary_reselect"] == "failure 2\n"
    assert bonding["fail_over_mac"] == "active 1\n"
    assert bonding["slaves"] == "eth0 eth1\n"
    assert bonding["mii_status"] == "down\n"
    assert bonding["arp_ip_target"] == "192.0.2.1 192.0.2.2\n"
    assert bonding["ns_ip6_target"] == "2001:db8::1\n"
    assert files["proc/net/bonding/tb0"] == procfs(status(STANDBY, LOST, rules=rules))
    assert files["sys/class/net/tb0/lower_eth1/bonding_slave/link_failure_count"] == "5\n"


def mii(now_ns: int = 10, *, active: bool = False, **changes: object) -> str:
    facts = {"port": 0, "role": Role.PRIMARY, "up": True, "carrier": True} | changes
    return SlaveFacts(**facts).mii_status(active, now_ns)  # type: ignore[arg-type]


def test_mii_status_in_bonding_s_words() -> None:
    assert mii() == "up"
    assert mii(carrier=False) == "down"
    assert mii(up=False) == "down"
    assert mii(answered=False) == "down"
    assert mii(held_until_ns=11) == "down"
    assert mii(carrier=False, tolerated_until_ns=11) == "going down"
    assert mii(settled_ns=11) == "going back"
    assert mii(settled_ns=11, active=True) == "up"
    assert mii(settled_ns=10) == "up"


def test_a_status_of_an_older_process_can_still_be_read() -> None:
    import msgspec  # noqa: PLC0415

    new = msgspec.to_builtins(HEALTHY)
    del new["rules"], new["version"]
    for one in new["slaves"]:
        del one["mii_status"], one["permanent_mac"], one["reason"]
    assert msgspec.convert(new, Status).rules == Rules()
