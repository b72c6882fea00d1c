"""What a slave is called while it is one: an alias for people and another name for programs.

``ip link show tb0-primary`` finds the primary of tb0 whatever it is called (net_failover has no such thing;
virtio_net's standby is named by udev, from its phys_port_name "sby").
"""

import errno

import msgspec
import structlog

from tapbond.errors import LinkRequestError, NoSuchInterfaceError, TapbondError
from tapbond.model import Link, Role
from tapbond.rtnetlink import Rtnetlink

log = structlog.get_logger()

ALTNAME_MAX = 127
"""ALTIFNAMSIZ of include/uapi/linux/if.h, without the NUL."""


class Label(msgspec.Struct, frozen=True, kw_only=True):
    """A slave's alias (IFLA_IFALIAS) and its further name (IFLA_ALT_IFNAME)."""

    alias: str
    altname: str

    @classmethod
    def of(cls, failover: str, role: Role, link: str) -> "Label":
        """Return the label of a slave; of backups there are several, so their names tell them apart."""
        altname = f"{failover}-{role}-{link}" if role is Role.BACKUP else f"{failover}-{role}"
        return cls(alias=f"tapbond {failover}: {role}", altname=altname[:ALTNAME_MAX])

    async def put_on(self, rtnetlink: Rtnetlink, link: Link) -> None:
        """Label a link; what the kernel refuses, a name that is taken say, is logged and skipped.

        Raises:
            NoSuchInterfaceError: it has gone.
        """
        for put, what in ((rtnetlink.set_alias, self.alias), (rtnetlink.add_altname, self.altname)):
            if not what:
                continue
            try:
                await put(link, what)
            except NoSuchInterfaceError:
                raise
            except TapbondError as error:
                log.info("slave without a part of its label", slave=link.name, reason=str(error))


async def take_off(rtnetlink: Rtnetlink, link: Link, altname: str) -> None:
    """Take a further name off a link; one that it does not have is fine (netdev_name_node_alt_destroy())."""
    try:
        await rtnetlink.remove_altname(link, altname)
    except LinkRequestError as error:
        if error.code not in (errno.ENOENT, errno.EINVAL, errno.EOPNOTSUPP):
            raise
