"""The guest's root as one initramfs: Python, this program with what it needs, and some tools."""

from __future__ import annotations

import importlib.metadata
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path
from typing import TYPE_CHECKING

from tapbond.errors import TapbondError

from . import agent
from .cpio import Cpio

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from .kernel import Kernel

TOOLS = ("ip", "ethtool", "ping", "nft", "sh")
MODULES = (
    *("virtio_pci", "virtio_console", "virtio_net", "e1000e", "vmxnet3", "bonding", "tun", "bridge", "veth"),
    *("8021q", "macvlan", "sch_ingress", "act_mirred", "cls_matchall", "cls_u32"),
    *("crc32c_generic", "nf_tables"),  # the first is what libcrc32c asks for by a name that is no file's
)
MODULE_OPTIONS = {"e1000e": "IntMode=" + ",".join(["0"] * 32), "bonding": "max_bonds=0"}
"""With MSI-X the guest misses what QEMU does to an e1000e's link; legacy interrupts tell it.

The driver numbers its NICs as they are plugged, takes no number twice until it is loaded again, and knows 32.
"""

_LEFT_OUT = frozenset(
    ("test", "tests", "idlelib", "ensurepip", "lib2to3", "tkinter", "turtledemo", "site-packages", "pydoc_data")
)
_ELF = b"\x7fELF"
_NAME = re.compile(r"[A-Za-z0-9._-]+")
_LIBRARY = re.compile(r"(?:=>\s+|^\s+)(/\S+)", re.MULTILINE)


class Image:
    """Paths of this machine, copied under the same names.

    Args:
        cpio: where they go.
    """

    def __init__(self, cpio: Cpio) -> None:
        self._cpio = cpio
        self._added: set[str] = set()

    def add(self, path: Path) -> None:
        """Add a file with the directories and symbolic links that lead to it; again is harmless."""
        here = Path("/")
        parts = Path(os.path.normpath(path.absolute())).parts[1:]
        for at, part in enumerate(parts):
            here /= part
            last = at == len(parts) - 1
            if here.is_symlink():
                target = here.readlink()
                if self._new(here):
                    self._cpio.symlink(str(here), str(target))
                self.add((here.parent / target).joinpath(*parts[at + 1 :]))
                return
            if self._new(here):
                self._write(here, directory=not last or here.is_dir())

    def _new(self, path: Path) -> bool:
        name = str(path)
        if name in self._added:
            return False
        self._added.add(name)
        return True

    def _write(self, path: Path, *, directory: bool) -> None:
        if directory:
            self._cpio.directory(str(path))
            return
        status = path.stat()
        self._cpio.file(str(path), path.read_bytes(), mode=status.st_mode & 0o777, mtime=int(status.st_mtime))

    def make_directory(self, name: str) -> None:
        """Add an empty directory of the guest's own."""
        if self._new(Path(name)):
            self._cpio.directory(name)

    def make_file(self, name: str, content: bytes, mode: int = 0o644) -> None:
        """Add a file of the guest's own."""
        if self._new(Path(name)):
            self._cpio.file(name, content, mode=mode)


def _tree(root: Path) -> Iterator[Path]:
    for folder, folders, files in os.walk(root):
        folders[:] = sorted(name for name in folders if name not in _LEFT_OUT and not name.startswith("config-"))
        yield from (Path(folder) / name for name in sorted(files) if not name.endswith((".a", ".pyi", ".c")))


def _distributions(name: str, seen: set[str]) -> Iterator[importlib.metadata.Distribution]:
    """Yield an installed package and what it requires, without extras."""
    if name.lower() in seen:
        return
    seen.add(name.lower())
    try:
        found = importlib.metadata.distribution(name)
    except importlib.metadata.PackageNotFoundError:
        return  # of another platform or Python
    yield found
    for requirement in found.requires or ():
        wanted = _NAME.match(requirement)
        if wanted and "extra ==" not in requirement:
            yield from _distributions(wanted[0], seen)


def _program(tools: Iterable[str]) -> Iterator[Path]:
    yield Path(sys.executable)
    yield from _tree(Path(sysconfig.get_path("stdlib")))
    if sys.prefix != sys.base_prefix:
        yield Path(sys.prefix) / "pyvenv.cfg"
    for distribution in _distributions("tapbond", set()):
        for file in distribution.files or ():
            path = Path(os.path.normpath(str(distribution.locate_file(file))))
            if not _LEFT_OUT.intersection(path.parts) - {"site-packages"} and path.exists():
                yield path
    # Installed editable, it is not among the package's files, nor may be what leads to it.
    yield from _tree(Path(__file__).parents[2])
    yield from Path(sysconfig.get_path("purelib")).glob("__editable__*")
    for tool in tools:
        if (found := shutil.which(tool)) is None:
            raise TapbondError(f"{tool}: not installed, and the guest needs it")
        yield Path(found)


def _is_elf(path: Path) -> bool:
    if path.suffix in {".py", ".pyc"} or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(len(_ELF)) == _ELF


def _libraries(paths: Iterable[Path]) -> list[Path]:
    """Return the shared libraries of programs and of extension modules."""
    elf = [str(path) for path in paths if _is_elf(path)]
    ldd = subprocess.run(["ldd", *elf], capture_output=True, text=True, check=False)  # noqa: S603, S607
    return [Path(found) for found in sorted(set(_LIBRARY.findall(ldd.stdout)))]


def build(
    out: Path, kernel: Kernel, *, tools: Iterable[str] = TOOLS, modules: Iterable[str] = MODULES,
    options: Mapping[str, str] = MODULE_OPTIONS,
) -> None:  # fmt: skip
    """Write the guest's root.

    Args:
        out: the archive.
        kernel: whose modules go in.
        tools: programs to take from this machine, with their libraries.
        modules: those that the guest loads when it boots, with what they depend on.
        options: of modules, as for modprobe.

    Raises:
        TapbondError: a tool or a module is missing.
    """
    paths = list(dict.fromkeys(_program(tools)))
    ordered = kernel.modules(modules)
    with out.open("wb") as file, Cpio(file) as cpio:
        image = Image(cpio)
        for name in ("/proc", "/sys", "/dev", "/run", "/tmp", "/modules"):  # noqa: S108 - the guest's
            image.make_directory(name)
        for path in (*paths, *_libraries(paths)):
            image.add(path)
        for module in ordered:
            image.make_file(f"/modules/{module.name}", module.read_bytes())
        lines = (f"{module.name} {options.get(module.stem.replace('-', '_'), '')}" for module in ordered)
        image.make_file("/modules/list", "\n".join(lines).encode())
        python = Path(sys.executable).resolve()
        source = Path(agent.__file__).read_text(encoding="utf-8")
        image.make_file("/init", f"#!{python} -IS\n{source}".encode(), 0o755)
