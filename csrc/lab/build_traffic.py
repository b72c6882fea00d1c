"""Build ``tapbond.lab._traffic``, the lab's C half; run at the root of the repository, it builds in place."""

import sys
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from build_flags import compile_args, link_args  # noqa: E402 - setuptools runs this file by its path

BEGIN, END = "/* cffi: begin */", "/* cffi: end */"


def declarations() -> str:
    """Return the part of traffic.h that cffi reads, so that nothing is declared twice."""
    text = (HERE / "traffic.h").read_text(encoding="utf-8")
    return text[text.index(BEGIN) + len(BEGIN) : text.index(END)]


ffibuilder = FFI()
ffibuilder.cdef(declarations())
ffibuilder.set_source(
    "tapbond.lab._traffic",
    '#include "traffic.h"',
    sources=[f"csrc/lab/{name}.c" for name in ("stream", "traffic")],
    include_dirs=["csrc/lab"],
    depends=["csrc/lab/traffic.h"],
    extra_compile_args=compile_args(),
    extra_link_args=link_args(),
)

if __name__ == "__main__":
    ffibuilder.compile(tmpdir=".", verbose=False)
