"""Which PF a VF belongs to, and its number there, by its PCI address (Documentation/PCI/pci-iov-howto.rst).

Names of interfaces are not read here: sysfs shows those of the network namespace that it was mounted in.
"""

from pathlib import Path


def physical_function(pci: str, sysfs: Path = Path("/sys")) -> tuple[str, int] | None:
    """Return the PCI address of the PF and the VF's number, None: it is no VF.

    Args:
        pci: as ``0000:42:02.5``.
        sysfs: where sysfs is mounted.
    """
    parent = sysfs / "bus/pci/devices" / pci / "physfn"
    try:
        links = sorted(parent.glob("virtfn*"))
        number = next(int(link.name.removeprefix("virtfn")) for link in links if link.resolve().name == pci)
    except (OSError, StopIteration, ValueError):
        return None
    return parent.resolve().name, number
