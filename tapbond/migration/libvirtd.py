"""Hypervisor over libvirt (libvirt-python): what virsh domif-setlink, detach-device, migrate and attach-device do.

The library blocks: every call is made in a thread. Its events need a loop of its own, in another thread.
"""

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any, TypeVar

import libvirt

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
from tapbond.migration.libvirtevents import start_events
from tapbond.migration.libvirtpair import find_pair, find_primary, guest_of, link_xml
from tapbond.teaming import Source

T = TypeVar("T")

POLL_S = 0.2
SETTLE_S = 8.0
"""A Linux guest acts 5 s after the button of a PCIe slot (pciehp_ctrl.c)."""
CANCEL_S = 60.0
LIVE, CONFIG = libvirt.VIR_DOMAIN_AFFECT_LIVE, libvirt.VIR_DOMAIN_AFFECT_CONFIG
MIGRATE = libvirt.VIR_MIGRATE_LIVE | libvirt.VIR_MIGRATE_PERSIST_DEST
"""The document's ``virsh migrate --live --persistent``."""


class Libvirt:
    """See above.

    Args:
        domain: name or UUID.
        connect: URI of the libvirt that runs it.
        device: XML of the primary; empty: what the domain's own definition says.
        standby: alias of the virtio NIC; empty: the one that is teamed, or shares its MAC.
        transport: URI for the guest's memory; empty: the destination chooses.
    """

    def __init__(
        self, domain: str, connect: str, device: str = "", standby: str = "", transport: str = ""
    ) -> None:
        self.domain = domain
        self.connect = connect
        self._device = device
        self._standby = standby
        self._transport = transport
        self._connection: Any = None
        self._unanswered = True
        """The guest may have been asked to let go of a device, by an earlier process too."""

    async def open(self) -> None:
        """See Hypervisor."""
        start_events()
        self._connection = await self._call(libvirt.open, self.connect)

    async def close(self) -> None:
        """See Hypervisor."""
        connection, self._connection = self._connection, None
        if connection is not None:
            await self._call(connection.close)

    async def inspect(self) -> Guest:
        """See Hypervisor."""
        domain = await self._find()
        if domain is None:
            raise PreconditionError([f"{self.domain}: {self.connect} has no such domain"])
        state, _ = await self._call(domain.state)
        pair = find_pair(await self._xml(domain), self._standby)
        kept = pair
        if await self._call(domain.isPersistent):
            kept = find_pair(await self._xml(domain, libvirt.VIR_DOMAIN_XML_INACTIVE), pair.alias, pair.mac)
        device = self._device or kept.device or pair.device
        if not device:
            raise PreconditionError([f"{self.domain}: has no second NIC of {pair.mac} (--device FILE)"])
        return guest_of(pair, device, running=state == libvirt.VIR_DOMAIN_RUNNING)

    async def set_link(self, standby: str, up: bool) -> None:
        """See Hypervisor."""
        domain = await self._domain()
        await self._call(domain.updateDeviceFlags, link_xml(await self._xml(domain), standby, up), LIVE)

    async def link_is(self, standby: str) -> bool | None:
        """See Hypervisor."""
        return find_pair(await self._xml(await self._domain()), standby).link_up

    async def is_plugged(self, primary: str) -> bool:
        """See Hypervisor."""
        return bool(await self._alias(await self._domain(), primary))

    async def plug(self, _primary: str, device: str) -> None:
        """See Hypervisor."""
        domain = await self._domain()
        await self._call(domain.attachDeviceFlags, device, LIVE)
        if await self._call(domain.isPersistent) and not await self._in_definition(domain, device):
            await self._call(domain.attachDeviceFlags, device, CONFIG)

    async def unplug(self, primary: str, device: str, timeout_s: float) -> None:
        """See Hypervisor."""
        domain = await self._domain()
        alias = await self._alias(domain, primary)
        answers: asyncio.Queue[bool] = asyncio.Queue()
        self._unanswered = True
        registered = await self._listen(domain, alias, answers)
        try:
            await self._call(domain.detachDeviceAlias, alias, LIVE)
            async with asyncio.timeout(timeout_s):
                removed = await answers.get()
        except TimeoutError as error:
            raise AnswerTimeoutError(
                f"{primary}: the guest has not let go of it within {timeout_s:g} s (--unplug-timeout; does its"
                " kernel handle PCI hot-unplug?)"
            ) from error
        finally:
            for number in registered:
                await self._call(self._connection.domainEventDeregisterAny, number)
        self._unanswered = False
        if not removed:
            raise GuestRefusedError(f"{primary}: the guest does not let go of it")
        if await self._call(domain.isPersistent) and await self._in_definition(domain, device):
            await self._call(domain.detachDeviceFlags, device, CONFIG)

    async def _listen(self, domain: Any, alias: str, answers: "asyncio.Queue[bool]") -> list[int]:
        """Have the answer about a device put into the queue; return what ends it."""
        loop = asyncio.get_running_loop()

        def heard(_connection: Any, _domain: Any, device: str, removed: bool) -> None:
            if device == alias:
                loop.call_soon_threadsafe(answers.put_nowait, removed)

        events = (
            (libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVED, True),
            (libvirt.VIR_DOMAIN_EVENT_ID_DEVICE_REMOVAL_FAILED, False),
        )
        return [
            await self._call(self._connection.domainEventRegisterAny, domain, event, heard, removed)
            for event, removed in events
        ]

    async def settle(self, primary: str) -> None:
        """See Hypervisor. A guest that was asked and has not answered may let go a few seconds later."""
        end = asyncio.get_running_loop().time() + SETTLE_S
        while self._unanswered and asyncio.get_running_loop().time() < end:
            if not await self.is_plugged(primary):
                return
            await asyncio.sleep(POLL_S)

    async def check_destination(self, to: str) -> list[str]:
        """See Hypervisor."""
        try:
            far = await self._call(libvirt.open, to)
        except HypervisorError as error:
            return [f"{to}: {error}"]
        try:
            domain = await self._find(far)
            if domain is not None and await self._call(domain.isActive):
                return [f"{to}: runs a domain {self.domain} already"]
        finally:
            await self._call(far.close)
        return []

    async def migrate(self, to: str, timeout_s: float, report: Report) -> None:
        """See Hypervisor."""
        if await self._end(to, timeout_s) is Place.THERE:
            return
        domain = await self._domain()
        far = await self._call(libvirt.open, to)
        parameters = {libvirt.VIR_MIGRATE_PARAM_URI: self._transport} if self._transport else {}
        moving = asyncio.ensure_future(self._call(domain.migrate3, far, parameters, MIGRATE))
        try:
            async with asyncio.timeout(timeout_s):
                while not moving.done():
                    await asyncio.wait((moving,), timeout=POLL_S)
                    await self._report(domain, report)
            moving.result()
        except TimeoutError as error:
            raise AnswerTimeoutError(f"{to}: not there within {timeout_s:g} s (--migrate-timeout)") from error
        finally:
            moving.add_done_callback(lambda moved: (moved.cancelled() or moved.exception(), far.close()))

    async def _report(self, domain: Any, report: Report) -> None:
        try:
            told = await self._call(domain.jobStats)
        except HypervisorError:
            return  # it has gone
        if told.get("type") == libvirt.VIR_DOMAIN_JOB_UNBOUNDED:
            report(
                Progress(
                    transferred=told.get("data_processed", 0),
                    remaining=told.get("data_remaining", 0),
                    total=told.get("data_total", 0),
                    rate=float(told.get("memory_bps", 0)),
                )
            )

    async def place(self, to: str) -> Place:
        """See Hypervisor."""
        domain = await self._find()
        if domain is not None and await self._call(domain.isActive):
            job = (await self._call(domain.jobInfo))[0]
            if job != libvirt.VIR_DOMAIN_JOB_NONE:
                return Place.MOVING
            if (await self._call(domain.state))[0] == libvirt.VIR_DOMAIN_RUNNING:
                return Place.HERE
        try:
            far = await self._call(libvirt.open, to)
        except HypervisorError:
            return Place.UNCLEAR
        try:
            there = await self._find(far)
            running = there is not None and (await self._call(there.state))[0] == libvirt.VIR_DOMAIN_RUNNING
        finally:
            await self._call(far.close)
        return Place.THERE if running else Place.UNCLEAR

    async def _end(self, to: str, timeout_s: float, *, cancel: bool = False) -> Place:
        """Wait until the guest is not on its way any more, also one that an earlier process sent."""
        end = asyncio.get_running_loop().time() + timeout_s
        while (place := await self.place(to)) is Place.MOVING:
            if asyncio.get_running_loop().time() > end:
                raise AnswerTimeoutError(f"{to}: not there within {timeout_s:g} s (--migrate-timeout)")
            if cancel:
                with contextlib.suppress(HypervisorError):  # it may have just ended
                    await self._call((await self._domain()).abortJob)
            await asyncio.sleep(POLL_S)
        return place

    async def stay(self, to: str) -> None:
        """See Hypervisor."""
        try:
            place = await self._end(to, CANCEL_S, cancel=True)
        except AnswerTimeoutError as error:
            raise UnclearError(f"{self.domain}: the migration does not end though it was cancelled") from error
        if place is Place.THERE:
            raise NoWayBackError(f"{self.domain}: has moved to {to}")
        if place is Place.UNCLEAR:
            raise UnclearError(
                f"{self.domain}: runs neither here nor, as far as can be told, at {to} (look there)"
            )

    async def _alias(self, domain: Any, primary: str) -> str:
        """Return the live alias of the primary, empty where it is not plugged in."""
        return find_primary(await self._xml(domain), primary).alias

    async def _in_definition(self, domain: Any, device: str) -> bool:
        mac = find_primary(Source(device.encode(), "device"), "").mac
        kept = await self._xml(domain, libvirt.VIR_DOMAIN_XML_INACTIVE)
        return bool(find_primary(kept, mac).xml)

    async def _xml(self, domain: Any, flags: int = 0) -> Source:
        return Source((await self._call(domain.XMLDesc, flags)).encode(), self.domain)

    async def _domain(self) -> Any:
        domain = await self._find()
        if domain is None:
            raise HypervisorError(f"{self.domain}: {self.connect} has no such domain")
        return domain

    async def _find(self, connection: Any = None) -> Any:
        """Return the domain, None where there is none."""
        connection = connection or self._connection
        for look in (connection.lookupByName, connection.lookupByUUIDString):
            try:
                return await asyncio.to_thread(look, self.domain)
            except libvirt.libvirtError as error:
                if error.get_error_code() not in (libvirt.VIR_ERR_NO_DOMAIN, libvirt.VIR_ERR_INVALID_ARG):
                    raise HypervisorError(f"{self.domain}: {_reason(error)}") from error
        return None

    async def _call(self, call: Callable[..., T], *arguments: Any) -> T:
        """Return what a blocking call returns.

        Raises:
            HypervisorError: libvirt says no.
        """
        try:
            return await asyncio.to_thread(call, *arguments)
        except libvirt.libvirtError as error:
            raise HypervisorError(f"{self.domain}: {_reason(error)}") from error


def _reason(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]
