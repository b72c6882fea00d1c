"""Whether a driver of the kernel has made a pair of a link already: net_failover, or Hyper-V's netvsc.

Pure. Neither driver has a kind (rtnl_link_ops) that IFLA_INFO_KIND could tell, but every other driver that can be
IFLA_MASTER has one. net_failover_create() gives the master the parent device of the virtio NIC
(drivers/net/net_failover.c), netvsc is itself a device of vmbus (drivers/net/hyperv/netvsc_drv.c), and both
take slaves of their own MAC only.
"""

from collections.abc import Mapping

from tapbond.model import Link

VIRTIO, VMBUS = "virtio", "vmbus"


def refusal(link: Link, links: Mapping[int, Link]) -> str:
    """Return why a link is not to be had, and the way out; empty: no driver of the kernel has it.

    Args:
        link: the candidate: a slave, or the master itself.
        links: all links of its namespace by ifindex.
    """
    master = links.get(link.master) if link.master else link
    if master is None or not _is_pair(master, links):
        return ""
    members = ", ".join(sorted(slave.name for slave in _slaves(master, links)))
    here = f"it is {master.name}" if master is link else f"it is a slave of {master.name}"
    if master.bus == VIRTIO:
        return (
            f"the kernel's net_failover owns this pair already ({here}; slaves: {members}): use {master.name} as"
            " it is, or start the guest with failover=off on the virtio NIC (libvirt: no <teaming>)"
        )
    owner = "Hyper-V's netvsc" if master.bus == VMBUS else "a driver of the kernel (net_failover, netvsc)"
    return f"{owner} owns this pair already ({here}; slaves: {members}): use {master.name} as it is"


def _is_pair(master: Link, links: Mapping[int, Link]) -> bool:
    """Return whether a link is the master of such a pair: no kind, and slaves that all have its MAC."""
    slaves = _slaves(master, links)
    return (
        master.ethernet and not master.kind and bool(slaves) and all(slave.mac == master.mac for slave in slaves)
    )


def _slaves(master: Link, links: Mapping[int, Link]) -> list[Link]:
    return [link for link in links.values() if link.master == master.ifindex]
