"""A network interface of a domain, as far as a pair is concerned (libvirt's formatdomain, <interface>)."""

import re
from dataclasses import dataclass

from tapbond.teaming.source import Element, Source

MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
GROUP_BIT = 0x01


@dataclass(frozen=True, eq=False)
class Nic:
    """One <interface>, or a plain <hostdev> with a <teaming> (libvirt 7.1)."""

    element: Element

    @property
    def line(self) -> int:
        """Where it begins."""
        return self.element.line

    @property
    def passthrough(self) -> bool:
        """Whether it is a device of the host: a VF. One of a network's pool shows as type ``network``."""
        return self.element.tag == "hostdev" or self.element.attributes.get("type") == "hostdev"

    @property
    def mac(self) -> str:
        """Its MAC in small letters; empty: none is given."""
        return (self.element.value("mac", "address") or "").lower()

    @property
    def model(self) -> str:
        """Its model; empty: none is given, and the hypervisor chooses."""
        return self.element.value("model", "type") or ""

    @property
    def alias(self) -> str:
        """Its alias, empty where it has none."""
        return self.element.value("alias", "name") or ""

    @property
    def teaming(self) -> Element | None:
        """Its <teaming>."""
        return self.element.child("teaming")

    @property
    def part(self) -> str:
        """``persistent``, ``transient``, something else that is written there, or nothing."""
        return self.element.value("teaming", "type") or ""

    @property
    def persistent(self) -> str:
        """The alias of the other half that a transient one names."""
        return self.element.value("teaming", "persistent") or ""

    @property
    def label(self) -> str:
        """What a message calls it."""
        return f"<{self.element.tag}>" + (f" {self.alias or self.mac}" if self.alias or self.mac else "")


def nics(source: Source) -> list[Nic]:
    """Return those of a source, in its order; a plain <hostdev> only where it is teamed."""
    found = source.elements("interface", "hostdev")
    return [Nic(element) for element in found if element.tag == "interface" or element.child("teaming")]


def is_unicast(mac: str) -> bool:
    """Return whether a MAC is one that an interface may have."""
    return MAC.fullmatch(mac) is not None and not int(mac[:2], 16) & GROUP_BIT and mac != "00:00:00:00:00:00"
