"""The text of /proc/net/bonding/NAME (bond_info_show_master() and _slave() of drivers/net/bonding/bond_procfs.c).

There are no queue ids here: always 0. The line of IPv6 targets is there since Linux 5.19, with that of ARP's.
"""

import ipaddress

from tapbond.model import MacPolicyName, Role
from tapbond.settings import MS
from tapbond.state import SlaveStatus, Status

MODE = "fault-tolerance (active-backup)"
NONE = "None"


def procfs(status: Status) -> str:
    """Return the whole text, which ends with a newline."""
    blocks = ["\n".join(_master(status)), *("\n".join(_slave(slave)) for slave in status.slaves)]
    return "\n\n".join(blocks) + "\n"


def primary(status: Status) -> str | None:
    """Return the slave that bonding would call the primary."""
    return next((slave.name for slave in status.slaves if slave.role is Role.PRIMARY), None)


def fail_over_mac(status: Status) -> str:
    """Return bonding's name of the MAC policy."""
    return "active" if status.rules.mac_policy is MacPolicyName.FOLLOW else "none"


def _master(status: Status) -> list[str]:
    rules, first, mac = status.rules, primary(status), fail_over_mac(status)
    return [
        f"Ethernet Channel Bonding Driver: v{status.version} (tapbond)",
        "",
        f"Bonding Mode: {MODE}" + ("" if mac == "none" else f" (fail_over_mac {mac})"),
        f"Primary Slave: {first} (primary_reselect {rules.reselect})" if first else f"Primary Slave: {NONE}",
        f"Currently Active Slave: {status.active or NONE}",
        f"MII Status: {'up' if status.carrier else 'down'}",
        f"MII Polling Interval (ms): {rules.poll_ns // MS}",
        f"Up Delay (ms): {rules.updelay_ns // MS}",
        f"Down Delay (ms): {rules.downdelay_ns // MS}",
        f"Peer Notification Delay (ms): {rules.announce_interval_ns // MS}",
        *(_probing(status) if rules.probing.targets else ()),
    ]


def _probing(status: Status) -> list[str]:
    probing = status.rules.probing
    targets = {4: list[str](), 6: list[str]()}
    for target in probing.targets:
        targets[ipaddress.ip_address(target).version].append(f" {target}")
    return [
        f"ARP Polling Interval (ms): {probing.interval_ns // MS}",
        f"ARP Missed Max: {probing.missed_max}",
        f"ARP IP target/s (n.n.n.n form):{','.join(targets[4])}",
        f"NS IPv6 target/s (xx::xx form):{','.join(targets[6])}",
    ]


def _slave(slave: SlaveStatus) -> list[str]:
    duplex = "full" if slave.full_duplex else "half"
    return [
        f"Slave Interface: {slave.name}",
        f"MII Status: {slave.mii_status}",
        f"Speed: {slave.speed} Mbps" if slave.speed else "Speed: Unknown",
        f"Duplex: {duplex if slave.speed else 'Unknown'}",
        f"Link Failure Count: {slave.link_failures}",
        f"Permanent HW addr: {slave.permanent_mac or slave.mac}",
        "Slave queue ID: 0",
    ]
