"""HostNetwork over rtnetlink(7): forwarding tables, and the MACs that a PF gives its VFs.

``master`` entries are static. The document's ``bridge fdb add MAC dev TAP master`` says neither ``static`` nor
``dynamic``, which makes a *local* entry (bridge(8); br_fdb.c, BR_FDB_LOCAL): the bridge keeps the guest's frames
for itself and its TAP gets none.
"""

import errno
from typing import Any

from tapbond.errors import LinkRequestError, NoSuchInterfaceError
from tapbond.migration.facts import FdbEntry
from tapbond.model import Link
from tapbond.netns import Netns
from tapbond.rtnetlink import Rtnetlink

NTF_SELF, NTF_MASTER = 0x02, 0x04
NUD_NOARP, NUD_PERMANENT = 0x40, 0x80
RTEXT_FILTER_VF = 1
"""Else the kernel tells nothing of VFs."""
NOT_THERE = (errno.ENOENT, errno.ENODEV)


def vf_mac_attribute(vf: int, mac: str) -> dict[str, Any]:
    """Return IFLA_VFINFO_LIST with one IFLA_VF_MAC in it: struct ifla_vf_mac of include/uapi/linux/if_link.h."""
    return {"attrs": [("IFLA_VF_INFO", {"attrs": [("IFLA_VF_MAC", {"vf": vf, "mac": mac})]})]}


def vf_macs(message: Any) -> dict[int, str]:
    """Return the MACs of a PF's VFs by number, as an RTM_NEWLINK message with RTEXT_FILTER_VF tells them."""
    told = message.get_attr("IFLA_VFINFO_LIST")
    found = {}
    for info in told.get_attrs("IFLA_VF_INFO") if told else ():
        if (mac := info.get_attr("IFLA_VF_MAC")) is not None:
            found[mac["vf"]] = mac["mac"]
    return found


class KernelNetwork:
    """The links of one network namespace.

    Args:
        netns: what opens it (ip-netns(8) name, path, process id); empty: our own.
    """

    def __init__(self, netns: str = "") -> None:
        self._netns = Netns.find(netns) if netns else None
        self._rtnetlink = Rtnetlink(self._netns)

    async def open(self) -> None:
        """See HostNetwork."""
        await self._rtnetlink.open()

    async def close(self) -> None:
        """See HostNetwork."""
        await self._rtnetlink.close()
        if self._netns is not None:
            self._netns.close()

    async def find(self, name: str) -> Link | None:
        """See HostNetwork."""
        return await self._rtnetlink.find(name)

    async def name_of(self, ifindex: int) -> str:
        """See HostNetwork."""
        return next((link.name for link in await self._rtnetlink.links() if link.ifindex == ifindex), "")

    async def link_of(self, pci: str) -> str:
        """See HostNetwork. Told since Linux 5.14; a PF's own link is older than its ports' are."""
        told = await self._rtnetlink.request("links", lambda ipr: list(ipr.get_links()))
        found = [message for message in told if message.get_attr("IFLA_PARENT_DEV_NAME") == pci]
        return str(min(found, key=lambda message: message["index"]).get_attr("IFLA_IFNAME")) if found else ""

    async def entries(self, mac: str) -> list[FdbEntry]:
        """See HostNetwork."""
        names = {link.ifindex: link.name for link in await self._rtnetlink.links()}
        told = await self._rtnetlink.request("forwarding tables", lambda ipr: list(ipr.fdb("dump")))
        return sorted(
            {
                FdbEntry(mac=mac, link=names[message["ifindex"]], master=not message["flags"] & NTF_SELF)
                for message in told
                if message.get_attr("NDA_LLADDR") == mac
                and message["state"] & (NUD_NOARP | NUD_PERMANENT)
                and message["ifindex"] in names
            }
        )

    async def add(self, entry: FdbEntry) -> None:
        """See HostNetwork."""
        link = await self._link(entry.link)
        if entry in await self.entries(entry.mac):
            return
        verb, state = ("replace", NUD_NOARP) if entry.master else ("add", NUD_PERMANENT)
        await self._rtnetlink.request(
            f"{entry.link}: cannot add {entry.mac} to its table",
            lambda ipr: ipr.fdb(verb, ifindex=link.ifindex, lladdr=entry.mac, state=state, flags=_flags(entry)),
        )

    async def remove(self, entry: FdbEntry) -> None:
        """See HostNetwork."""
        link = await self._rtnetlink.find(entry.link)
        if link is None or entry not in await self.entries(entry.mac):
            return
        try:
            await self._rtnetlink.request(
                f"{entry.link}: cannot remove {entry.mac} from its table",
                lambda ipr: ipr.fdb("del", ifindex=link.ifindex, lladdr=entry.mac, flags=_flags(entry)),
            )
        except NoSuchInterfaceError:
            return
        except LinkRequestError as error:
            if error.code not in NOT_THERE:
                raise

    async def vf_mac(self, pf: str, vf: int) -> str | None:
        """See HostNetwork."""
        link = await self._link(pf)
        (message,) = await self._rtnetlink.request(
            f"{pf}: cannot read its VFs",
            lambda ipr: list(ipr.link("get", index=link.ifindex, ext_mask=RTEXT_FILTER_VF)),
        )
        return vf_macs(message).get(vf)

    async def set_vf_mac(self, pf: str, vf: int, mac: str) -> None:
        """See HostNetwork."""
        link = await self._link(pf)
        await self._rtnetlink.request(
            f"{pf}: cannot set the MAC of VF {vf} to {mac}",
            lambda ipr: ipr.link("set", index=link.ifindex, IFLA_VFINFO_LIST=vf_mac_attribute(vf, mac)),
        )

    async def _link(self, name: str) -> Link:
        if (link := await self._rtnetlink.find(name)) is None:
            raise NoSuchInterfaceError(name)
        return link


def _flags(entry: FdbEntry) -> int:
    return NTF_MASTER if entry.master else NTF_SELF
