"""The failover interface itself: a TAP.

What python-pytun leaves out is done here on its descriptors: TUNSETOFFLOAD, TUNSETVNETHDRSZ and TUNSETCARRIER
(include/uapi/linux/if_tun.h). They hold for the whole device, whichever of its queues they are set on.
"""

import errno
import fcntl
import struct

from tapbond.errors import TapError
from tapbond.netns import Netns
from tapbond.tapqueues import open_queues

TUNSETVNETHDRSZ = 0x400454D8
TUNSETOFFLOAD = 0x400454D0
TUNSETCARRIER = 0x400454E2
TUNGETIFF = 0x800454D2
TUNGETDEVNETNS = 0x54E3
"""Answers with a descriptor; EINVAL where the kernel is too old for it."""
IFREQ = struct.Struct("16sH22x")
INT = struct.Struct("i")

VNET_HEADER_LEN = 10

IFF_PERSIST = 0x0800

TUN_F_CSUM = 0x01
TUN_F_TSO4 = 0x02
TUN_F_TSO6 = 0x04
TUN_F_TSO_ECN = 0x08
TUN_F_USO4 = 0x20
TUN_F_USO6 = 0x40

TSO = TUN_F_CSUM | TUN_F_TSO4 | TUN_F_TSO6 | TUN_F_TSO_ECN
OFFLOADS = {"tso+uso": TSO | TUN_F_USO4 | TUN_F_USO6, "tso": TSO, "none": 0}
"""Tried in this order; USO needs Linux 6.2."""

NAME_MAX = 15


class Tap:
    """An open TAP with a 10-byte virtio_net_hdr before every frame, and its carrier off.

    Args:
        name: of the interface; an existing persistent TAP of this name is attached to.
        queues: how many; more than one need a TAP with multi_queue, if it exists already.

    Raises:
        RightsError: /dev/net/tun or the interface may not be opened.
        TapError: no TAP here, the name is taken, or it is no name for an interface.
    """

    def __init__(self, name: str, queues: int = 1) -> None:
        if not 0 < len(name.encode()) <= NAME_MAX or name in (".", "..") or set(name) & set("/: \t\n%"):
            raise TapError(
                f"{name}: not a name for an interface (1 to {NAME_MAX} bytes, no space, slash, colon or percent)"
            )
        self.name = name
        self._devices = open_queues(name, queues)
        try:
            fcntl.ioctl(self.fileno(), TUNSETVNETHDRSZ, INT.pack(VNET_HEADER_LEN))
            self.set_carrier(False)
            self.offload = self._set_offload()
            """Which of OFFLOADS this kernel granted."""
        except OSError as error:
            self.close()
            raise TapError(f"{name}: cannot set the TAP up: {error.strerror}") from error

    def fileno(self) -> int:
        """Return the first queue's descriptor, by which the whole device is set."""
        return int(self._devices[0].fileno())

    @property
    def queues(self) -> int:
        """How many there are."""
        return len(self._devices)

    def filenos(self) -> list[int]:
        """Return the descriptors that carry the frames, one a queue."""
        return [int(device.fileno()) for device in self._devices]

    @property
    def persistent(self) -> bool:
        """Whether the interface stays when this process closes it (TUNSETPERSIST by whoever made it)."""
        return bool(self._ask()[1] & IFF_PERSIST)

    @property
    def interface(self) -> str:
        """What the interface is called now, wherever it is.

        Raises:
            OSError: the TAP is gone.
        """
        return self._ask()[0].rstrip(b"\0").decode(errors="replace")

    def open_netns(self) -> Netns:
        """Open the network namespace where the interface is now.

        Raises:
            OSError: the TAP is gone (EBADFD); EPERM without CAP_NET_ADMIN there; EINVAL on old kernels.
        """
        fd = fcntl.ioctl(self.fileno(), TUNGETDEVNETNS)
        return Netns(fd, self.name)

    def _ask(self) -> tuple[bytes, int]:
        name, flags = IFREQ.unpack(fcntl.ioctl(self.fileno(), TUNGETIFF, IFREQ.pack(b"", 0)))
        return name, flags

    def set_carrier(self, on: bool) -> None:
        """Switch the carrier that the host sees.

        Raises:
            OSError: the TAP is gone.
        """
        fcntl.ioctl(self.fileno(), TUNSETCARRIER, INT.pack(on))

    def close(self) -> None:
        """Close it; the interface vanishes unless it is persistent. Again is harmless."""
        for device in reversed(self._devices):
            device.close()

    def _set_offload(self) -> str:
        for name, flags in OFFLOADS.items():
            try:
                fcntl.ioctl(self.fileno(), TUNSETOFFLOAD, flags)
            except OSError as error:
                if error.errno != errno.EINVAL:
                    raise
            else:
                return name
        raise TapError(f"{self.name}: the kernel's TAP takes no offload setting at all")
