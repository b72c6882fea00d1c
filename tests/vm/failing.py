"""Links that fail and come back: carrier, administratively, unplugged."""

from scenario import said, scenario
from trial import Trial

BLACK_HOLE = (
    "The driver refuses the standby's frames while a primary is registered, whatever its link: the black hole."
    " tapbond receives from the slave that sends (`--rx kernel` reproduces the driver)."
)
BY_NAME = "Bonding knows no NIC that nobody names to it."
SILENT = "The driver announces nothing: the switch finds the guest again when it next sends."


@scenario("primary's link off", net_failover=BLACK_HOLE + " " + SILENT)
def primary_link_off(trial: Trial) -> str:
    mark = trial.rig.mark()
    trial.event("primary's link off", lambda: trial.rig.link("primary", on=False))
    announced = trial.announced("standby", mark)
    return said(trial.way("standby"), trial.carrier(on=True), announced)


@scenario("primary's link on again", net_failover=SILENT)
def primary_link_on(trial: Trial) -> str:
    trial.rig.link("primary", on=False)
    trial.way("standby", timeout=1.0)
    mark = trial.rig.mark()
    trial.event("primary's link on again", lambda: trial.rig.link("primary", on=True))
    return said(trial.way("primary"), trial.announced("primary", mark))


@scenario(
    "the black hole: of 200 frames to a guest whose primary is plugged without carrier", net_failover=BLACK_HOLE
)
def black_hole(trial: Trial) -> str:
    trial.rig.link("primary", on=False)
    trial.way("standby", timeout=3.0)
    arrived = trial.rig.arriving(trial.master, 200)
    return "all arrive" if arrived > 195 else f"{arrived} arrive" if arrived else "**none arrives**"


@scenario("standby's link off and on")
def standby_link_off(trial: Trial) -> str:
    trial.event("standby's link off", lambda: trial.rig.link("standby", on=False))
    off = trial.way("primary")
    trial.rig.link("standby", on=True)
    return said(off, f"on: {trial.way('primary')}")


@scenario("both links off, then the standby's on", net_failover=BLACK_HOLE)
def both_links_off(trial: Trial) -> str:
    trial.rig.link("primary", on=False)
    trial.rig.link("standby", on=False)
    off = trial.carrier(on=False)
    trial.rig.link("standby", on=True)
    return said(off, f"standby's on: {trial.carrier(on=True)}", trial.way("standby"))


@scenario("primary set down in the guest, then up", net_failover=BLACK_HOLE)
def primary_down(trial: Trial) -> str:
    name = trial.rig.name("primary")
    trial.event("primary set down", lambda: trial.rig.ip("link", "set", name, "down"))
    down = trial.way("standby")
    trial.event("primary set up", lambda: trial.rig.ip("link", "set", name, "up"))
    return said(down, f"up: {trial.way('primary')}")


@scenario("standby set down in the guest, then up")
def standby_down(trial: Trial) -> str:
    name = trial.rig.name("standby")
    trial.event("standby set down", lambda: trial.rig.ip("link", "set", name, "down"))
    down = trial.way("primary")
    trial.rig.ip("link", "set", name, "up")
    return said(down, f"up: {trial.way('primary')}")


@scenario("both slaves set down, then up")
def both_down(trial: Trial) -> str:
    names = [trial.rig.name(role) for role in ("primary", "standby")]
    for name in names:
        trial.rig.ip("link", "set", name, "down")
    off = trial.carrier(on=False)
    for name in names:
        trial.rig.ip("link", "set", name, "up")
    return said(off, f"up: {trial.carrier(on=True)}", trial.way("primary"))


@scenario(
    "master set down, then up",
    bonding="Bonding sets a slave up when it is enslaved, and down when it is released, not with the master.",
)
def master_down(trial: Trial) -> str:
    trial.rig.ip("link", "set", trial.master, "down")
    slaves = "slaves stay up" if trial.stay_up("standby", "primary") else "slaves go down"
    trial.rig.ip("link", "set", trial.master, "up")
    return said(slaves, f"up: {trial.carrier(on=True)}", trial.way("primary"))


@scenario("primary unplugged under traffic", net_failover=SILENT)
def unplugged(trial: Trial) -> str:
    mark = trial.rig.mark()
    trial.event("primary unplugged", lambda: trial.rig.unplug("primary"))
    way, announced = trial.way("standby"), trial.announced("standby", mark)
    trial.rig.plug("primary")
    trial.joins("primary")
    return said(way, announced)


@scenario("primary plugged again under traffic", net_failover=SILENT, bonding=BY_NAME)
def plugged_again(trial: Trial) -> str:
    trial.rig.unplug("primary")
    trial.way("standby", timeout=3.0)
    mark = trial.rig.mark()
    joins: list[str] = []

    def plug() -> None:
        trial.rig.plug("primary")
        joins.append(trial.joins("primary"))

    trial.event("primary plugged again", plug, after=200)
    return said(*joins, trial.way("primary"), trial.announced("primary", mark))


@scenario("primary unplugged while the standby's link is off")
def unplugged_alone(trial: Trial) -> str:
    trial.rig.link("standby", on=False)
    trial.rig.unplug("primary")
    off = trial.carrier(on=False)
    trial.rig.link("standby", on=True)
    on = trial.way("standby")
    trial.rig.plug("primary")
    trial.joins("primary")
    return said(off, f"standby's on: {on}")
