"""A guest moves from one QEMU to another while it talks to the far host: the document's steps, by QMP.

guest           source                   core                            far
virtio-net ─── standby ┐
e1000e ─────── primary ┴ br0 ── up ── source ┐
                                             ├ br0 ── far ───────────── eth0 10.53.0.2
virtio-net ─── standby ┐                     │
e1000e ─────── primary ┴ br0 ── up ── destination
               destination
"""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from moving import DESTINATION, SOURCE, Journey, journey
from rig import Rig, device
from subjects import Subject

from tapbond.lab.vm.kernel import Kernel
from tapbond.lab.vm.machine import Machine

pytestmark = [
    pytest.mark.namespaces,
    pytest.mark.tools("qemu-system-x86_64", "ip", "ethtool", "ping", "nft", "sh"),
    pytest.mark.timeout(240),
]


@pytest.fixture
def subject(name: str, subjects: dict[str, Subject]) -> Subject:
    return type(subjects[name])()


@pytest.fixture
def travelling(subject: Subject, kernel: Kernel, root: Path) -> Iterator[tuple[Rig, Machine]]:
    standby = device("standby", **subject.standby)
    nics = {"standby": standby, "primary": device("primary")}
    with (
        tempfile.TemporaryDirectory(prefix="vm") as here,
        tempfile.TemporaryDirectory(prefix="vm") as there,
        Rig(Path(here), kernel, root, nics, hosts=(SOURCE, DESTINATION)) as rig,
        Machine(
            Path(there), kernel, root, taps=rig.network.switches[DESTINATION].taps, nics=[standby], incoming=True
        ) as destination,
    ):
        yield rig, destination


@pytest.mark.parametrize("name", [pytest.param("tapbond", marks=pytest.mark.selection), "net_failover", "bonding"])
def test_migration(
    name: str, subject: Subject, travelling: tuple[Rig, Machine], journeys: dict[str, Journey]
) -> None:
    rig, destination = travelling
    subject.begin(rig)
    paths = rig.settle(str(subject.master(rig)), "primary", timeout=20.0)
    assert (paths.tx, paths.rx) == ("primary", True)
    journeys[name] = done = journey(rig, subject, destination)
    assert not done.tcp_error
    assert done.duplicated == 0
    paths = rig.settle(str(subject.master(rig)), "primary")
    assert (paths.tx, paths.rx) == ("primary", True), "after the migration"
