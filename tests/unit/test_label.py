"""What a slave is called while it is one, and what it was called before."""

import errno
from pathlib import Path

import pytest

from tapbond.errors import LinkRequestError, NoSuchInterfaceError
from tapbond.isolation import NoIsolation
from tapbond.journal import Journal
from tapbond.label import ALTNAME_MAX, Label
from tapbond.model import Link, Role
from tapbond.registrar import Registrar
from tapbond.rundir import Lock
from tapbond.slave import Slave
from tapbond.testing import FakeNetwork, FakePump, VirtualClock, run

MAC = "52:54:00:00:00:01"


@pytest.mark.parametrize(
    ("role", "altname"),
    [(Role.PRIMARY, "tb0-primary"), (Role.STANDBY, "tb0-standby"), (Role.BACKUP, "tb0-backup-eth7")],
)
def test_of(role: Role, altname: str) -> None:
    assert Label.of("tb0", role, "eth7") == Label(alias=f"tapbond tb0: {role}", altname=altname)


def test_the_longest_names_fit() -> None:
    assert len(Label.of("f" * 15, Role.BACKUP, "e" * 15).altname) <= ALTNAME_MAX


class Stage:
    def __init__(self, tmp_path: Path, **properties: object) -> None:
        clock = VirtualClock()
        self.network = FakeNetwork(clock)
        self.rtnetlink = self.network.rtnetlink
        self.path = tmp_path / "journal"
        self.before = self.network.add("eth1", MAC, **properties)
        self.greeted: list[str] = []
        self.registrar = Registrar(
            self.rtnetlink,
            NoIsolation("tb0", self.rtnetlink),
            FakePump(clock, self.network),
            Journal(self.path),
            failover="tb0",
            greet=self._greet,
        )
        self.slave = Slave(self.before, Role.PRIMARY, Lock(tmp_path / "lock", "busy"))

    async def _greet(self, slave: Slave) -> None:
        self.greeted.append(slave.name)

    async def register(self) -> None:
        await self.registrar.register(self.slave, MAC, 1500, True, ())

    def now(self) -> Link:
        return self.network.device("eth1")


@pytest.mark.parametrize("alias", ["", "uplink"])
@pytest.mark.parametrize("names", [frozenset(), frozenset(("mine",)), frozenset(("mine", "tb0-primary"))])
def test_put_on_and_taken_off(tmp_path: Path, alias: str, names: frozenset[str]) -> None:
    stage = Stage(tmp_path, alias=alias, altnames=names)

    async def main() -> None:
        await stage.register()
        assert stage.now().alias == "tapbond tb0: primary"
        assert stage.now().altnames == names | {"tb0-primary"}
        await stage.registrar.release(stage.slave)

    run(main(), VirtualClock())
    assert stage.now() == stage.before
    assert stage.greeted == ["eth1"]


@pytest.mark.parametrize("step", ["set_alias", "add_altname"])
def test_a_kernel_without_it_is_no_reason_to_refuse(tmp_path: Path, step: str) -> None:
    stage = Stage(tmp_path)

    async def main() -> None:
        stage.rtnetlink.failures[step] = [LinkRequestError("eth1: no", errno.EOPNOTSUPP, "not supported")]
        await stage.register()
        await stage.registrar.release(stage.slave)

    run(main(), VirtualClock())
    assert stage.greeted == ["eth1"]
    assert stage.now() == stage.before


def test_a_name_of_another_link_stays_there(tmp_path: Path) -> None:
    stage = Stage(tmp_path)
    other = stage.network.add("other", "52:54:00:00:00:02", altnames=frozenset(("tb0-primary",)))

    async def main() -> None:
        await stage.register()
        assert stage.now().altnames == frozenset()
        await stage.registrar.release(stage.slave)

    run(main(), VirtualClock())
    assert stage.network.device("other") == other
    assert stage.now() == stage.before


def test_a_link_that_goes_while_it_is_labelled(tmp_path: Path) -> None:
    stage = Stage(tmp_path)

    async def main() -> None:
        stage.rtnetlink.failures["add_altname"] = [NoSuchInterfaceError("eth1")]
        with pytest.raises(NoSuchInterfaceError):
            await stage.register()

    run(main(), VirtualClock())
    assert not stage.path.exists()


def test_what_a_killed_process_left_is_in_the_journal(tmp_path: Path) -> None:
    stage = Stage(tmp_path, alias="uplink")

    async def main() -> None:
        await stage.register()
        (original,) = Journal(stage.path).left_behind()
        assert (original.alias, original.altname) == ("uplink", "tb0-primary")
        await original.restore(stage.rtnetlink)

    run(main(), VirtualClock())
    assert stage.now() == stage.before
    stage.slave.unlock()
