"""Hypervisor over QMP (docs/interop/qmp-spec.rst): a bare QEMU, named by the path of its socket.

QMP does not tell the link state of a NIC, nor the arguments that a device was made with: the first is what the
user says it is at rest, the second a file.
"""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any

from qemu.qmp import EventListener

from tapbond.errors import TapbondError
from tapbond.migration.errors import (
    AnswerTimeoutError,
    GuestRefusedError,
    HypervisorError,
    NoWayBackError,
    PreconditionError,
    UnclearError,
)
from tapbond.migration.facts import Guest, Place, Progress
from tapbond.migration.hypervisor import Report
from tapbond.migration.monitor import Monitor

PERIPHERALS = "/machine/peripheral"
CANCEL_S = 30.0
"""For a move to end that was cancelled."""
POLL_S = 0.1
SETTLE_S = 8.0
"""A Linux guest acts 5 s after the button of a PCIe slot (pciehp_ctrl.c), unless it is pressed again."""
STARTED = ("setup", "active", "postcopy-active", "postcopy-paused", "device", "pre-switchover", "wait-unplug")
CANCELLING = "cancelling"
AWAY = ("postmigrate", "finish-migrate")
UNPLUG_REFUSED = ("DEVICE_UNPLUG_GUEST_ERROR", "MEM_UNPLUG_ERROR")
MIB = 1_000_000 / 8
"""Bytes a second of one Mbit/s, as query-migrate gives the rate."""


class Qmp:
    """See above.

    Args:
        path: of the QMP socket.
        device: arguments of device_add for the primary, as JSON with ``driver`` and ``id``.
        standby: id of the virtio NIC; empty: the only one with the primary's MAC, or the only one.
        destination: QMP socket of the QEMU that waits for the guest; empty: it cannot be asked.
    """

    def __init__(self, path: str, device: str, standby: str = "", destination: str = "") -> None:
        self.path = path
        self._device = device
        self._standby = standby
        self._destination = destination
        self._monitor = Monitor(path)
        self._unanswered = True
        """The guest may have been asked to let go of a device, by an earlier process too."""

    async def open(self) -> None:
        """See Hypervisor."""
        await self._monitor.open()

    async def close(self) -> None:
        """See Hypervisor."""
        await self._monitor.close()

    async def inspect(self) -> Guest:
        """See Hypervisor."""
        wanted = device_arguments(self._device)
        primary = str(wanted["id"])
        status = (await self._monitor.execute("query-status"))["status"]
        present = await self._peripherals()
        mac = str(wanted.get("mac", "")).lower()
        if primary in present:
            mac = str(await self._property(primary, "mac") or mac).lower()
        standby = await self._find_standby(present, primary, mac)
        return Guest(
            running=status == "running",
            standby=standby,
            standby_mac=str(await self._property(standby, "mac")).lower(),
            tap=await self._tap_of(standby),
            primary=primary,
            primary_mac=mac,
            plugged=primary in present,
            device=self._device,
            pci=str(wanted.get("host", "")),
        )

    async def set_link(self, standby: str, up: bool) -> None:
        """See Hypervisor."""
        await self._monitor.execute("set_link", name=standby, up=up)

    async def link_is(self, _standby: str) -> bool | None:
        """See Hypervisor: QMP cannot tell."""
        return None

    async def is_plugged(self, primary: str) -> bool:
        """See Hypervisor."""
        return primary in await self._peripherals()

    async def plug(self, primary: str, device: str) -> None:
        """See Hypervisor."""
        await self._monitor.run("device_add", device_arguments(device))
        if not await self.is_plugged(primary):
            raise HypervisorError(f"{primary}: device_add was accepted, but it is not there")

    async def unplug(self, primary: str, _device: str, timeout_s: float) -> None:
        """See Hypervisor."""
        self._unanswered = True
        async with self._monitor.listen("DEVICE_DELETED", *UNPLUG_REFUSED) as events:
            await self._monitor.execute("device_del", id=primary)
            try:
                async with asyncio.timeout(timeout_s):
                    await self._answer(events, primary)
            except TimeoutError as error:
                raise AnswerTimeoutError(
                    f"{primary}: the guest has not let go of it within {timeout_s:g} s (--unplug-timeout; does its"
                    " kernel handle PCI hot-unplug?)"
                ) from error

    async def _answer(self, events: EventListener, primary: str) -> None:
        async for event in events:
            data = event["data"]
            if not isinstance(data, dict):
                continue
            if primary not in (data.get("device"), str(data.get("path", "")).rpartition("/")[2]):
                continue
            self._unanswered = False
            if event["event"] in UNPLUG_REFUSED:
                raise GuestRefusedError(f"{primary}: the guest does not let go of it ({event['event']})")
            return

    async def settle(self, primary: str) -> None:
        """See Hypervisor. A guest that was asked and has not answered may let go a few seconds later."""
        async with self._monitor.listen("DEVICE_DELETED") as events:
            if self._unanswered and await self.is_plugged(primary):
                with contextlib.suppress(TimeoutError, GuestRefusedError):
                    async with asyncio.timeout(SETTLE_S):
                        await self._answer(events, primary)

    async def check_destination(self, to: str) -> list[str]:
        """See Hypervisor. The address itself is not tried: whoever connects first is taken for the guest."""
        scheme = to.partition(":")[0]
        if scheme not in ("tcp", "unix", "exec", "fd", "rdma"):
            return [f"{to}: not an address of QEMU's (tcp:HOST:PORT, unix:PATH)"]
        if not self._destination:
            return []
        try:
            async with self._far() as far:
                status = (await far.execute("query-status"))["status"]
        except TapbondError as error:
            return [str(error)]
        return [] if status == "inmigrate" else [f"{self._destination}: waits for no guest (it is {status})"]

    async def migrate(self, to: str, timeout_s: float, report: Report) -> None:
        """See Hypervisor."""
        if await self.place(to) is Place.HERE:
            # So the source hears whether the destination could take the guest, and else goes on with it.
            capabilities = [{"capability": "return-path", "state": True}]
            await self._monitor.execute("migrate-set-capabilities", capabilities=capabilities)
            await self._monitor.execute("migrate", uri=to)
        try:
            async with asyncio.timeout(timeout_s):
                await self._arrival(to, report)
        except TimeoutError as error:
            raise AnswerTimeoutError(f"{to}: not there within {timeout_s:g} s (--migrate-timeout)") from error

    async def _arrival(self, to: str, report: Report) -> None:
        while True:
            told = await self._monitor.execute("query-migrate")
            status = told.get("status", "none")
            if ram := told.get("ram"):
                report(
                    Progress(
                        transferred=ram["transferred"],
                        remaining=ram["remaining"],
                        total=ram["total"],
                        rate=ram.get("mbps", 0.0) * MIB,
                    )
                )
            if status == "completed":
                break
            if status in ("failed", "cancelled", "none"):
                raise HypervisorError(f"{to}: migration {status}: {told.get('error-desc', 'no reason is given')}")
            await asyncio.sleep(POLL_S)
        await self._end(to)

    async def _end(self, to: str) -> Place:
        """Wait until the guest is not on its way any more."""
        while True:
            if (place := await self.place(to)) is not Place.MOVING:
                return place
            await asyncio.sleep(POLL_S)

    async def place(self, _to: str) -> Place:
        """See Hypervisor."""
        status = await self._status()
        if status in STARTED or status == CANCELLING:
            return Place.MOVING
        running = (await self._monitor.execute("query-status"))["status"]
        if status != "completed" or running not in AWAY:
            return Place.HERE
        if not self._destination:
            return Place.THERE
        try:
            async with self._far() as far:
                there = (await far.execute("query-status"))["status"]
        except HypervisorError:
            return Place.UNCLEAR
        return {"running": Place.THERE, "inmigrate": Place.MOVING, "paused": Place.THERE}.get(there, Place.UNCLEAR)

    async def stay(self, to: str) -> None:
        """See Hypervisor."""
        if await self._status() in STARTED:
            await self._monitor.execute("migrate_cancel")
        try:
            async with asyncio.timeout(CANCEL_S):
                place = await self._end(to)
        except TimeoutError as error:
            raise UnclearError(f"{self.path}: the migration does not end though it was cancelled") from error
        if place is Place.THERE:
            raise NoWayBackError(f"{self.path}: the guest has moved to {to}")
        if place is Place.UNCLEAR:
            raise UnclearError(
                f"{self.path}: the guest was sent to {to} and is paused here; {self._destination} does not say"
                " that it runs there (look; only if it runs nowhere: cont here, then --abort)"
            )
        if (await self._monitor.execute("query-status"))["status"] in ("paused", *AWAY):
            await self._monitor.execute("cont")

    @contextlib.asynccontextmanager
    async def _far(self) -> AsyncIterator[Monitor]:
        far = Monitor(self._destination)
        await far.open()
        try:
            yield far
        finally:
            await far.close()

    async def _status(self) -> str:
        return str((await self._monitor.execute("query-migrate")).get("status", "none"))

    async def _peripherals(self) -> dict[str, str]:
        """Return the devices that have an id, and their types."""
        listed = await self._monitor.execute("qom-list", path=PERIPHERALS)
        children = (entry for entry in listed if entry["type"].startswith("child<"))
        return {entry["name"]: entry["type"][len("child<") : -1] for entry in children}

    async def _property(self, device: str, name: str) -> Any:
        """Return a property of a device, None where it has none of that name."""
        try:
            return await self._monitor.execute("qom-get", path=f"{PERIPHERALS}/{device}", property=name)
        except HypervisorError:
            return None

    async def _find_standby(self, present: Mapping[str, str], primary: str, mac: str) -> str:
        if self._standby:
            if self._standby not in present:
                raise PreconditionError([f"{self._standby}: {self.path} has no device of this id"])
            return self._standby
        found = [name for name, kind in present.items() if kind.startswith("virtio-net") and name != primary]
        same = [name for name in found if mac and str(await self._property(name, "mac")).lower() == mac]
        if len(same or found) != 1:
            raise PreconditionError(
                [f"{self.path}: which is the standby? (--standby ID; virtio: {', '.join(found) or 'none'})"]
            )
        return (same or found)[0]

    async def _tap_of(self, standby: str) -> str:
        """Return the TAP's name, empty where QEMU got it as a descriptor; only the human monitor tells."""
        netdev = await self._property(standby, "netdev")
        told = await self._monitor.run("human-monitor-command", {"command-line": "info network"})
        found = re.search(rf"{re.escape(str(netdev))}: [^\n]*type=tap,[^\n]*ifname=([^,\s]+)", str(told))
        return found[1] if found else ""


def device_arguments(text: str) -> dict[str, Any]:
    """Return the arguments of device_add.

    Raises:
        PreconditionError: the text is not a JSON object with ``driver`` and ``id``.
    """
    if not text:
        raise PreconditionError(["QMP does not tell how a device was made: say it with --device FILE"])
    try:
        found = json.loads(text)
    except ValueError as error:
        raise PreconditionError([f"--device: not JSON: {error}"]) from error
    if not isinstance(found, dict) or not {"driver", "id"} <= found.keys():
        raise PreconditionError(
            ['--device: not the arguments of device_add ({"driver": "vfio-pci", "id": "vf0", "host": …})']
        )
    return found
