"""Compiler flags shared by the C extensions: every warning is an error where TAPBOND_STRICT is set.

``TAPBOND_SANITIZE=address,undefined`` builds the same code under the sanitizers (``make test-sanitize``).
"""

import os

WARNINGS = ["-Wall", "-Wextra", "-Wshadow", "-Wstrict-prototypes"]


def compile_args() -> list[str]:
    """Return the flags for compiling csrc/; cffi's generated glue leaves some parameters unused."""
    flags = ["-std=gnu11", "-D_GNU_SOURCE=1", "-O2", "-g", "-pthread", *WARNINGS, "-Wno-unused-parameter"]
    if os.environ.get("TAPBOND_STRICT"):
        flags.append("-Werror")
    if sanitizers := os.environ.get("TAPBOND_SANITIZE"):
        flags += [f"-fsanitize={sanitizers}", "-fno-omit-frame-pointer", "-fno-sanitize-recover=undefined"]
    return flags


def link_args() -> list[str]:
    """Return the flags for linking them."""
    flags = ["-pthread"]
    if sanitizers := os.environ.get("TAPBOND_SANITIZE"):
        flags.append(f"-fsanitize={sanitizers}")
    return flags
