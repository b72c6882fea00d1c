"""Who becomes a slave, when, and in what order."""

from failing import BY_NAME
from rig import OTHER_MAC
from scenario import said, scenario
from trial import Trial


def _masters(trial: Trial) -> str:
    slaves = [role for role in ("standby", "primary") if trial.is_slave(role)]
    return f"slaves: {', '.join(slaves) or 'none'}"


@scenario("both NICs there at the start")
def both_at_start(trial: Trial) -> str:
    return said(_masters(trial), trial.carrier(on=True), trial.way("primary"))


@scenario("standby first, then the primary is plugged", bonding=BY_NAME)
def standby_first(trial: Trial) -> str:
    trial.rig.unplug("primary")
    alone = trial.way("standby")
    trial.rig.plug("primary")
    joins = trial.joins("primary")
    return said(f"alone: {alone}", f"then: {joins}", trial.way("primary"))


@scenario(
    "the standby is unplugged and plugged again",
    net_failover="The driver lives inside virtio-net's: no standby, no master, and its addresses are lost.",
    bonding=BY_NAME,
)
def primary_first(trial: Trial) -> str:
    trial.rig.unplug("standby")
    alone = trial.way("primary")
    trial.rig.plug("standby", **trial.subject.standby)
    joins = trial.joins("standby")
    trial.rig.ip("link", "set", trial.master, "up")
    both = trial.way("primary")
    trial.rig.link("primary", on=False)
    return said(f"without: {alone}", f"then: {joins}", both, f"primary's link off: {trial.way('standby')}")


@scenario("a NIC with another MAC is plugged")
def another_mac(trial: Trial) -> str:
    trial.rig.plug("third", OTHER_MAC)
    before = trial.way("primary")
    taken = trial.is_slave("third")
    trial.rig.unplug("third")
    return said("taken" if taken else "left alone", before)


@scenario("a second primary with the same MAC is plugged, then the first is unplugged")
def second_primary(trial: Trial) -> str:
    trial.rig.plug("third")
    before = trial.way("primary")
    taken = trial.is_slave("third")
    trial.rig.unplug("primary")
    after = trial.way("third", timeout=2.0)
    trial.rig.unplug("third")
    trial.rig.plug("primary")
    trial.joins("primary")
    return said("taken" if taken else "refused, left free", before, f"first gone: {after}")
