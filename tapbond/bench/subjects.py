"""What is compared, each between the same two hosts with the same switch (tapbond/lab/topology.py).

    name       host                                          switch         far
    veth       eth0 ────────────────────────────────────────────────────── eth0
    bridge     eth0 ───────────────────────────────────────── br0 ───────── eth0    the one to beat
    others     tb0 ══ (tapbond, Python, OVS) ══ eth0, eth1 ── br0 ───────── eth0

Python and plain OVS do not read offloaded frames, so for those two the switch sends complete ones: what any
network card does. They and OVS with TSO leave the slaves to their own IP stack, which would take each frame a
second time: a bridge that is never up keeps it out, as tapbond's own isolation does.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from tapbond.bench import handwritten, openvswitch
from tapbond.bench.bed import Bed
from tapbond.bench.offload import send_plainly
from tapbond.errors import TapbondError
from tapbond.lab import leash
from tapbond.lab.process import FailoverProcess
from tapbond.lab.topology import NO_IPV6_LINK_LOCAL, Lab, Pair
from tapbond.lab.waiting import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import ExitStack

    from tapbond.lab.namespace import Namespace

STANDBY, PRIMARY, TAP = "eth0", "eth1", "tb0"
APART = "apart"
"""The bridge that keeps slaves apart from their IP stack."""
BASE = "bridge"
"""What all others are compared with."""
DEADLINE_S = 20.0


class Site(NamedTuple):
    """What a subject is built with."""

    stack: ExitStack
    """Takes everything down."""
    mtu: int
    tapbond_options: tuple[str, ...]


class Subject(NamedTuple):
    """One of those that are compared."""

    name: str
    label: str
    build: Callable[[Site], Bed]
    missing: Callable[[], str | None] = lambda: None
    """Returns why it cannot be had here, or None."""


def folder(stack: ExitStack) -> Path:
    """Return a new folder, on a path short enough for sockets, that goes with the stack."""
    short = "/tmp" if Path("/tmp").is_dir() else None  # noqa: S108 - sockets have 108 bytes for a path
    return Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="tbb-", dir=short)))


def build_pair(site: Site, *, bridge: bool) -> Bed:
    """Build two hosts without a failover."""
    pair = site.stack.enter_context(Pair(mtu=site.mtu, bridge=bridge))
    return Bed(pair.host, pair.far, {})


def start_tapbond(
    site: Site, *options: str, program: tuple[str, ...] = ("tapbond", "run")
) -> tuple[Lab, FailoverProcess]:
    """Build a lab with ``tapbond run`` in it; TapbondError: it did not start."""
    lab = site.stack.enter_context(Lab(mtu=site.mtu))
    every = ("--standby", STANDBY, "--primary", PRIMARY, *options, *site.tapbond_options)
    running = site.stack.enter_context(
        FailoverProcess(lab.host, TAP, *every, run_dir=folder(site.stack), program=program)
    )
    running.wait_ready()
    lab.address_failover(TAP)
    return lab, running


def build_tapbond(site: Site, *options: str) -> Bed:
    """Build tapbond."""
    lab, running = start_tapbond(site, *options)
    return Bed(lab.host, lab.far, {"tapbond": running.process.pid})


def build_copy(site: Site) -> Bed:
    """Build tapbond's copy path, whatever it would take by itself."""
    return build_tapbond(site, "--datapath", "copy")


def build_redirect(site: Site) -> Bed:
    """Build tapbond's redirect path."""
    return build_tapbond(site, "--datapath", "redirect")


def build_python(site: Site) -> Bed:
    """Build the loop that one would write by hand."""
    lab = site.stack.enter_context(Lab(mtu=site.mtu))
    prepare_slaves(lab, plain=True)
    words = (TAP, lab.mac, str(site.mtu), STANDBY, PRIMARY)
    loop: subprocess.Popen[Any] = lab.host.spawn(
        [*(sys.executable, "-IS", leash.__file__, str(os.getpid())), sys.executable, handwritten.__file__, *words],
        stdin=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    wait_until(lambda: exists(lab.host, TAP) or loop.poll() is not None, DEADLINE_S, "the Python loop")
    if loop.poll() is not None:
        raise TapbondError(f"the Python loop ended with status {loop.returncode}")
    lab.address_failover(TAP)
    return Bed(lab.host, lab.far, {"python": loop.pid})


def build_ovs(site: Site, *, tso: bool) -> Bed:
    """Build Open vSwitch with a bond."""
    lab, switch = start_ovs(site, tso=tso)
    return Bed(lab.host, lab.far, {"ovs-vswitchd": switch.daemon.pid})


def start_ovs(site: Site, *, tso: bool) -> tuple[Lab, openvswitch.OpenVSwitch]:
    """Build a lab with Open vSwitch and a bond in it; TapbondError: it did not start."""
    lab = site.stack.enter_context(Lab(mtu=site.mtu))
    prepare_slaves(lab, plain=not tso)
    switch = openvswitch.OpenVSwitch(lab.host, folder(site.stack), tso=tso)
    switch.make_bond(TAP, lab.mac, site.mtu, STANDBY, PRIMARY)
    lab.address_failover(TAP)
    return lab, switch


def prepare_slaves(lab: Lab, *, plain: bool) -> None:
    """Keep the slaves' IP stack out, set them up, and let the switch send plain frames to them where asked.

    Both have one MAC: a router solicitation that the standby sends would move it to the wrong port of the switch,
    and a flood from the far host would then arrive nowhere.
    """
    lab.host.netlink(lambda ipr: ipr.link("add", ifname=APART, kind="bridge"))
    for name in (STANDBY, PRIMARY):
        isolate(lab, name)
    if plain:
        for port in ("sw0", "sw1"):
            send_plainly(lab.switch, port)


def isolate(lab: Lab, ifname: str) -> None:
    """Keep the IP stack of one slave out, and set it up."""
    bridge, index = lab.host.index_of(APART), lab.host.index_of(ifname)

    def apply(ipr: Any) -> None:
        ipr.link("set", index=index, master=bridge, IFLA_AF_SPEC=NO_IPV6_LINK_LOCAL)
        ipr.link("set", index=index, state="up")

    lab.host.netlink(apply)


def exists(namespace: Namespace, ifname: str) -> bool:
    """Return whether there is such an interface."""
    with suppress(OSError):
        return namespace.index_of(ifname) > 0
    return False


SUBJECTS: dict[str, Subject] = {
    subject.name: subject
    for subject in (
        Subject("veth", "bare veth pair", lambda site: build_pair(site, bridge=False)),
        Subject(BASE, "veth + kernel bridge", lambda site: build_pair(site, bridge=True)),
        Subject("tapbond", "tapbond, copy path", build_copy),
        Subject("redirect", "tapbond, redirect path", build_redirect),
        Subject("python", "Python loop by hand", build_python),
        Subject("ovs", "OVS userspace bond", lambda site: build_ovs(site, tso=False), openvswitch.missing),
        Subject("ovs-tso", "OVS userspace bond, TSO", lambda site: build_ovs(site, tso=True), openvswitch.missing),
    )
}
OURS = ("tapbond", "redirect")
"""Those that have to work; the others may not fit here."""
FAILOVERS = (*OURS, "ovs-tso")
"""Those whose failover is measured."""
