"""The QMP backend against a monitor that says what the test wants: what no real guest does at will."""

import asyncio
import contextlib
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import uvloop

from tapbond.migration import (
    AnswerTimeoutError,
    GuestRefusedError,
    HypervisorError,
    NoWayBackError,
    PreconditionError,
    UnclearError,
)
from tapbond.migration.backend import choose
from tapbond.migration.facts import Place, Progress
from tapbond.migration.qmp import Qmp

MAC = "52:54:00:00:12:53"
DEVICE = json.dumps({"driver": "vfio-pci", "id": "vf0", "host": "0000:42:02.5"})
TO = "tcp:far:4444"
INFO_NETWORK = f"""hub 1
 \\ vfnet: index=0,type=hubport,
ua-backup0: index=0,type=nic,model=virtio-net-pci,macaddr={MAC}
 \\ standbynet: index=0,type=tap,ifname=vmtap01,script=no,downscript=no
"""


class FakeQemu:
    """A monitor over a Unix socket; ``heard`` are the commands that change something."""

    def __init__(self) -> None:
        self.status = "running"
        self.migration: list[dict[str, Any]] = [{}]
        """What query-migrate answers, one after the other; the last one stays."""
        self.devices = {"ua-backup0": "virtio-net-pci", "vf0": "vfio-pci"}
        self.macs = {"ua-backup0": MAC}
        self.unplug_events: list[dict[str, Any]] = []
        self.heard: list[str] = []
        self._writer: asyncio.StreamWriter | None = None

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writer = writer
        version = {"qemu": {"major": 7, "minor": 2, "micro": 0}, "package": ""}
        self.send({"QMP": {"version": version, "capabilities": []}})
        waiting = ""
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(65536):
                waiting += data.decode()
                command, end = json.JSONDecoder().raw_decode(waiting)  # one at a time, and no line end after it
                waiting = waiting[end:].lstrip()
                answer = self.answer(command["execute"], command.get("arguments", {}))
                self.send(answer | {"id": command["id"]} if "id" in command else answer)
        writer.close()

    def send(self, message: dict[str, Any]) -> None:
        assert self._writer is not None
        self._writer.write(json.dumps(message).encode() + b"\r\n")

    def event(self, name: str, **data: Any) -> None:
        self.send({"event": name, "data": data, "timestamp": {"seconds": 1, "microseconds": 0}})

    def answer(self, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
        if command == "query-status":
            return {"return": {"status": self.status, "running": self.status == "running", "singlestep": False}}
        if command == "query-migrate":
            return {"return": self.migration.pop(0) if len(self.migration) > 1 else self.migration[0]}
        if command == "qom-list":
            told = [{"name": name, "type": f"child<{kind}>"} for name, kind in self.devices.items()]
            return {"return": [{"name": "type", "type": "string"}, *told]}
        if command == "qom-get":
            return self.qom_get(arguments["path"].rpartition("/")[2], arguments["property"])
        if command == "human-monitor-command":
            return {"return": INFO_NETWORK}
        if command != "qmp_capabilities":
            self.heard.append(command)
        return self.change(command, arguments)

    def qom_get(self, device: str, name: str) -> dict[str, Any]:
        if name == "mac" and device in self.macs:
            return {"return": self.macs[device]}
        if name == "netdev" and device == "ua-backup0":
            return {"return": "standbynet"}
        return {"error": {"class": "GenericError", "desc": f"Property '{name}' not found"}}

    def change(self, command: str, arguments: dict[str, Any]) -> dict[str, Any]:
        if command == "device_add":
            self.devices[arguments["id"]] = arguments["driver"]
        if command == "device_del":
            for event in self.unplug_events:
                self.event(**event)
                if event["name"] == "DEVICE_DELETED" and event.get("device"):
                    self.devices.pop(event["device"], None)
        if command == "cont":
            self.status = "running"
        return {"return": {}}


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Callable[..., Awaitable[FakeQemu]]]:
    async with contextlib.AsyncExitStack() as open_servers:

        async def serve(name: str = "source") -> FakeQemu:
            fake = FakeQemu()
            server = await asyncio.start_unix_server(fake.serve, tmp_path / name)
            open_servers.callback(server.close)
            return fake

        yield serve


@contextlib.asynccontextmanager
async def connected(folder: Path, **options: str) -> AsyncIterator[Qmp]:
    hypervisor = Qmp(str(folder / "source"), options.pop("device", DEVICE), **options)
    await hypervisor.open()
    try:
        yield hypervisor
    finally:
        await hypervisor.close()


Serve = Callable[..., Awaitable[FakeQemu]]


async def test_the_pair_is_found_by_what_the_monitor_tells(served: Serve, tmp_path: Path) -> None:
    await served()
    async with connected(tmp_path) as qemu:
        guest = await qemu.inspect()
    assert (guest.standby, guest.standby_mac, guest.tap) == ("ua-backup0", MAC, "vmtap01")
    assert (guest.primary, guest.plugged, guest.pci) == ("vf0", True, "0000:42:02.5")
    assert guest.running
    assert guest.link_up is None


async def test_of_several_virtio_nics_the_one_with_the_mac_is_the_standby(served: Serve, tmp_path: Path) -> None:
    fake = await served()
    fake.devices["net9"] = "virtio-net-pci"
    fake.macs |= {"net9": "52:54:00:00:00:99", "vf0": MAC}
    async with connected(tmp_path) as qemu:
        assert (await qemu.inspect()).standby == "ua-backup0"
        del fake.macs["vf0"]
        with pytest.raises(
            PreconditionError, match=r"which is the standby\? \(--standby ID; virtio: ua-backup0, net9\)"
        ):
            await qemu.inspect()


async def test_an_unplug_waits_for_its_own_event(served: Serve, tmp_path: Path) -> None:
    fake = await served()
    fake.unplug_events = [
        {"name": "DEVICE_DELETED", "path": "/machine/peripheral/vf0/virtio-backend"},
        {"name": "DEVICE_DELETED", "device": "vf0", "path": "/machine/peripheral/vf0"},
    ]
    async with connected(tmp_path) as qemu:
        await qemu.unplug("vf0", DEVICE, 5.0)
        assert not await qemu.is_plugged("vf0")


async def test_a_guest_that_refuses_is_heard(served: Serve, tmp_path: Path) -> None:
    fake = await served()
    fake.unplug_events = [
        {"name": "DEVICE_UNPLUG_GUEST_ERROR", "device": "vf0", "path": "/machine/peripheral/vf0"}
    ]
    async with connected(tmp_path) as qemu:
        with pytest.raises(GuestRefusedError, match="vf0: the guest does not let go of it"):
            await qemu.unplug("vf0", DEVICE, 5.0)
        await qemu.settle("vf0")  # at once: it has answered
        assert await qemu.is_plugged("vf0")


async def test_a_guest_that_lets_go_too_late_gets_its_device_back(served: Serve, tmp_path: Path) -> None:
    fake = await served()
    async with connected(tmp_path) as qemu:
        with pytest.raises(AnswerTimeoutError, match=r"vf0: the guest has not let go of it within 0.01 s"):
            await qemu.unplug("vf0", DEVICE, 0.01)
        settling = asyncio.ensure_future(qemu.settle("vf0"))
        while not settling.done() and "vf0" in fake.devices:
            await asyncio.sleep(0)
            if await qemu.is_plugged("vf0"):
                del fake.devices["vf0"]
                fake.event("DEVICE_DELETED", device="vf0", path="/machine/peripheral/vf0")
        await settling
        await qemu.plug("vf0", DEVICE)
        assert await qemu.is_plugged("vf0")


async def test_a_move_is_followed_to_its_end(served: Serve, tmp_path: Path) -> None:
    fake = await served()
    fake.migration = [
        {},
        {"status": "active", "ram": {"transferred": 1, "remaining": 3, "total": 4, "mbps": 8.0}},
        {"status": "completed"},
    ]
    seen: list[Progress] = []
    fake.status = "running"
    async with connected(tmp_path) as qemu:
        moving = asyncio.ensure_future(qemu.migrate(TO, 10.0, seen.append))
        while not seen:
            await asyncio.sleep(0)
        fake.status = "postmigrate"
        await moving
        assert await qemu.place(TO) is Place.THERE
    assert seen == [Progress(transferred=1, remaining=3, total=4, rate=1e6)]
    assert fake.heard == ["migrate-set-capabilities", "migrate"]


async def test_a_move_that_is_under_way_is_not_started_again(served: Serve, tmp_path: Path) -> None:
    fake = await served()
    fake.migration = [{"status": "active"}, {"status": "failed", "error-desc": "Unable to write to socket"}]
    async with connected(tmp_path) as qemu:
        with pytest.raises(HypervisorError, match="migration failed: Unable to write to socket"):
            await qemu.migrate(TO, 10.0, lambda _progress: None)
    assert fake.heard == []


@pytest.mark.parametrize(
    ("migration", "here", "there", "place"),
    [
        ("", "running", "", Place.HERE),
        ("active", "running", "", Place.MOVING),
        ("cancelling", "running", "", Place.MOVING),
        ("cancelled", "running", "", Place.HERE),
        ("failed", "running", "inmigrate", Place.HERE),
        ("completed", "postmigrate", "", Place.THERE),
        ("completed", "postmigrate", "running", Place.THERE),
        ("completed", "postmigrate", "paused", Place.THERE),
        ("completed", "postmigrate", "inmigrate", Place.MOVING),
        ("completed", "postmigrate", "internal-error", Place.UNCLEAR),
        ("completed", "postmigrate", "gone", Place.UNCLEAR),
        ("completed", "running", "", Place.HERE),
    ],
)
async def test_where_the_guest_is(
    served: Serve, tmp_path: Path, migration: str, here: str, there: str, place: Place
) -> None:
    source = await served()
    source.status = here
    source.migration = [{"status": migration} if migration else {}]
    if there and there != "gone":
        (await served("far")).status = there
    async with connected(tmp_path, destination=str(tmp_path / "far") if there else "") as qemu:
        assert await qemu.place(TO) is place


async def test_what_has_moved_does_not_stay(served: Serve, tmp_path: Path) -> None:
    fake = await served()
    fake.status, fake.migration = "postmigrate", [{"status": "completed"}]
    async with connected(tmp_path) as qemu:
        with pytest.raises(NoWayBackError):
            await qemu.stay(TO)
    async with connected(tmp_path, destination=str(tmp_path / "far")) as qemu:
        with pytest.raises(UnclearError, match="only if it runs nowhere: cont here, then --abort"):
            await qemu.stay(TO)
    assert fake.heard == []


async def test_a_move_under_way_is_cancelled_and_the_guest_goes_on(served: Serve, tmp_path: Path) -> None:
    fake = await served()
    fake.status = "paused"
    fake.migration = [{"status": "active"}, {"status": "cancelling"}, {"status": "cancelled"}]
    async with connected(tmp_path) as qemu:
        await qemu.stay(TO)
    assert fake.heard == ["migrate_cancel", "cont"]
    assert fake.status == "running"


async def test_the_destination_is_asked_whether_it_waits(served: Serve, tmp_path: Path) -> None:
    await served()
    far = await served("far")
    async with connected(tmp_path, destination=str(tmp_path / "far")) as qemu:
        assert await qemu.check_destination(TO) == [f"{tmp_path}/far: waits for no guest (it is running)"]
        far.status = "inmigrate"
        assert await qemu.check_destination(TO) == []
        assert "not an address of QEMU's" in (await qemu.check_destination("qemu+ssh://far/system"))[0]


async def test_a_monitor_that_says_nothing_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tapbond.migration.monitor.ANSWER_S", 0.01)

    ended = asyncio.Event()

    async def mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()
        ended.set()

    async with await asyncio.start_unix_server(mute, tmp_path / "source"):
        with pytest.raises(HypervisorError, match=r"no greeting \(another QMP client has the socket\?\)"):
            await Qmp(str(tmp_path / "source"), DEVICE).open()
        await ended.wait()


def test_it_runs_on_uvloop(tmp_path: Path) -> None:
    async def main() -> None:
        fake = FakeQemu()
        fake.unplug_events = [{"name": "DEVICE_DELETED", "device": "vf0", "path": "/machine/peripheral/vf0"}]
        server = await asyncio.start_unix_server(fake.serve, tmp_path / "source")
        async with connected(tmp_path) as qemu:
            await qemu.unplug("vf0", DEVICE, 5.0)
        server.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(main())


@pytest.mark.parametrize(
    ("device", "words"),
    [
        ("", "say it with --device FILE"),
        ("<interface/>", "--device: not JSON"),
        ('{"driver": "e1000e"}', "not the arguments of device_add"),
        ("[]", "not the arguments of device_add"),
    ],
)
def test_a_device_that_cannot_be_plugged_is_refused(tmp_path: Path, device: str, words: str) -> None:
    (tmp_path / "source").touch()
    with pytest.raises(PreconditionError, match=words):
        choose(str(tmp_path / "source"), device=device)


def test_a_socket_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(HypervisorError, match="no such socket"):
        choose(str(tmp_path / "source"), device=DEVICE)


def test_a_missing_library_is_named_with_the_way_out(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "tapbond.migration.qmp", None)
    monkeypatch.setitem(sys.modules, "tapbond.migration.libvirtd", None)
    with pytest.raises(HypervisorError, match=r"pip install 'tapbond\[qmp\]'"):
        choose(str(tmp_path / "source"), device=DEVICE)
    with pytest.raises(HypervisorError, match=r"pip install 'tapbond\[libvirt\]'"):
        choose("vm-01")
