"""Which hypervisor a domain belongs to; its library is only needed when it is asked for."""

from pathlib import Path

from tapbond.migration.errors import HypervisorError
from tapbond.migration.hypervisor import Hypervisor

DEFAULT_URI = "qemu:///system"


def is_socket(domain: str) -> bool:
    """Return whether a domain is named by the path of a QMP socket."""
    return "/" in domain


def choose(
    domain: str,
    *,
    connect: str = "",
    device: str = "",
    standby: str = "",
    destination: str = "",
    transport: str = "",
) -> Hypervisor:
    """Return the hypervisor of a domain, not open.

    Args:
        domain: path of a QMP socket, or name or UUID of a libvirt domain.
        connect: URI of libvirt; empty: qemu:///system.
        device: what plugs the primary: JSON (QMP), or XML (libvirt; empty: as the domain has it).
        standby: id or alias of the virtio NIC; empty: found.
        destination: QMP socket of the waiting QEMU; empty: it cannot be asked.
        transport: libvirt's URI for the guest's memory; empty: the destination chooses.

    Raises:
        HypervisorError: the library for it is not installed.
        PreconditionError: QMP needs a device.
    """
    if is_socket(domain):
        return _qmp(domain, device, standby, destination)
    return _libvirt(domain, connect, device, standby, transport)


def _qmp(path: str, device: str, standby: str, destination: str) -> Hypervisor:
    try:
        from tapbond.migration.qmp import Qmp, device_arguments  # noqa: PLC0415
    except ImportError as error:
        raise HypervisorError(f"{path}: QMP needs the package qemu.qmp (pip install 'tapbond[qmp]')") from error
    if not Path(path).exists():
        raise HypervisorError(f"{path}: no such socket (QEMU: -qmp unix:{path},server=on,wait=off)")
    device_arguments(device)
    return Qmp(path, device, standby, destination)


def _libvirt(domain: str, connect: str, device: str, standby: str, transport: str) -> Hypervisor:
    try:
        from tapbond.migration.libvirtd import Libvirt  # noqa: PLC0415
    except ImportError as error:
        raise HypervisorError(
            f"{domain}: libvirt needs the package libvirt-python (pip install 'tapbond[libvirt]', which needs"
            " Debian's libvirt-dev; a QMP socket is named by its path)"
        ) from error
    return Libvirt(domain, connect or DEFAULT_URI, device, standby, transport)
