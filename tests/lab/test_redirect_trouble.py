"""The redirect path when something ends or interferes: slaves that fail, filters that are taken away, kill -9.

host                              switch           far
tb0 ──┐ filters of one tc block ┌────────────────── eth0
eth0 ─┤ (standby)               ├ sw0 ┐
eth1 ─┘ (primary)               └ sw1 ┴ br0
"""

import json
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from observe import Start, raw
from test_redirect import FRAME, a_tap, arrives, qdiscs, run_cli
from test_switching import becomes_active, traffic

from tapbond.datapath.classifier import CLASSIFIERS, Classifier
from tapbond.datapath.fuse import Fuse
from tapbond.datapath.tc import Tc
from tapbond.datapath.wiring import Wiring
from tapbond.lab import FAR_V4, Lab, wait_until
from tapbond.model import Link

pytestmark = [pytest.mark.namespaces, pytest.mark.tools("ip", "ping", "tc")]


@pytest.fixture
def datapath() -> str:
    return "redirect"


@pytest.fixture(params=CLASSIFIERS, ids=lambda classifier: str(classifier.kind))
def classifier(request: pytest.FixtureRequest) -> Classifier:
    made: Classifier = request.param
    return made


# What the kernel does.


def link_of(lab: Lab, name: str) -> Link:
    return Link(ifindex=lab.host.index_of(name), name=name, mac="")


# The fuse, with nobody else to switch.


@contextmanager
def wired(lab: Lab, classifier: Classifier) -> Iterator[tuple[Wiring, Fuse]]:
    """Send by eth1 and receive from it, with a fuse for which eth0 takes over."""
    lab.up("eth0")
    lab.up("eth1")
    with a_tap(lab) as tap, closing(lab.host.run(Tc)) as tc, closing(Fuse(lab.host.socket)) as fuse:
        wiring = Wiring("tbk0", tc, [classifier])
        lab.host.run(wiring.open, tap)
        zero, one = (link_of(lab, name) for name in ("eth0", "eth1"))
        for link in (zero, one):
            lab.host.run(wiring.add, link)
        lab.host.run(wiring.send, one.ifindex)
        lab.host.run(wiring.receive, one.ifindex)
        fuse.open()
        fuse.arm(one.ifindex, lab.host.run(lambda: wiring.succession(zero.ifindex, receives=True)))
        yield wiring, fuse
        lab.host.run(wiring.close)


ENDS: dict[str, Callable[[Lab], object]] = {
    "down": lambda lab: lab.host.check_output(["ip", "link", "set", "eth1", "down"]),
    "carrier": lambda lab: lab.lose_carrier("eth1"),
    "unplugged": lambda lab: lab.unplug("eth1"),
}


@pytest.mark.parametrize("end", ENDS)
def test_the_fuse_switches_by_itself(lab: Lab, classifier: Classifier, end: str) -> None:
    with wired(lab, classifier) as (wiring, fuse):
        zero = lab.host.index_of("eth0")
        ENDS[end](lab)
        wait_until(lambda: fuse.blown()[0], what="the fuse")
        assert fuse.blown() == (1, 0), "the kernel took both requests"
        assert arrives(lab, "tbk0"), "received from eth0 now"
        with raw(lab.host, "tbk0") as tap:

            def sent() -> bool:
                tap.send(bytes(10) + FRAME)
                return lab.host.run(wiring.counters, zero).tx_frames > 0

            wait_until(sent, what="a frame by eth0")


def test_a_fuse_minds_no_other_link_and_blows_once(lab: Lab, classifier: Classifier) -> None:
    with wired(lab, classifier) as (_, fuse):
        for name in ("eth0", "eth1", "eth1"):
            lab.host.check_output(["ip", "link", "set", name, "down"])
            lab.host.check_output(["ip", "link", "set", name, "up"])
        wait_until(lambda: fuse.blown()[0], what="the fuse")
        assert fuse.blown()[0] == 1


def test_a_port_that_leaves_a_bridge_is_no_link_that_has_gone(lab: Lab, classifier: Classifier) -> None:
    """RTM_DELLINK, but of AF_BRIDGE: what isolation does when a slave is released."""
    with wired(lab, classifier) as (_, fuse):
        lab.host.check_output(["ip", "link", "add", "brk", "type", "bridge"])
        lab.host.check_output(["ip", "link", "set", "eth1", "master", "brk"])
        lab.host.check_output(["ip", "link", "set", "eth1", "nomaster"])
        assert fuse.blown()[0] == 0
        lab.host.check_output(["ip", "link", "set", "eth1", "down"])
        wait_until(lambda: fuse.blown()[0], what="the fuse")


def test_a_fuse_that_is_disarmed_does_nothing(lab: Lab, classifier: Classifier) -> None:
    with wired(lab, classifier) as (_, fuse):
        fuse.disarm()
        lab.host.check_output(["ip", "link", "set", "eth1", "down"])
        assert fuse.blown() == (0, 0)


def test_a_refusal_is_told(lab: Lab, classifier: Classifier) -> None:
    with wired(lab, classifier) as (wiring, fuse):
        zero, one = lab.host.index_of("eth0"), lab.host.index_of("eth1")
        request = lab.host.run(lambda: wiring.succession(zero, receives=True))
        lab.host.run(wiring.close)
        fuse.arm(one, request)
        lab.host.check_output(["ip", "link", "set", "eth1", "down"])
        wait_until(lambda: fuse.blown()[0], what="the fuse")
        assert fuse.blown()[1] < 0


# Whole.


@pytest.mark.parametrize("only", [classifier.kind for classifier in CLASSIFIERS])
def test_the_whole_path_with_each_classifier(
    lab: Lab, start: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, only: str
) -> None:
    """A kernel without the others is played by a start file of Python's."""
    (tmp_path / "sitecustomize.py").write_text(
        "from tapbond.datapath.wiring import CLASSIFIERS, Wiring\n"
        f"Wiring.__init__.__defaults__ = (tuple(each for each in CLASSIFIERS if each.kind == {only!r}),)\n"
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    process = start(lab)
    assert f"classifier={only}" in process.log
    with traffic(lab) as flows:
        for slave in ("eth0", "eth1"):
            process.call("Switch", slave=slave)
            flows.pass_frames(200)
    for direction in flows.totals():
        assert (direction.lost, direction.duplicated) == (0, 0)
    for end, active in (("down", "eth0"), ("up", "eth1")):
        lab.host.check_output(["ip", "link", "set", "eth1", end])
        becomes_active(process, active)
        lab.host.check_output(["ping", "-c1", "-W5", FAR_V4])
    lab.unplug("eth1")
    becomes_active(process, "eth0")
    lab.host.check_output(["ping", "-c1", "-W5", FAR_V4])
    lab.plug("eth1")
    lab.up("eth1")
    becomes_active(process, "eth1")
    lab.host.check_output(["ping", "-c1", "-W5", FAR_V4])
    assert process.status().datapath == "redirect"
    assert process.stop() == 0
    assert qdiscs(lab.host) == []


@pytest.mark.parametrize("link", ["tb0", "eth0", "eth1"])
def test_a_qdisc_that_somebody_removes_is_put_back(lab: Lab, start: Start, link: str) -> None:
    process = start(lab)
    before = process.status().counters.tx_frames
    kind = "clsact" if link == "tb0" else "ingress"
    lab.host.check_output(["tc", "qdisc", "del", "dev", link, kind])
    wait_until(lambda: "frames are redirected again" in process.log, what="the filters")
    assert f"{link}: somebody has removed its tc filters" in process.log
    assert process.status().datapath == "redirect"
    assert len(qdiscs(lab.host)) == 3
    for slave in ("eth0", "eth1"):
        process.call("Switch", slave=slave)
        lab.host.check_output(["ping", "-c1", "-W5", FAR_V4])
    assert process.status().counters.tx_frames > before
    assert process.stop() == 0
    assert qdiscs(lab.host) == []


def test_one_that_somebody_replaces_is_left_alone(lab: Lab, start: Start) -> None:
    """Frames are copied while it is there."""
    process = start(lab)
    lab.host.check_output(["tc", "qdisc", "del", "dev", "eth0", "ingress"])
    wait_until(lambda: "frames are redirected again" in process.log, what="the filters")
    batch = "qdisc del dev eth0 ingress\nqdisc add dev eth0 clsact\n"
    lab.host.check_output(["sh", "-c", f"printf '{batch}' | tc -batch -"])
    wait_until(lambda: process.status().datapath == "copy" or theirs(lab) is None, what="either")
    if theirs(lab) is None:
        pytest.skip("ours was put back between the two requests")
    assert "eth0: has an ingress or clsact qdisc already" in process.status().datapath_reason
    lab.host.check_output(["ping", "-c1", "-W5", FAR_V4])
    lab.host.check_output(["tc", "qdisc", "del", "dev", "eth0", "clsact"])
    wait_until(lambda: process.status().datapath == "redirect", what="to redirect again")
    lab.host.check_output(["ping", "-c1", "-W5", FAR_V4])


def theirs(lab: Lab) -> object:
    """Return the qdisc of somebody else on eth0, or None."""
    found = (qdisc for qdisc in qdiscs(lab.host) if qdisc["dev"] == "eth0" and qdisc["kind"] == "clsact")
    return next(found, None)


@pytest.mark.parametrize("how", ["restore", "start"])
def test_killed_with_a_persistent_tap(lab: Lab, start: Start, how: str) -> None:
    """The TAP stays, with its filters; the slaves go on redirecting, and nobody chooses any more."""
    lab.host.check_output(["ip", "tuntap", "add", "mode", "tap", "name", "tb0", "vnet_hdr"])
    process = start(lab)
    lab.host.check_output(["ping", "-c1", "-W5", FAR_V4])
    process.stop(signal.SIGKILL)
    assert len(qdiscs(lab.host)) == 3
    if how == "restore":
        assert "tc filters removed from 3 links" in run_cli(lab, process, "restore", "tb0")
    else:
        again = start(lab)
        assert again.status().datapath == "redirect"
        lab.host.check_output(["ping", "-c1", "-W5", FAR_V4])
        assert again.stop() == 0
    assert qdiscs(lab.host) == []


def test_doctor_tells_what_redirects_here(lab: Lab) -> None:
    found = json.loads(lab.host.check_output([sys.executable, "-m", "tapbond", "doctor", "--json"]))
    entry = next(entry for entry in found if entry["what"] == "datapath redirect")
    assert entry["ok"]
    assert all(classifier.kind in entry["found"] for classifier in CLASSIFIERS)
    assert qdiscs(lab.host) == []
