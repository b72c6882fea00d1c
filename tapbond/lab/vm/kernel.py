"""A Debian kernel that was unpacked and not installed: its image, and modules in the order of loading."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from tapbond.errors import TapbondError

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

_DEPENDS = re.compile(rb"\0depends=([^\0]*)\0")
_PREFIX = "vmlinuz-"


def _canonical(name: str) -> str:
    return name.replace("-", "_")


class Kernel:
    """What ``.ci/debian-kernel`` left in a folder.

    Args:
        root: the folder with ``boot`` and ``lib/modules``.

    Raises:
        TapbondError: there is none.
    """

    def __init__(self, root: Path) -> None:
        images = sorted(root.glob(f"boot/{_PREFIX}*"))
        if not images:
            raise TapbondError(f"{root}: no kernel here (.ci/debian-kernel {root} fetches Debian's)")
        self.image = images[-1]
        self.release = self.image.name.removeprefix(_PREFIX)
        self._files = {
            _canonical(file.name.removesuffix(".ko")): file
            for file in root.glob(f"lib/modules/{self.release}/kernel/**/*.ko")
        }

    def modules(self, names: Iterable[str]) -> list[Path]:
        """Return the files of modules and of what they depend on, in an order in which they can be loaded.

        There is no modules.dep in a kernel that was not installed: each module says itself what it depends on.

        Raises:
            TapbondError: the kernel has no such module.
        """
        ordered: dict[str, Path] = {}
        for name in names:
            self._visit(_canonical(name), ordered)
        return list(ordered.values())

    def _visit(self, name: str, ordered: dict[str, Path]) -> None:
        if name in ordered:
            return
        if name not in self._files:
            raise TapbondError(f"{name}: no such module in the kernel {self.release}")
        file = self._files[name]
        found = _DEPENDS.search(file.read_bytes())
        for needed in found[1].decode().split(",") if found else ():
            if needed:
                self._visit(_canonical(needed), ordered)
        ordered[name] = file
