"""Which PF a VF belongs to, and its number there, by its PCI address (Documentation/PCI/pci-iov-howto.rst)."""

from pathlib import Path


def physical_function(pci: str, sysfs: Path = Path("/sys")) -> tuple[str, int] | None:
    """Return name and VF number, None: it is no VF, or its PF has no network interface here.

    Args:
        pci: as ``0000:42:02.5``.
        sysfs: where sysfs is mounted.
    """
    parent = sysfs / "bus/pci/devices" / pci / "physfn"
    try:
        names = sorted(path.name for path in (parent / "net").iterdir())
        links = sorted(parent.glob("virtfn*"))
        number = next(int(link.name.removeprefix("virtfn")) for link in links if link.resolve().name == pci)
    except (OSError, StopIteration, ValueError):
        return None
    return (names[0], number) if names else None
