"""One slave as the prober sees it: the port, the MAC to probe with, and what has come of it."""

from collections.abc import Sequence

from tapbond.probe.mac import packed, probing_mac
from tapbond.probe.port import ProbePort
from tapbond.probe.state import Path
from tapbond.probe.watcher import Target
from tapbond.slave import Slave


class Lane:
    """Probes one slave's path to every target.

    Args:
        slave: registered.
        port: on its link; closed by close().
        path: what is known, which this fills.
        targets: what is asked for.
        own: the MAC with which it probes while it is not active.
    """

    def __init__(self, slave: Slave, port: ProbePort, path: Path, targets: Sequence[Target], own: bytes) -> None:
        self.slave = slave
        self.path = path
        self.own = own
        self.silent = False
        """It has been said that nothing answers."""
        self.came_up = slave.came_up
        self._port = port
        self._targets = {(target.watcher.name, target.address): target for target in targets}
        self._watchers = {target.watcher.name: target.watcher for target in targets}
        self._mac = self._former = b""
        self._heard: set[bytes] = set()
        self._frames: dict[Target, bytes] = {}
        self._sent_ns: dict[Target, int] = {}
        slave.path = path

    @property
    def mac(self) -> str:
        """What it probes with now, ``aa:bb:cc:dd:ee:ff``."""
        return self._mac.hex(":")

    @property
    def mac_heard(self) -> bool:
        """Whether that was ever answered."""
        return self._mac in self._heard

    def succeed(self, former: "Lane") -> None:
        """Go on with what was known of the same slave's path."""
        self.came_up, self.silent = former.came_up, former.silent
        self.path.inherit(former.path.memory)

    def close(self) -> None:
        """Probe no more."""
        self.slave.path = None
        self._port.close()

    def drain(self) -> None:
        """Take in the answers that have arrived, to the MAC in use and to the one before it."""
        for frame, stamp_ns in self._port.receive():
            for watcher in self._watchers.values():
                answer = watcher.answer(frame)
                if answer is None or answer.mac not in (self._mac, self._former):
                    continue
                if target := self._targets.get((watcher.name, answer.address)):
                    self._heard.add(answer.mac)
                    self.path.heard(target, self._round_trip(target, stamp_ns))

    def send(self, failover: bytes, active: bool) -> None:
        """Send a probe to each target.

        Args:
            failover: its MAC.
            active: whether this is the slave that sends.
        """
        self._probe_from(probing_mac(failover, active, packed(self.slave.link.mac), self.own))
        for target, frame in self._frames.items():
            sent_ns = self._port.send(frame)
            if sent_ns is not None:
                self._sent_ns[target] = sent_ns
                self.path.sent(target)

    def _probe_from(self, mac: bytes) -> None:
        """Change the MAC; what was asked from the former one may still be answered, for one round."""
        self._former = self._mac
        if mac == self._mac:
            return
        self._mac = mac
        self._frames = {target: target.watcher.probe(mac, target.address) for target in self._targets.values()}

    def _round_trip(self, target: Target, stamp_ns: int | None) -> int | None:
        """Return how long ago the last probe was sent; the wall clock may have been set meanwhile."""
        if stamp_ns is None or target not in self._sent_ns:
            return None
        return max(0, stamp_ns - self._sent_ns[target])
