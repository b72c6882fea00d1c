"""Several failovers in one process, through the library: create and destroy, as the kernel's API.

host                                   switch
tb0: eth0 (standby) eth1 (primary) ─── sw0 sw1 ┐
tb1: eth2 (standby) eth3 (primary) ─── sw2 sw3 ┴ br0

and, where a switch dies, six of them as tapbond.bench.crowd draws it.
"""

import asyncio
import subprocess
from collections.abc import Callable, Coroutine
from pathlib import Path

import pytest
import uvloop
from observe import everything, link_names

import tapbond
from tapbond.bench import fleet
from tapbond.bench.crowd import Network
from tapbond.lab import Lab, Namespace
from tapbond.model import Link

pytestmark = [pytest.mark.namespaces, pytest.mark.tools("ip", "nft")]

OTHER = "02:00:00:00:00:54"


def on_uvloop(host: Namespace, main: Callable[[], Coroutine[None, None, None]]) -> None:
    def whole() -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(main())

    host.run(whole)


@pytest.fixture
def four(lab: Lab) -> Lab:
    lab.plug("eth2", mac=OTHER)
    lab.plug("eth3", mac=OTHER)
    return lab


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0.002)


def test_one_failed_never_disturbs_another(four: Lab) -> None:
    before = everything(four.host)

    async def main() -> None:
        first = await tapbond.create("tb0", standby="eth0", primary="eth1")
        second = await tapbond.create("tb1", standby="eth2", primary="eth3")
        switched = first.status().switchovers
        with pytest.raises(tapbond.BusyError, match="tb0"):
            await tapbond.create("tb0", standby="eth0")
        with pytest.raises(tapbond.NoSuchInterfaceError, match="eth7"):
            await tapbond.create("tb2", standby="eth7")
        with pytest.raises(tapbond.RefusedError, match="eth0"):
            await tapbond.create("tb3", standby="eth0", primary="eth1")
        await asyncio.to_thread(subprocess.run, ["ip", "link", "del", "tb1"], check=True)  # in this namespace
        await until(second.lost.is_set)
        await tapbond.destroy(second)
        await tapbond.destroy(second)
        await tapbond.destroy(None)
        assert first.status().active == "eth1"
        assert first.status().switchovers == switched
        again = await tapbond.create("tb1", standby="eth2", primary="eth3")
        assert again.status().active == "eth3"
        await tapbond.destroy(first)
        assert again.status().active == "eth3"
        await tapbond.destroy(again)

    on_uvloop(four.host, main)
    assert link_names(four.host) == {"lo", "eth0", "eth1", "eth2", "eth3"}
    assert everything(four.host) == before


def test_created_and_destroyed_in_turn_while_another_carries_on(four: Lab) -> None:
    async def main() -> None:
        async with tapbond.Failover("tb0", standby="eth0", primary="eth1") as first:
            for _ in range(10):
                other = await tapbond.create("tb1", standby="eth2", primary="eth3")
                four.down("eth3")
                await until(lambda other=other: other.status().active == "eth2")
                four.up("eth3")
                await tapbond.destroy(other)
            assert first.status().switchovers == 1

    on_uvloop(four.host, main)


def test_records_are_a_ring_of_256(four: Lab) -> None:
    async def main() -> None:
        async with tapbond.Failover("tb0", standby="eth0", primary="eth1", drain_ns=0) as failover:
            for number in range(150):
                failover.switch("eth0")
                failover.switch("eth1")
                if number == 100:
                    assert len(failover.switchovers()) >= 200
            records = failover.switchovers()
            assert len(records) == 256
            assert [record.serial for record in records] == list(range(records[0].serial, records[0].serial + 256))
            assert failover.status().switchovers >= 300

    on_uvloop(four.host, main)


class Broken:
    """A listener that fails whatever it is told."""

    def link_changed(self, link: Link, _when_ns: int, _detector: object) -> None:
        raise ValueError(link.name)

    def link_removed(self, link: Link, _when_ns: int) -> None:
        raise ValueError(link.name)

    def addresses_changed(self, _ifindex: int) -> None:
        raise ValueError


def test_all_leave_a_switch_that_dies_whatever_becomes_of_one_of_them(tmp_path: Path) -> None:
    """They hear of the links by one socket: one is destroyed meanwhile, in one something fails all the time."""

    async def main() -> None:
        faults: list[object] = []
        asyncio.get_running_loop().set_exception_handler(lambda _loop, about: faults.append(about))
        failovers = []
        for number in range(6):
            standby, primary = fleet.slaves(number)
            failovers.append(
                await tapbond.create(fleet.name(number), standby=standby, primary=primary, run_dir=tmp_path)
            )
        assert [failover.status().active for failover in failovers] == [f"b{number}" for number in range(6)]
        followed = [failover._parts.places.home.links for failover in failovers]
        assert len({id(links._room) for links in followed}) == 1
        followed[1].listen(Broken())
        destroying = asyncio.create_task(tapbond.destroy(failovers[0]))
        await asyncio.sleep(0)
        network.kill_switch()
        rest = list(enumerate(failovers))[1:]
        await until(lambda: all(failover.status().active == f"a{number}" for number, failover in rest))
        await destroying
        assert faults
        followed[1]._listeners.pop()
        for _, failover in rest:
            assert failover.status().switchovers == 2
            await tapbond.destroy(failover)

    with Network(6) as network:
        on_uvloop(network.host, main)
        assert link_names(network.host) == {"lo", *(f"{side}{number}" for side in "ab" for number in range(6))}
