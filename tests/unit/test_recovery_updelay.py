"""bonding/mode-1-recovery-updelay.sh on virtual time: the links are swapped while one is in its updelay."""

import asyncio
from pathlib import Path

import pytest

from tapbond.delays import LinkDelays
from tapbond.model import Event, Link, ReceiveMode, Role
from tapbond.rundir import Lock
from tapbond.selector import Selector
from tapbond.slave import Slave
from tapbond.testing import FakeNetwork, FakePump, VirtualClock, run

MAC = "52:54:00:00:00:01"
MS = 1_000_000


@pytest.mark.parametrize("updelay_ms", [0, 200, 500, 1000, 2000, 5000, 10_000])
@pytest.mark.parametrize("downdelay_ms", [0, 100])
def test_recovery(tmp_path: Path, updelay_ms: int, downdelay_ms: int) -> None:
    clock = VirtualClock()
    network = FakeNetwork(clock)
    pump = FakePump(clock, network)
    events: list[Event] = []
    selector = Selector(
        "tb0",
        ReceiveMode.ACTIVE,
        pump,
        network.links,
        set_carrier=lambda _on: None,
        emit=events.append,
        failed=lambda _reason: None,
        clock=clock,
    )
    pump.start(selector)
    for name, role in (("eth0", Role.PRIMARY), ("eth1", Role.STANDBY)):
        link = network.add(name, MAC)
        delays = LinkDelays(updelay_ms * MS, downdelay_ms * MS)
        slave = Slave(link, role, Lock(tmp_path / name, "busy"), delays)
        slave.port = pump.attach(link)
        selector.slaves.append(slave)

    class Listener:
        def link_changed(self, link: Link, when_ns: int, detector: object) -> None:
            for slave in selector.slaves:
                if slave.link.ifindex == link.ifindex:
                    selector.update(slave, link, detector, when_ns)

    def active() -> str | None:
        return selector.active.name if selector.active else None

    async def main() -> None:
        network.links.listen(Listener())
        selector.start()
        assert active() == "eth0"
        network.change("eth0", carrier=False)
        await asyncio.sleep(2)
        assert active() == "eth1"
        network.change("eth0", carrier=True)
        network.change("eth1", carrier=False)
        await asyncio.sleep(downdelay_ms / 1000)
        assert active() == "eth0"
        network.change("eth1", carrier=True)
        await asyncio.sleep(20)
        assert active() == "eth0"
        selector.close()

    run(main(), clock)
