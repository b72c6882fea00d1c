"""The JSON of ``teamdctl NAME state dump`` (libteam: teamd_state.c, teamd_link_watch.c, teamd_runner_*.c).

The tree of a team with the runner activebackup: the link watcher ``ethtool`` of each port, and an ``arp_ping`` or
``nsna_ping`` for each probed target. Losses are counted a port, not a watcher: a ping's ``down_count`` is 0.
Printed as teamd does: four spaces, keys sorted, ASCII.
"""

import ipaddress
import json

from tapbond.model import MiiStatus
from tapbond.settings import MS, Probing
from tapbond.state import ProbeStatus, SlaveStatus, Status

RUNNER = "activebackup"
ETH_ALEN = 6

Tree = dict[str, object]


def teamd(status: Status) -> str:
    """Return the text, without a newline at its end, as jansson prints it."""
    return json.dumps(state(status), indent=4, sort_keys=True, ensure_ascii=True)


def state(status: Status) -> Tree:
    """Return the tree. A team without ports has no ``ports``."""
    ports = {slave.name: _port(slave, status) for slave in status.slaves}
    return {
        "setup": {
            "runner_name": RUNNER,
            "kernel_team_mode_name": RUNNER,
            "dbus_enabled": False,
            "zmq_enabled": False,
            "debug_level": 0,
            "daemonized": False,
            "pid": status.pid,
            "pid_file": "",
        },
        "team_device": {"ifinfo": _ifinfo(status.ifindex, status.interface or status.name, status.mac)},
        "runner": {"active_port": status.active or ""},
        **({"ports": ports} if ports else {}),
    }


def _ifinfo(ifindex: int, name: str, mac: str) -> Tree:
    return {"ifindex": ifindex, "ifname": name, "dev_addr": mac, "dev_addr_len": ETH_ALEN}


def _port(slave: SlaveStatus, status: Status) -> Tree:
    link_up = slave.up and slave.carrier
    rules = status.rules
    ethtool = {
        "name": "ethtool",
        "up": link_up,
        "down_count": slave.link_failures,
        "delay_up": rules.updelay_ns // MS,
        "delay_down": rules.downdelay_ns // MS,
    }
    watches = [ethtool, *(_ping(probe, rules.probing) for probe in slave.probes)]
    return {
        "ifinfo": _ifinfo(slave.ifindex, slave.name, slave.mac),
        "link": {"up": link_up, "speed": slave.speed, "duplex": "full" if slave.full_duplex else "half"},
        "link_watches": {
            "up": slave.mii_status is not MiiStatus.DOWN,
            "list": {f"link_watch_{number}": watch for number, watch in enumerate(watches)},
        },
    }


def _ping(probe: ProbeStatus, probing: Probing) -> Tree:
    common: Tree = {
        "up": probe.answered,
        "down_count": 0,
        "target_host": probe.target,
        "interval": probing.interval_ns // MS,
        "init_wait": 0,
        "missed_max": probing.missed_max,
        "missed": probe.missed,
    }
    if ipaddress.ip_address(probe.target).version == 6:  # noqa: PLR2004  (IPv6)
        return {"name": "nsna_ping", **common}
    return {
        "name": "arp_ping",
        **common,
        "source_host": "0.0.0.0",  # noqa: S104  (the sender of tapbond.probe.arp, nothing listens there)
        "validate_active": True,
        "validate_inactive": True,
        "send_always": True,
    }
