"""Ask over each slave whether its path works, for paths whose carrier lies.

The next kind of probe is one new file with a Watcher, and its line in WATCHERS.
"""

from ipaddress import ip_address

from tapbond.errors import TapbondError
from tapbond.probe.arp import ArpWatcher
from tapbond.probe.neighbour import NeighbourWatcher
from tapbond.probe.watcher import Target, Watcher

WATCHERS: dict[int, Watcher] = {4: ArpWatcher(), 6: NeighbourWatcher()}
"""By the IP version of the target's address."""


def target_of(text: str) -> Target:
    """Return the target that an address stands for.

    Raises:
        TapbondError: it is no address of one host.
    """
    try:
        address = ip_address(text)
    except ValueError as error:
        raise TapbondError(f"{text}: not an address to probe (10.0.0.1, fd00::1)") from error
    if address.is_multicast or address.is_unspecified or address.is_loopback:
        raise TapbondError(f"{text}: nobody answers a probe of this address (name a host: 10.0.0.1, fd00::1)")
    return Target(text, address.packed, WATCHERS[address.version])
