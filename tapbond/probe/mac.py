"""The MAC that a slave probes with.

The switch must go on believing that the failover's MAC is where the active slave is: a probe from that MAC over
another one would move it. So the active slave probes with it, which is also the only one that the spoof check of
a virtual function allows, and every other one with a MAC of its own.
"""

import hashlib
from collections.abc import Collection

GROUP = 0x01
LOCAL = 0x02
"""Bits of the first byte (IEEE 802, section 8.2)."""


def packed(mac: str) -> bytes:
    """Return ``aa:bb:cc:dd:ee:ff`` as six bytes."""
    return bytes.fromhex(mac.replace(":", ""))


def own_mac(failover: bytes, slave: str, taken: Collection[bytes]) -> bytes:
    """Return a locally administered MAC for a slave: the same each time, and none of those that are taken.

    Args:
        failover: its MAC, so that two hosts on one network do not choose the same.
        slave: the slave's name.
        taken: MACs in use.
    """
    salt = 0
    while True:
        digest = hashlib.blake2b(failover + slave.encode() + bytes((salt,)), digest_size=6).digest()
        mac = bytes((digest[0] & ~GROUP | LOCAL,)) + digest[1:]
        if mac != failover and mac not in taken:
            return mac
        salt += 1


def probing_mac(failover: bytes, active: bool, link: bytes, own: bytes) -> bytes:
    """Return the MAC that a slave probes with now.

    Args:
        failover: its MAC.
        active: whether the slave is the one that sends.
        link: the slave's MAC. Where it is not the failover's (``--mac-policy follow``) it is as good as its own,
            and no spoof check minds it.
        own: see own_mac().
    """
    if active:
        return failover
    return own if link == failover else link
