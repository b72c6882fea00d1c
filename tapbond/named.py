"""The links that a failover was told of by name, as far as they are there."""

from tapbond.errors import NoSuchInterfaceError
from tapbond.model import Link, Role
from tapbond.place import Place
from tapbond.settings import Settings


class NamedLinks:
    """See above.

    Args:
        settings: the failover's.
        place: where slaves are found; open.
    """

    def __init__(self, settings: Settings, place: Place) -> None:
        self._settings = settings
        self._place = place

    def mac(self) -> str:
        """Return the failover's MAC: the one it was told, else the standby's.

        Raises:
            NoSuchInterfaceError: there is no standby to tell.
        """
        if self._settings.mac is not None:
            return self._settings.mac.lower()
        standby = self._settings.standby or ""
        try:
            return self._place.links.by_name(standby).mac
        except NoSuchInterfaceError as error:
            hint = "the standby gives the failover its MAC; --mac starts without it"
            raise NoSuchInterfaceError(standby, hint, self._place.name) from error

    def standby_mtu(self) -> int | None:
        """Return the standby's MTU in bytes, None where it is not there."""
        return next((link.mtu for role, link in self.present() if role is Role.STANDBY), None)

    def present(self) -> list[tuple[Role, Link]]:
        """Return the named links that are there, the standby first."""
        settings = self._settings
        named = (
            (Role.STANDBY, settings.standby),
            (Role.PRIMARY, settings.primary),
            *((Role.BACKUP, backup.link) for backup in settings.backups),
        )
        self._place.links.read_pending()  # whoever was a slave until now may be free by what waits
        by_name = {link.name: link for link in self._place.links.by_index.values()}
        return [(role, by_name[name]) for role, name in named if name in by_name]
