"""The two interfaces that are one to the guest."""

from dataclasses import dataclass

from tapbond.teaming.nic import Nic, nics
from tapbond.teaming.source import Source

PERSISTENT, TRANSIENT = "persistent", "transient"


@dataclass(frozen=True)
class Pair:
    """A virtio interface that stays, and a VF that is unplugged for a migration."""

    persistent: Nic
    transient: Nic


def pairs(source: Source) -> list[Pair]:
    """Return the pairs that are declared and complete."""
    all_nics = nics(source)
    standing = {nic.alias: nic for nic in all_nics if nic.part == PERSISTENT and nic.alias}
    return [
        Pair(standing[nic.persistent], nic)
        for nic in all_nics
        if nic.part == TRANSIENT and nic.persistent in standing
    ]
