"""Become another program that dies with the one that started it (prctl(2), PR_SET_PDEATHSIG).

Run by its path as ``python -IS leash.py PID PROGRAM ARGUMENT...``, PID being the parent. A preexec_fn would
do the same between fork and exec of a process with threads, where Python code may hang.
"""

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(parent: int, argv: list[str]) -> None:
    """Tie this process to its parent, then become ``argv``."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0):
        sys.exit(f"prctl: {os.strerror(ctypes.get_errno())}")
    if os.getppid() != parent:
        sys.exit("the parent has gone")  # before prctl(): no signal will come
    for number in (signal.SIGINT, signal.SIGHUP):  # ignored by a shell's background jobs, and under nohup
        signal.signal(number, signal.SIG_DFL)
    os.execv(argv[0], argv)  # noqa: S606 - the program is the caller's


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
