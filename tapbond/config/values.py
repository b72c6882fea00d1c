"""Values that a person writes as text, on the command line or in a file: one place says what they must be."""

import ipaddress
import re

from tapbond.queues import QUEUES_MAX
from tapbond.settings import AUTO, Backup

MAC = re.compile(r"[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}")
GROUP_BIT = 1
PRIO_MIN, PRIO_MAX = -(1 << 31), (1 << 31) - 1
"""That of bonding: a signed 32-bit number."""


def mac_of(text: str) -> str:
    """Return a MAC address in lower case.

    Raises:
        ValueError: it is none, or not one that a link can have (IEEE 802: the group bit).
    """
    if not MAC.fullmatch(text):
        raise ValueError(f"{text}: not a MAC address (aa:bb:cc:dd:ee:ff)")
    if int(text[:2], 16) & GROUP_BIT:
        raise ValueError(f"{text}: a group address cannot be a link's own")
    return text.lower()


def backup_of(text: str) -> Backup:
    """Return the backup that ``LINK`` or ``LINK:PRIO`` names.

    Raises:
        ValueError: it names none.
    """
    link, _, prio = text.partition(":")
    if not link:
        raise ValueError(f"{text}: no link is named (LINK or LINK:PRIO)")
    try:
        number = int(prio or "0")
    except ValueError as error:
        raise ValueError(f"{text}: {prio!r} is no whole number (LINK or LINK:PRIO)") from error
    if not PRIO_MIN <= number <= PRIO_MAX:
        raise ValueError(f"{text}: {number} is not in the range {PRIO_MIN} to {PRIO_MAX}")
    return Backup(link=link, prio=number)


def address_of(text: str) -> str:
    """Return an IPv4 or IPv6 address in its canonical form.

    Raises:
        ValueError: it is none.
    """
    try:
        return str(ipaddress.ip_address(text))
    except ValueError as error:
        raise ValueError(f"{error} (10.0.0.1, fd00::1)") from error


def queues_of(text: str) -> int | str:
    """Return a number of queues, or ``auto``.

    Raises:
        ValueError: it is neither.
    """
    if text == AUTO:
        return text
    if not text.isdecimal() or not 1 <= int(text) <= QUEUES_MAX:
        raise ValueError(f"{text}: not a number of queues (1 to {QUEUES_MAX}, or auto)")
    return int(text)
