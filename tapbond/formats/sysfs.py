"""The files of /sys/class/net/NAME that bonding has, and node_exporter, telegraf and scripts read.

As in bonding_show_*() of drivers/net/bonding/bond_sysfs.c and bond_sysfs_slave.c: one fact a file, which ends with
a newline. The tree stands for the root of a machine, so that a tool needs no more than its path of /proc or /sys.
"""

from tapbond.formats.procfs import fail_over_mac, primary, procfs
from tapbond.model import Reselect
from tapbond.settings import MS
from tapbond.state import SlaveStatus, Status

RESELECT = {Reselect.ALWAYS: 0, Reselect.BETTER: 1, Reselect.FAILURE: 2}
ARP_ALL_TARGETS = ("any 0", "all 1")


def tree(status: Status) -> dict[str, str]:
    """Return the text of each file by its path below the root."""
    name = status.interface or status.name
    net = "sys/class/net"
    files = {f"proc/net/bonding/{name}": procfs(status), f"{net}/bonding_masters": f"{name}\n"}
    facts = {f"{name}/bonding/{fact}": value for fact, value in _master(status).items()}
    facts |= {f"{name}/address": status.mac, f"{name}/carrier": str(int(status.carrier))}
    for slave in status.slaves:
        below = f"{name}/lower_{slave.name}/bonding_slave"
        facts |= {f"{below}/{fact}": value for fact, value in _slave(slave).items()}
    return files | {f"{net}/{path}": f"{value}\n" for path, value in facts.items()}


def _master(status: Status) -> dict[str, str]:
    rules = status.rules
    return {
        "active_slave": status.active or "",
        "arp_all_targets": ARP_ALL_TARGETS[rules.probing.all_targets],
        "arp_interval": str(rules.probing.interval_ns // MS if rules.probing.targets else 0),
        "arp_ip_target": " ".join(target for target in rules.probing.targets if ":" not in target),
        "arp_missed_max": str(rules.probing.missed_max),
        "downdelay": str(rules.downdelay_ns // MS),
        "fail_over_mac": f"{fail_over_mac(status)} {int(fail_over_mac(status) == 'active')}",
        "mii_status": "up" if status.carrier else "down",
        "miimon": str(rules.poll_ns // MS),
        "mode": "active-backup 1",
        "ns_ip6_target": " ".join(target for target in rules.probing.targets if ":" in target),
        "num_grat_arp": str(rules.announce_count),
        "num_unsol_na": str(rules.announce_count),
        "peer_notif_delay": str(rules.announce_interval_ns // MS),
        "primary": primary(status) or "",
        "primary_reselect": f"{rules.reselect} {RESELECT[rules.reselect]}",
        "slaves": " ".join(slave.name for slave in status.slaves),
        "updelay": str(rules.updelay_ns // MS),
    }


def _slave(slave: SlaveStatus) -> dict[str, str]:
    return {
        "link_failure_count": str(slave.link_failures),
        "mii_status": str(slave.mii_status),
        "perm_hwaddr": slave.permanent_mac or slave.mac,
        "prio": str(slave.prio),
        "queue_id": "0",
        "state": "active" if slave.active else "backup",
    }
