"""Look before anything is touched: what the plan needs to know, and everything that would make it fail."""

from pathlib import Path

import msgspec

from tapbond.errors import TapbondError
from tapbond.migration.errors import PreconditionError
from tapbond.migration.facts import Facts, FdbEntry, Guest, Kind
from tapbond.migration.step import Site
from tapbond.migration.virtualfunction import physical_function


class Wishes(msgspec.Struct, frozen=True, kw_only=True):
    """What a user says; what is left empty is found out."""

    kind: Kind
    domain: str
    connect: str = ""
    to: str = ""
    destination: str = ""
    transport: str = ""
    device: str = ""
    """What plugs the VF; empty: as the hypervisor knows it."""
    netns: str = ""
    tap: str = ""
    uplink: str = ""
    pf: str = ""
    vf: int | None = None
    link_at_rest: str = "down"
    """``down`` as the document has it; ``up``: the standby's link is never touched."""
    unplug_timeout_s: float = 30.0
    migrate_timeout_s: float = 3600.0
    sysfs: Path = Path("/sys")


async def survey(site: Site, wishes: Wishes) -> Facts:
    """Return the facts.

    Raises:
        PreconditionError: something is not as it must be; all of it is told.
        TapbondError: hypervisor or kernel could not be asked.
    """
    guest = await site.hypervisor.inspect()
    problems = list(guest.problems) + _of_guest(guest, wishes)
    pf, vf, wrong = await _pf(site, wishes, guest)
    problems += wrong
    vf_mac = ""
    if pf:
        vf_mac, wrong = await _vf(site, wishes, guest, pf, vf)
        problems += wrong
    tap = wishes.tap or guest.tap
    entries, wrong = await _bridge(site, wishes, guest, tap)
    problems += wrong
    if wishes.kind is Kind.MIGRATE:
        problems += await site.hypervisor.check_destination(wishes.to)
    if problems:
        raise PreconditionError(problems)
    at_rest = wishes.link_at_rest == "up"
    migrating = wishes.kind is Kind.MIGRATE
    link_was_up = guest.link_up if guest.link_up is not None else (at_rest or not migrating)
    return Facts(
        kind=wishes.kind,
        domain=wishes.domain,
        connect=wishes.connect,
        to=wishes.to,
        destination=wishes.destination,
        transport=wishes.transport,
        netns=wishes.netns,
        mac=guest.standby_mac,
        standby=guest.standby,
        primary=guest.primary,
        device=guest.device,
        link_was_up=link_was_up,
        link_goes=True if migrating else at_rest,
        tap=tap,
        uplink=wishes.uplink,
        pf=pf,
        vf=vf or 0,
        vf_mac=vf_mac,
        fdb=entries,
        unplug_timeout_s=wishes.unplug_timeout_s,
        migrate_timeout_s=wishes.migrate_timeout_s,
    )


def _of_guest(guest: Guest, wishes: Wishes) -> list[str]:
    problems = []
    if not guest.running:
        problems.append(f"{wishes.domain}: not running")
    if guest.primary_mac and guest.primary_mac != guest.standby_mac:
        problems.append(
            f"{guest.primary}: its MAC {guest.primary_mac} is not that of {guest.standby}, {guest.standby_mac}"
        )
    if wishes.kind is Kind.MIGRATE and not guest.plugged:
        problems.append(f"{guest.primary}: not plugged in, nothing to unplug (see: tapbond reattach)")
    if wishes.kind is Kind.REATTACH and guest.plugged:
        problems.append(f"{guest.primary}: plugged in already")
    return problems


async def _pf(site: Site, wishes: Wishes, guest: Guest) -> tuple[str, int | None, list[str]]:
    """Return name of the PF and number of the VF; empty: the primary is no VF."""
    if wishes.pf or not guest.pci or (found := physical_function(guest.pci, wishes.sysfs)) is None:
        return wishes.pf, wishes.vf, []
    address, number = found
    if name := await site.network.link_of(address):
        return name, number, []
    where = f" in {wishes.netns}" if wishes.netns else ""
    return (
        "",
        None,
        [f"{guest.pci}: its PF {address} has no interface{where} (--pf LINK --vf {number}, or --netns)"],
    )


async def _vf(site: Site, wishes: Wishes, guest: Guest, pf: str, vf: int | None) -> tuple[str, list[str]]:
    """Return the VF's MAC as its PF gives it, and what is wrong with it."""
    if vf is None:
        return "", [f"{pf}: which VF of it? (--vf N)"]
    try:
        mac = await site.network.vf_mac(pf, vf)
    except TapbondError as error:
        return "", [str(error)]
    if mac is None:
        return "", [f"{pf}: has no VF {vf} (see: ip link show {pf})"]
    if wishes.kind is Kind.MIGRATE and mac != guest.standby_mac:
        return mac, [f"{pf}: VF {vf} has the MAC {mac}, not that of the guest, {guest.standby_mac}"]
    return mac, []


async def _bridge(site: Site, wishes: Wishes, guest: Guest, tap: str) -> tuple[tuple[FdbEntry, ...], list[str]]:
    """Return the entries to add or to remove, and what is wrong with bridge and ports."""
    if not tap:
        return (), [f"{guest.standby}: the hypervisor does not name its TAP (--tap NAME)"]
    wanted = [FdbEntry(mac=guest.standby_mac, link=tap, master=True)]
    if wishes.uplink:
        wanted.insert(0, FdbEntry(mac=guest.standby_mac, link=wishes.uplink, master=False))
    problems = await _ports(site, wishes, tap)
    if problems:
        return (), problems
    present = [entry for entry in await site.network.entries(guest.standby_mac) if entry in wanted]
    if wishes.kind is Kind.REATTACH:
        return tuple(entry for entry in wanted if entry in present), []
    return tuple(wanted), [
        f"{entry.link}: {entry.mac} is in its forwarding table already ({entry.command('del')})"
        for entry in present
    ]


async def _ports(site: Site, wishes: Wishes, tap: str) -> list[str]:
    where = f" in {wishes.netns}" if wishes.netns else ""
    problems = []
    masters = set()
    for name in filter(None, (tap, wishes.uplink)):
        link = await site.network.find(name)
        if link is None:
            problems.append(f"{name}: no such interface{where}")
        elif not link.master:
            problems.append(f"{name}: not a port of a bridge (ip link set {name} master BRIDGE)")
        else:
            masters.add(link.master)
    if len(masters) > 1:
        names = [await site.network.name_of(master) for master in sorted(masters)]
        problems.append(f"{tap} and {wishes.uplink}: ports of different bridges ({', '.join(names)})")
    return problems
