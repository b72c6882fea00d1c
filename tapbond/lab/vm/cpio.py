"""An initramfs as the kernel unpacks it: a cpio archive, format newc (initramfs-buffer-format)."""

from __future__ import annotations

import stat
from typing import IO, Self

_MAGIC = b"070701"
_ALIGN = 4
_END = "TRAILER!!!"


class Cpio:
    """Entries written one after the other; a directory must come before what is in it.

    Args:
        out: where to write.
    """

    def __init__(self, out: IO[bytes]) -> None:
        self._out = out
        self._inode = 0

    def directory(self, name: str) -> None:
        """Add a directory."""
        self._entry(name, stat.S_IFDIR | 0o755, b"")

    def symlink(self, name: str, target: str) -> None:
        """Add a symbolic link."""
        self._entry(name, stat.S_IFLNK | 0o777, target.encode())

    def file(self, name: str, content: bytes, *, mode: int = 0o644, mtime: int = 0) -> None:
        """Add a file; ``mtime`` in seconds is what Python compares its compiled files with."""
        self._entry(name, stat.S_IFREG | mode, content, mtime)

    def _entry(self, name: str, mode: int, content: bytes, mtime: int = 0) -> None:
        self._inode += 1
        path = name.lstrip("/").encode() + b"\0"
        # ino mode uid gid nlink mtime filesize devmajor devminor rdevmajor rdevminor namesize check
        fields = (self._inode, mode, 0, 0, 1, mtime, len(content), 0, 0, 0, 0, len(path), 0)
        head = _MAGIC + b"".join(b"%08x" % field for field in fields) + path
        self._out.write(head + bytes(-len(head) % _ALIGN) + content + bytes(-len(content) % _ALIGN))

    def close(self) -> None:
        """End the archive."""
        self._entry(_END, 0, b"")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
