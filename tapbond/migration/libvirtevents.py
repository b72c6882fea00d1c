"""libvirt's event loop, in a thread of its own."""

import threading

import libvirt

_lock = threading.Lock()
_started = False


def start_events() -> None:
    """Start libvirt's own event loop, once a process and before any connection; keep it from writing errors."""
    global _started  # noqa: PLW0603  (libvirt has one loop a process)
    with _lock:
        if _started:
            return
        _started = True
        libvirt.registerErrorHandler(lambda _context, _error: None, None)
        libvirt.virEventRegisterDefaultImpl()
        threading.Thread(target=_run, name="tapbond-libvirt", daemon=True).start()


def _run() -> None:
    while True:
        libvirt.virEventRunDefaultImpl()
