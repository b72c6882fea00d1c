"""Tell whoever started us: sd_notify(3) and ``--ready-fd``."""

import contextlib
import os
import socket

READY_LINE = b"1\n"


def notify_systemd(state: str) -> None:
    """Send a state such as ``READY=1`` to systemd, if it listens."""
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):
        address = "\0" + address[1:]
    with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notifier:
        notifier.connect(address)
        notifier.send(state.encode())


def notify_ready_fd(fd: int) -> None:
    """Write a line to the descriptor and close it; a reader that has gone is fine."""
    with contextlib.suppress(OSError):
        os.write(fd, READY_LINE)
    with contextlib.suppress(OSError):
        os.close(fd)
