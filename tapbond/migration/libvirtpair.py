"""The pair in a libvirt domain's XML, live or as defined: teamed as the document has it, or of one MAC.

tapbond in the guest needs no <teaming>, which would have the guest's own net_failover take the pair.
"""

import re

import msgspec

from tapbond.migration.errors import PreconditionError
from tapbond.migration.facts import Guest
from tapbond.teaming.nic import Nic, nics
from tapbond.teaming.pair import PERSISTENT
from tapbond.teaming.source import Element, Source

NAME = "nic-"
"""Before the MAC: what the primary is called, for its alias is given anew each time that it is plugged."""


class Primary(msgspec.Struct, frozen=True, kw_only=True):
    """The half that is unplugged; all empty: it is not there."""

    alias: str = ""
    mac: str = ""
    pci: str = ""
    """Address of the host's device, as ``0000:42:02.5``."""
    xml: str = ""


class DomainPair(msgspec.Struct, frozen=True, kw_only=True):
    """Both, as one XML tells of them."""

    alias: str
    """Of the standby."""
    mac: str
    tap: str
    link_up: bool
    device: str
    """XML of the primary, empty where it is not there."""
    problems: tuple[str, ...] = ()


def device_name(mac: str) -> str:
    """Return what the primary of this MAC is called."""
    return NAME + mac


def find_pair(source: Source, alias: str = "", mac: str = "") -> DomainPair:
    """Return the pair.

    Args:
        source: of the domain.
        alias: of the standby; empty: the one that is persistent, else the virtio one that shares its MAC.
        mac: of the standby, where an alias is not kept.

    Raises:
        PreconditionError: it cannot be told which NIC is the standby.
    """
    all_nics = [nic for nic in nics(source) if nic.element.tag == "interface"]
    virtio = [nic for nic in all_nics if nic.model.startswith("virtio") and not nic.passthrough]
    named = [nic for nic in virtio if alias and nic.alias == alias] or [nic for nic in virtio if mac == nic.mac]
    teamed = [nic for nic in virtio if nic.part == PERSISTENT]
    twins = [nic for nic in virtio if any(other.mac == nic.mac for other in all_nics if other is not nic)]
    found = named if alias or mac else teamed or twins or virtio
    if len(found) != 1:
        names = ", ".join(nic.alias or nic.mac for nic in virtio) or "none"
        raise PreconditionError([f"{source.name}: which NIC is the standby? (--standby ALIAS; virtio: {names})"])
    (standby,) = found
    return DomainPair(
        alias=standby.alias or alias,
        mac=standby.mac,
        tap=standby.element.value("target", "dev") or "",
        link_up=standby.element.value("link", "state") != "down",
        device=find_primary(source, standby.mac).xml,
        problems=_problems(standby, all_nics),
    )


def guest_of(pair: DomainPair, device: str, *, running: bool) -> Guest:
    """Return the guest of a live pair; ``device`` is the XML that plugs its primary."""
    primary = find_primary(Source(device.encode(), "--device"), pair.mac)
    other = () if primary.xml else (f"--device: no NIC of the guest's MAC, {pair.mac}",)
    return Guest(
        running=running,
        standby=pair.alias,
        standby_mac=pair.mac,
        tap=pair.tap,
        link_up=pair.link_up,
        primary=device_name(pair.mac),
        primary_mac=pair.mac,
        plugged=bool(pair.device),
        device=device,
        pci=primary.pci,
        problems=pair.problems + other,
    )


def _problems(standby: Nic, all_nics: list[Nic]) -> tuple[str, ...]:
    wrong = [
        nic for nic in all_nics if standby.alias and nic.persistent == standby.alias and nic.mac != standby.mac
    ]
    return tuple(
        f"{nic.label}: is teamed with {standby.alias}, whose MAC {standby.mac} is another (tapbond teaming)"
        for nic in wrong
    )


def find_primary(source: Source, mac: str) -> Primary:
    """Return the NIC of a MAC, or of a name of device_name(), that is not virtio; empty: the only one there is."""
    wanted = mac.removeprefix(NAME)
    for nic in nics(source):
        if nic.model.startswith("virtio") and not nic.passthrough:
            continue
        if wanted in ("", nic.mac):
            element = nic.element
            return Primary(
                alias=nic.alias,
                mac=nic.mac,
                pci=_pci(element),
                xml=source.data[element.start : element.end].decode(source.encoding),
            )
    return Primary()


def _pci(element: Element) -> str:
    """Return the host's PCI address of a hostdev, as sysfs writes it."""
    place = element.child("source")
    address = place.child("address") if place else None
    if address is None or address.attributes.get("type", "pci") != "pci":
        return ""
    try:
        domain, bus, slot, function = (
            int(address.attributes.get(name, "0"), 0) for name in ("domain", "bus", "slot", "function")
        )
    except ValueError:
        return ""
    return f"{domain:04x}:{bus:02x}:{slot:02x}.{function:x}"


def link_xml(source: Source, alias: str, up: bool) -> str:
    """Return the XML of a standby with another link state, for virDomainUpdateDeviceFlags().

    Raises:
        PreconditionError: it is not there.
    """
    nic = next((nic for nic in nics(source) if nic.alias == alias), None)
    if nic is None:
        raise PreconditionError([f"{source.name}: no NIC of the alias {alias}"])
    text = source.data[nic.element.start : nic.element.end].decode(source.encoding)
    alone = Source(re.sub(r"<link\s[^>]*/>", "", text).encode(), source.name)
    element = alone.elements("interface")[0]
    return alone.edited(alone.insert(element, f"<link state='{'up' if up else 'down'}'/>")).data.decode()
