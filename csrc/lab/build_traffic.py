"""Build ``tapbond.lab._traffic``, the lab's C half; run at the root of the repository, it builds in place."""

import sys
from pathlib import Path

from cffi import FFI

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from build_flags import compile_args, link_args  # noqa: E402 - setuptools runs this file by its path

HEADERS = ("traffic.h", "bench.h")
BEGIN, END = "/* cffi: begin */", "/* cffi: end */"


def declarations() -> str:
    """Return the parts of the headers that cffi reads, so that nothing is declared twice."""
    texts = [(HERE / header).read_text(encoding="utf-8") for header in HEADERS]
    return "".join(text[text.index(BEGIN) + len(BEGIN) : text.index(END)] for text in texts)


ffibuilder = FFI()
ffibuilder.cdef(declarations())
ffibuilder.set_source(
    "tapbond.lab._traffic",
    "".join(f'#include "{header}"\n' for header in HEADERS),
    sources=[f"csrc/lab/{name}.c" for name in ("echo", "flood", "relay", "spin", "stream", "traffic")],
    include_dirs=["csrc/lab"],
    depends=[f"csrc/lab/{header}" for header in HEADERS],
    extra_compile_args=compile_args(),
    extra_link_args=link_args(),
)

if __name__ == "__main__":
    ffibuilder.compile(tmpdir=".", verbose=False)
