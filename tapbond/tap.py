"""The failover interface itself: a TAP. The only file that knows python-pytun.

What pytun leaves out is done here on its descriptor: O_NONBLOCK, O_CLOEXEC, TUNSETOFFLOAD, TUNSETVNETHDRSZ
and TUNSETCARRIER (include/uapi/linux/if_tun.h).
"""

import errno
import fcntl
import os
import struct
from pathlib import Path

import pytun

from tapbond.errors import RightsError, TapError
from tapbond.netns import Netns

IFF_NO_CARRIER = 0x40
"""Create the TAP with its carrier off; since Linux 6.0, ignored before that."""

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
DEVICE = "/dev/net/tun"


class Tap:
    """An open TAP with a 10-byte virtio_net_hdr before every frame, and its carrier off.

    Args:
        name: of the interface; an existing persistent TAP of this name is attached to.

    Raises:
        RightsError: /dev/net/tun or the interface may not be opened.
        TapError: no TAP here, the name is taken, or it is no name for an interface.
    """

    def __init__(self, name: str) -> None:
        if not 0 < len(name.encode()) <= NAME_MAX or name in (".", "..") or set(name) & set("/: \t\n%"):
            raise TapError(
                f"{name}: not a name for an interface (1 to {NAME_MAX} bytes, no space, slash, colon or percent)"
            )
        self.name = name
        self._device = _open(name)
        try:
            fd = self._device.fileno()
            os.set_blocking(fd, False)
            os.set_inheritable(fd, False)
            fcntl.ioctl(fd, TUNSETVNETHDRSZ, INT.pack(VNET_HEADER_LEN))
            self.set_carrier(False)
            self.offload = self._set_offload()
            """Which of OFFLOADS this kernel granted."""
        except OSError as error:
            self._device.close()
            raise TapError(f"{name}: cannot set the TAP up: {error.strerror}") from error

    def fileno(self) -> int:
        """Return the descriptor that carries the frames."""
        return int(self._device.fileno())

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
        self._device.close()

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


def check_device(device: Path = Path(DEVICE)) -> None:
    """Open the TAP's device; nothing else tells whether that is allowed.

    Raises:
        RightsError: it may not be opened, with the way out.
        TapError: it does not exist, or does not work.
    """
    try:
        os.close(os.open(device, os.O_RDWR | os.O_CLOEXEC))
    except PermissionError as error:
        raise RightsError(f"{device}: may not be opened (as root: chmod 666 {device}; or run as root)") from error
    except FileNotFoundError as error:
        raise TapError(f"{device}: does not exist (modprobe tun; in a container: --device {device})") from error
    except OSError as error:
        raise TapError(f"{device}: cannot be opened: {error.strerror}") from error


def _open(name: str) -> pytun.TunTapDevice:
    check_device()
    flags = pytun.IFF_TAP | pytun.IFF_NO_PI | pytun.IFF_VNET_HDR | IFF_NO_CARRIER
    try:
        return pytun.TunTapDevice(name, flags=flags)
    except (OSError, pytun.Error) as error:
        raise _refusal(name, error) from error


def _refusal(name: str, error: Exception) -> TapError | RightsError:
    """Return what TUNSETIFF meant: tun_set_iff() in drivers/net/tun.c."""
    code = error.args[0] if error.args and isinstance(error.args[0], int) else 0
    if code == errno.EBUSY:
        return TapError(f"{name}: the TAP is in use by another process")
    if code == errno.EINVAL:
        return TapError(f"{name}: exists already and is not a TAP")
    if code in (errno.EPERM, errno.EACCES):
        return RightsError(
            f"{name}: may not make a TAP (needs CAP_NET_ADMIN: be root, or root of a user namespace: unshare -Urn)"
        )
    return TapError(f"{name}: cannot make the TAP: {error}")
