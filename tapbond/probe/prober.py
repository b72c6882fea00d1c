"""Probe every slave's path in rounds, and tell the selector what to make of it.

One round each interval: take in all answers, count, decide, ask again. As the answers are taken in first, a loop
that came late counts none as missing that waits in a socket. Nothing reads the sockets in between: uvloop stops
calling the reader of a packet socket whose link was down, and when an answer came the kernel writes down.

What the paths say is compared before it counts: the active slave is distrusted when another path has answered in
the last round, or when no path is left that might. So when the target itself dies, the active slave is not left
for one that is about to fall silent too.
"""

import asyncio
from collections.abc import Callable, Sequence

import structlog

from tapbond.errors import TapbondError
from tapbond.model import Detector, Link
from tapbond.probe import target_of
from tapbond.probe.lane import Lane
from tapbond.probe.mac import own_mac, packed
from tapbond.probe.port import ProbePort, SocketOpener, SocketPort, open_socket
from tapbond.probe.state import Path
from tapbond.probe.watcher import Target
from tapbond.selector import Selector
from tapbond.settings import Probing
from tapbond.slave import Slave

log = structlog.get_logger()

NS_PER_S = 1_000_000_000

NEVER_HEARD = (
    "nobody has ever answered this MAC over it: if something there drops frames from MACs that are not the link's"
    " (spoof check, port security), allow it, or use --mac-policy follow"
)
"""The path may be fine, but there is no other way to know: the failover's MAC would move the switch's table."""

PortOpener = Callable[[Link, bytes], ProbePort]
"""Opens a port on a link, with the MAC that it may probe from beside the link's own."""


def port_opener(targets: Sequence[Target], open_socket: SocketOpener) -> PortOpener:
    """Return what opens the ports for these targets, over sockets that ``open_socket`` makes."""
    patterns = {target.watcher.name: target.watcher.pattern for target in targets}
    return lambda link, mac: SocketPort(link, mac, patterns.values(), open_socket)


def targets_of(probing: Probing) -> list[Target]:
    """Return the targets that are named, each once.

    Raises:
        TapbondError: one is no address of one host.
    """
    return [target_of(text) for text in dict.fromkeys(probing.targets)]


class Prober:
    """Probes the slaves of one failover.

    Args:
        failover: its name, for the log.
        selector: whose slaves are probed, and who is told.
        mac: returns the failover's MAC.
        probing: what, and how; without targets this does nothing.
        clock: CLOCK_MONOTONIC in ns.
        open_port: opens a port on a slave; None: port_opener()'s, over the sockets that open_socket makes.
        open_socket: see SocketPort; slaves may be in another namespace.

    Raises:
        TapbondError: a target is no address of one host.
    """

    def __init__(
        self,
        failover: str,
        selector: Selector,
        mac: Callable[[], str],
        probing: Probing,
        clock: Callable[[], int],
        open_port: PortOpener | None = None,
        open_socket: SocketOpener = open_socket,
    ) -> None:
        self._failover = failover
        self._selector = selector
        self._mac = mac
        self._probing = probing
        self._clock = clock
        self._targets = targets_of(probing)
        self._port_opener = open_port
        self._open_socket = open_socket
        self._known: set[Target] = set()
        self._lanes: dict[Slave, Lane] = {}
        self._sent_ns = 0
        self._unknown_at_ns: int | None = None
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin."""
        if self._targets:
            self._unknown_at_ns = self._clock() + self._probing.grace_ns
            self._next()
            self.follow()

    def change(self, probing: Probing) -> None:
        """Probe otherwise from now on: what is known of a target that stays is kept, so no path is trusted anew.

        Raises:
            TapbondError: a target is no address of one host; nothing is changed.
        """
        self._targets, self._probing = targets_of(probing), probing
        former = dict(self._lanes)
        self.stop()
        self.start()
        for slave, lane in self._lanes.items():
            if slave in former:
                lane.succeed(former[slave])
        if not self._targets:
            for slave in self._selector.slaves:
                slave.answered = True
            self._selector.decide(Detector.PROBE, self._clock(), "probes ended")

    def follow(self) -> None:
        """Probe the slaves that there are now."""
        if self._timer is None:
            return
        for slave in self._lanes.keys() - set(self._selector.slaves):
            self._lanes.pop(slave).close()
        for slave in self._selector.slaves:
            if slave not in self._lanes:
                self._open(slave)

    def stop(self) -> None:
        """End; again is harmless."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        while self._lanes:
            self._lanes.popitem()[1].close()

    def _open(self, slave: Slave) -> None:
        taken = [lane.own for lane in self._lanes.values()]
        taken += [packed(other.link.mac) for other in self._selector.slaves]
        own = own_mac(packed(self._mac()), slave.name, taken)
        open_port = self._port_opener or port_opener(self._targets, self._open_socket)
        try:
            port = open_port(slave.link, own)
        except TapbondError as error:
            log.warning("slave is not probed", failover=self._failover, slave=slave.name, reason=str(error))
            return
        path = Path(self._targets, self._probing, self._known, self._clock())
        self._lanes[slave] = Lane(slave, port, path, self._targets, own)

    def _next(self) -> None:
        delay_s = self._probing.interval_ns / NS_PER_S
        self._timer = asyncio.get_running_loop().call_later(delay_s, self._round)

    def _round(self) -> None:
        try:
            self._probe(self._clock())
        finally:
            self._next()

    def _probe(self, now_ns: int) -> None:
        slaves = set(self._selector.slaves)
        lanes = [lane for lane in self._lanes.values() if lane.slave in slaves]
        changed = any([self._follow_link(lane, now_ns) for lane in lanes])  # noqa: C419  (each one)
        lanes = [lane for lane in lanes if lane.slave.linked]
        for lane in lanes:
            lane.drain()
        # A timer that came late is followed by one that comes early: a probe is given its time all the same.
        if now_ns - self._sent_ns < self._probing.interval_ns // 2:
            return
        changed |= self._judge(lanes, now_ns)
        if changed:
            self._selector.decide(Detector.PROBE, now_ns)
        self._tell_unknown(now_ns)
        self._ask(lanes)

    def _follow_link(self, lane: Lane, now_ns: int) -> bool:
        """Begin anew when the link has come up; return whether that is news for the policy."""
        slave = lane.slave
        if slave.linked and slave.came_up == lane.came_up:
            return False
        lane.came_up = slave.came_up
        lane.path.restart(now_ns)
        lane.silent = False
        distrusted, slave.answered = not slave.answered, True
        return distrusted

    def _judge(self, lanes: list[Lane], now_ns: int) -> bool:
        """Count a round, and return whether another path is to be trusted than before."""
        active = self._selector.active
        for lane in lanes:
            lane.path.close_round(lane.slave is active, now_ns)
        others = [lane.path for lane in lanes if lane.slave is not active and lane.path.answered]
        wait = bool(others) and not any(path.fresh for path in others)
        changed = False
        for lane in lanes:
            slave, in_use = lane.slave, lane.slave is active
            self._tell(lane, kept=in_use and not others)
            trusted = lane.path.answered or (in_use and wait)
            if trusted == slave.answered:
                continue
            changed = True
            if trusted and in_use:
                slave.answered = True  # it was never left: nothing has to settle
            else:
                slave.probed(trusted, now_ns)
                lane.came_up = slave.came_up
        return changed

    def _ask(self, lanes: list[Lane]) -> None:
        """Send the next probes, the active slave's last: a target that has just come back answers that one."""
        active, mac = self._selector.active, packed(self._mac())
        for lane in sorted(lanes, key=lambda lane: lane.slave is active):
            lane.send(mac, lane.slave is active)
        self._sent_ns = self._clock()

    def _tell(self, lane: Lane, kept: bool) -> None:
        """Log a path that has fallen silent, or answers again."""
        silent = not lane.path.answered
        if silent == lane.silent:
            return
        lane.silent = silent
        about = {"failover": self._failover, "slave": lane.slave.name}
        if not silent:
            log.info("probes are answered again", **about)
            return
        lost = [probe.target for probe in lane.path.status() if not probe.answered]
        note = "no other path answers: it stays active" if kept else "" if lane.mac_heard else NEVER_HEARD
        log.warning("probes go unanswered though the link is up", targets=lost, **about, note=note, mac=lane.mac)

    def _tell_unknown(self, now_ns: int) -> None:
        """Log once which targets have never answered."""
        if self._unknown_at_ns is None or now_ns < self._unknown_at_ns:
            return
        self._unknown_at_ns = None
        for target in self._targets:
            if target not in self._known:
                log.warning(
                    "probe target has not answered over any slave: until it does it says nothing against a path",
                    failover=self._failover,
                    target=target.text,
                )
