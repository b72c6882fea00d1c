"""Build the data plane as ``tapbond._core``: the declarations come from tapbond.h, so they stand once."""

import sys
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

from build_flags import compile_args, link_args  # noqa: E402  (found beside this file)

SOURCES = [
    "pump",
    "forward",
    "queues",
    "adopt",
    "port",
    "batch",
    "busy",
    "select",
    "recent",
    "sources",
    "vlan",
    "carrier",
    "watch",
    "fuse",
    "netns",
    "thread",
    "mailbox",
    "report",
    "stats",
]


def declarations() -> str:
    """Return the part of tapbond.h between the cffi marks."""
    header = (HERE / "tapbond.h").read_text()
    return header.split("/* cffi: begin */")[1].split("/* cffi: end */")[0]


ffibuilder = FFI()
ffibuilder.cdef(declarations())
ffibuilder.set_source(
    "tapbond._core",
    '#include "tapbond.h"',
    sources=[f"csrc/{name}.c" for name in SOURCES],
    include_dirs=["csrc"],
    depends=[str(path.relative_to(HERE.parent)) for path in sorted(HERE.glob("*.[ch]"))],
    extra_compile_args=compile_args(),
    extra_link_args=link_args(),
)

if __name__ == "__main__":
    ffibuilder.compile(verbose=True)
