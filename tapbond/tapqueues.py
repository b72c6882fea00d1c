"""The queues of a TAP, each a descriptor of its own (IFF_MULTI_QUEUE). The only file that knows python-pytun.

What pytun leaves out is done here: O_NONBLOCK and O_CLOEXEC.
"""

import array
import errno
import fcntl
import os
import socket
import struct
from pathlib import Path

import pytun

from tapbond.errors import RightsError, TapError

IFF_NO_CARRIER = 0x40
"""Create the TAP with its carrier off; since Linux 6.0, ignored before that."""
FLAGS = pytun.IFF_TAP | pytun.IFF_NO_PI | pytun.IFF_VNET_HDR | IFF_NO_CARRIER

SIOCETHTOOL = 0x8946
ETHTOOL_GCHANNELS = 0x3C
REQUEST = struct.Struct("16sP16x")
CHANNELS = 9
COMBINED = 8
"""struct ethtool_channels of include/uapi/linux/ethtool.h: nine words, the last is combined_count."""

DEVICE = "/dev/net/tun"


def open_queues(name: str, count: int) -> list[pytun.TunTapDevice]:
    """Open a TAP with so many queues, non-blocking; it is made where there is none.

    A single queue may also be one of a persistent TAP made for several.

    Raises:
        RightsError: /dev/net/tun or the interface may not be opened.
        TapError: the name is taken, somebody else uses the TAP, or it has one queue only.
    """
    check_device()
    devices = [_open_first(name, count)]
    try:
        for _ in range(1, count):
            devices.append(_open(name, multi_queue=True))  # noqa: PERF401  (closed if one fails)
        for device in devices:
            os.set_blocking(device.fileno(), False)
            os.set_inheritable(device.fileno(), False)
    except (OSError, pytun.Error) as error:
        for device in reversed(devices):
            device.close()
        raise _refusal(name, error) from error
    return devices


def _open_first(name: str, count: int) -> pytun.TunTapDevice:
    """Open the first queue, which must be the only one by then."""
    try:
        device = _open(name, multi_queue=count > 1)
    except (OSError, pytun.Error) as error:
        if _code(error) != errno.EINVAL:
            raise _refusal(name, error) from error
        device = _open_other(name, count, error)
    if queues_in_use(name) > 1:
        device.close()
        raise TapError(f"{name}: the TAP is in use by another process")
    return device


def _open_other(name: str, count: int, refused: Exception) -> pytun.TunTapDevice:
    """Open a TAP that exists and was made for another number of queues; EINVAL says that, and much else."""
    try:
        device = _open(name, multi_queue=count == 1)
    except (OSError, pytun.Error) as error:
        raise _refusal(name, error if _code(error) == errno.EBUSY else refused) from error
    if count == 1:
        return device
    device.close()
    raise TapError(
        f"{name}: exists already as a TAP with one queue (make it with: ip tuntap add {name} mode tap multi_queue"
        " vnet_hdr; or use --queues 1)"
    )


def queues_in_use(name: str) -> int:
    """Return how many queues of a TAP are open, by whomever (tun_get_channels()); 0: it cannot be told."""
    channels = array.array("I", [ETHTOOL_GCHANNELS, *[0] * (CHANNELS - 1)])
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as asking:
        try:
            fcntl.ioctl(asking, SIOCETHTOOL, REQUEST.pack(name.encode(), channels.buffer_info()[0]))
        except OSError:
            return 0
    return channels[COMBINED]


def _open(name: str, *, multi_queue: bool) -> pytun.TunTapDevice:
    return pytun.TunTapDevice(name, flags=FLAGS | (pytun.IFF_MULTI_QUEUE if multi_queue else 0))


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


def _code(error: Exception) -> int:
    return error.args[0] if error.args and isinstance(error.args[0], int) else 0


def _refusal(name: str, error: Exception) -> TapError | RightsError:
    """Return what TUNSETIFF meant: tun_set_iff() in drivers/net/tun.c."""
    code = _code(error)
    if code == errno.EBUSY:
        return TapError(f"{name}: the TAP is in use by another process")
    if code == errno.EINVAL:
        return TapError(f"{name}: exists already and is not a TAP")
    if code in (errno.EPERM, errno.EACCES):
        return RightsError(
            f"{name}: may not make a TAP (needs CAP_NET_ADMIN: be root, or root of a user namespace: unshare -Urn)"
        )
    return TapError(f"{name}: cannot make the TAP: {error}")
