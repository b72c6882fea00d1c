"""What is set on the master: MTU, MAC, names, groups, VLANs, and what its counters show."""

import struct

from observe import raw as raw_socket
from rig import FAR_MAC, MAC, Rig, raw
from scenario import said, scenario
from trial import Trial

ROLES = ("standby", "primary")
GROUP = "01:00:5e:01:02:03"
VLAN = 5
VLAN_GUEST, VLAN_FAR = "10.54.0.1", "10.54.0.2"
ANOTHER_MAC = "02:00:00:00:00:54"
ABOVE_E1000E = "12000"
ABOVE_E1000E_BELOW_VIRTIO = "9400"
TAP_TAKES = (
    "A TAP takes what it is told, and who tells it sees no error: tapbond finds that a slave cannot have it,"
    " and puts all of them back."
)
TAP_TAKES_MAC = "A TAP takes what it is told; tapbond puts its MAC back, since its slaves need it. "


def _mtus(trial: Trial) -> list[int]:
    names = [trial.master, *(trial.rig.name(role) for role in ROLES)]
    by_name = {link["ifname"]: link["mtu"] for link in trial.rig.links()}
    return [by_name[name] for name in names]


def _mtu(trial: Trial, mtu: str) -> bool:
    return trial.refused("link", "set", trial.master, "mtu", mtu)


@scenario("MTU of the master raised to 4000 and lowered")
def mtu_raised(trial: Trial) -> str:
    assert not _mtu(trial, "4000")
    trial.eventually(lambda: set(_mtus(trial)) == {4000})
    raised = "all three follow" if set(_mtus(trial)) == {4000} else f"{_mtus(trial)}"
    way = trial.way("primary")
    _mtu(trial, "1500")
    trial.eventually(lambda: set(_mtus(trial)) == {1500})
    return said(raised, way, "lowered: all three follow" if set(_mtus(trial)) == {1500} else f"{_mtus(trial)}")


@scenario(
    "MTU of the master raised above the primary's greatest",
    net_failover=TAP_TAKES,
    bonding=TAP_TAKES,
)
def mtu_refused(trial: Trial) -> str:
    refused = _mtu(trial, ABOVE_E1000E)
    trial.eventually(lambda: set(_mtus(trial)) == {1500})
    mtus = _mtus(trial)
    _mtu(trial, "1500")
    kept = "all three keep theirs" if set(mtus) == {1500} else f"master {mtus[0]}, slaves {mtus[1:]}"
    return said("refused" if refused else "taken", kept, trial.way("primary"))


@scenario(
    "a primary is plugged whose greatest MTU is below the master's",
    bonding="Bonding too refuses it, with an error to the script that enslaves it, which must try again.",
)
def mtu_too_small(trial: Trial) -> str:
    trial.rig.unplug("primary")
    refused = _mtu(trial, ABOVE_E1000E_BELOW_VIRTIO)
    trial.rig.plug("primary")
    joins = trial.joins_or_not("primary")
    way = trial.way(timeout=3.0)
    _mtu(trial, "1500")
    trial.rig.unplug("primary")
    trial.rig.plug("primary")
    again = trial.joins("primary")
    assert not refused
    return said(joins, way, f"master at 1500, plugged again: {again}", trial.way("primary"))


@scenario(
    "MAC of the master changed",
    net_failover=TAP_TAKES_MAC + "The driver refuses.",
    bonding=TAP_TAKES_MAC + "Bonding gives its slaves the new one; `--mac-policy set` has tapbond do so.",
)
def mac_changed(trial: Trial) -> str:
    refused = trial.refused("link", "set", trial.master, "address", ANOTHER_MAC)

    def macs() -> set[str]:
        names = (trial.master, *(trial.rig.name(role) for role in ROLES))
        return {link["address"] for link in trial.rig.links() if link["ifname"] in names}

    trial.eventually(lambda: macs() == {MAC}, timeout=3.0)
    found = macs()
    trial.refused("link", "set", trial.master, "address", MAC)
    kept = {MAC: "all three keep theirs", ANOTHER_MAC: "all three follow"}
    after = kept[found.pop()] if len(found) == 1 else "they differ"
    return said("refused" if refused else "taken", after, trial.way("primary"))


@scenario(
    "a slave renamed while it is up",
    net_failover="Before Linux 6.2 nothing that is up may be renamed, but the driver's slaves may.",
)
def slave_renamed(trial: Trial) -> str:
    name = trial.rig.name("primary")
    refused = trial.refused("link", "set", name, "name", "other0")
    way = trial.way("primary")
    trial.refused("link", "set", "other0", "name", name)
    return said("refused" if refused else "taken", way)


@scenario("the master renamed while it is up")
def master_renamed(trial: Trial) -> str:
    name = trial.master
    refused = trial.refused("link", "set", name, "name", "other0")
    trial.refused("link", "set", "other0", "name", name)
    return said("refused" if refused else "taken", trial.way("primary"))


def _groups(rig: Rig, role: str) -> bool:
    shown = rig.ip("maddr", "show", "dev", rig.name(role))
    return GROUP in shown


@scenario(
    "a multicast group joined on the master, then the primary plugged anew",
    bonding="Bonding joins groups on the active slave only, and moves them with it.",
)
def multicast(trial: Trial) -> str:
    trial.rig.ip("maddr", "add", GROUP, "dev", trial.master)
    trial.eventually(lambda: all(_groups(trial.rig, role) for role in ROLES))
    reached = [role for role in ROLES if _groups(trial.rig, role)]
    trial.rig.unplug("primary")
    trial.rig.plug("primary")
    trial.joins("primary")
    trial.eventually(lambda: _groups(trial.rig, "primary"))
    anew = _groups(trial.rig, "primary")
    trial.rig.ip("maddr", "del", GROUP, "dev", trial.master)
    trial.eventually(lambda: not any(_groups(trial.rig, role) for role in ROLES))
    left = [role for role in ROLES if _groups(trial.rig, role)]
    return said(
        f"reaches {' and '.join(reached) or 'no slave'}",
        f"the new primary {'too' if anew else 'not'}",
        f"left: {'still on ' + ', '.join(left) if left else 'gone'}",
    )


@scenario(
    "promiscuous and allmulti set on the master",
    net_failover="The driver passes on addresses, not these flags: a bridge over it hears too little.",
    bonding="Bonding sets them on the active slave only, and moves them with it.",
)
def promiscuous(trial: Trial) -> str:
    trial.rig.ip("link", "set", trial.master, "promisc", "on", "allmulticast", "on")

    def have(flag: str) -> list[str]:
        return [role for role in ROLES if (trial.rig.nic(role) or {}).get(flag, 0) > trial.quiet[role][flag]]

    trial.eventually(lambda: len(have("promiscuity")) == len(ROLES) == len(have("allmulti")), timeout=3.0)
    promiscuity, allmulti = have("promiscuity"), have("allmulti")
    trial.rig.ip("link", "set", trial.master, "promisc", "off", "allmulticast", "off")
    trial.eventually(lambda: not have("promiscuity"), timeout=3.0)
    return said(
        f"promisc reaches {' and '.join(promiscuity) or 'no slave'}",
        f"allmulti {' and '.join(allmulti) or 'no slave'}",
    )


def _tagged_arp(opcode: int, sender: tuple[str, bytes], target: tuple[str, bytes]) -> bytes:
    (sender_mac, sender_ip), (target_mac, target_ip) = sender, target
    head = raw(target_mac) + raw(sender_mac) + struct.pack("!HHH", 0x8100, VLAN, 0x0806)
    body = struct.pack("!HHBBH", 1, 0x0800, 6, 4, opcode)
    return (head + body + raw(sender_mac) + sender_ip + raw(target_mac) + target_ip).ljust(64, b"\0")


def _vlan_works(trial: Trial, role: str) -> bool:
    """Let the guest ask for a neighbour in the VLAN, and answer it from the far host."""
    rig = trial.rig
    mark = rig.mark()
    rig.ip("neigh", "flush", "dev", "vlan5")
    rig.guest.run("sh", "-c", f"ping -c 1 -W 1 {VLAN_FAR} || true")
    asked = rig.seen(role, mark, lambda frame: frame[12:18] == struct.pack("!HHH", 0x8100, VLAN, 0x0806))
    with raw_socket(rig.network.far, "eth0") as sock:
        far, guest = bytes([10, 54, 0, 2]), bytes([10, 54, 0, 1])
        mark = rig.mark()
        sock.send(bytes(10) + _tagged_arp(1, (FAR_MAC, far), ("ff:ff:ff:ff:ff:ff", guest)))
    reply = _tagged_arp(2, (MAC, b""), (FAR_MAC, b""))[:18]
    return asked and trial.eventually(lambda: rig.seen(role, mark, lambda frame: frame[:18] == reply), timeout=3.0)


@scenario("a VLAN over the master, then the primary's link off", net_failover="As without a VLAN: the black hole.")
def vlan(trial: Trial) -> str:
    rig, master = trial.rig, trial.master
    rig.ip("link", "add", "link", master, "name", "vlan5", "type", "vlan", "id", str(VLAN))
    try:
        rig.ip("addr", "add", f"{VLAN_GUEST}/24", "dev", "vlan5")
        rig.ip("link", "set", "vlan5", "up")
        before = trial.eventually(lambda: _vlan_works(trial, "primary"))
        rig.link("primary", on=False)
        trial.way("standby", timeout=2.0)
        after = trial.eventually(lambda: _vlan_works(trial, "standby"))
    finally:
        rig.ip("link", "del", "vlan5")
    return said(
        f"asks and answers by the primary: {'yes' if before else 'no'}",
        f"link off, by the standby: {'yes' if after else 'no'}",
    )


@scenario(
    "the slaves' own IPv6 stack",
    net_failover="The driver lets the slaves' own stack make addresses and speak in its MAC.",
)
def own_stack(trial: Trial) -> str:
    with_address = [
        role for role in ROLES if trial.rig.ip("-6", "-o", "addr", "show", "dev", trial.rig.name(role)).strip()
    ]
    return f"an address of its own has: {' and '.join(with_address) or 'none'}"


def _received(trial: Trial) -> int:
    link = trial.rig.find(trial.master)
    assert link
    return int(link["stats64"]["rx"]["packets"])


@scenario(
    "the master's counter of received packets, over both links off and an unplug",
    net_failover="Its accumulator is folded twice and cleared on two paths: what is read may be less than before.",
)
def counters(trial: Trial) -> str:
    trial.event("-", lambda: None)
    seen = [_received(trial)]
    for role in ("primary", "standby"):
        trial.rig.link(role, on=False)
    trial.carrier(on=False)
    seen.append(_received(trial))
    for role in ("primary", "standby"):
        trial.rig.link(role, on=True)
    trial.way("primary")
    seen.append(_received(trial))
    trial.rig.unplug("primary")
    trial.way("standby", timeout=2.0)
    seen.append(_received(trial))
    trial.rig.plug("primary")
    trial.joins("primary")
    trial.figures.pop("-")
    return "only grows" if seen == sorted(seen) else "**goes backwards**"


@scenario("sending while no slave is ready")
def none_ready(trial: Trial) -> str:
    for role in ("primary", "standby"):
        trial.rig.link(role, on=False)
    trial.carrier(on=False)
    # Until linkwatch has seen it, up to a second later, one without a queue says ENETDOWN (__dev_queue_xmit()).
    trial.eventually(lambda: (trial.rig.find(trial.master) or {}).get("operstate") == "DOWN")
    paths = trial.rig.try_paths(trial.master)
    return said(f"the sender gets {paths.errors or 'no error'}", f"sends by {paths.tx}")


@scenario(
    "the master taken away: is the primary as it was found?",
    net_failover="The driver does not put a slave's MTU back.",
)
def given_back(trial: Trial) -> str:
    trial.rig.ip("link", "set", trial.master, "mtu", "4000")
    trial.eventually(lambda: set(_mtus(trial)) == {4000})
    trial.subject.destroy(trial.rig)
    trial.rig.current = None
    link = trial.rig.nic("primary")
    assert link
    return said(
        "still a slave" if link.get("master") else "free",
        "MTU as before" if link["mtu"] == 1500 else f"MTU left at {link['mtu']}",
        "up" if "UP" in link["flags"] else "down, as before",
    )
