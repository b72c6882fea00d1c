"""The filters that carry a failover's frames inside the kernel.

                         two blocks of filters
    tb0 ── sends ────▶ [ 1: whatever it is          ] ──▶ sent by the active slave
    eth1 ─ receives ─▶ [ 1: came by the active one  ] ──▶ received by tb0
    eth0 ─ receives ─▶ [ 2: unicast, by a former one] ──▶ received by tb0
                         what is matched by none goes its usual way

Who sends and who receives is one filter each, and is changed by replacing it: in one step for all slaves, because
they share a block. The actions are those of filters that are never asked, two a slave: they keep counting
whichever filter uses them.
A block lives as long as a link that has it. A killed process leaves one on its slaves: see remove_stale().
"""

import contextlib
import errno
import zlib
from collections.abc import Sequence

import msgspec

from tapbond.datapath.classifier import CLASSIFIERS, EVERYTHING, Classifier, Match
from tapbond.datapath.tc import Filter, Place, Redirect, Tc, replacement
from tapbond.errors import LinkRequestError, TapbondError
from tapbond.model import Counters, Link

PRIO_ACTIVE, PRIO_DRAIN = 1, 2
PARKED = 1000
"""The chain that nobody goes to."""
BLOCK_MARK = 0x7A000000
ETHERNET_HEADER = 14
"""Bytes that tc does not count of what is received."""


def blocks_of(failover: str) -> tuple[int, int]:
    """Return the numbers of a failover's blocks: of what it sends, and of what its slaves receive."""
    number = BLOCK_MARK | zlib.crc32(failover.encode()) & 0xFFFFFE
    return number, number | 1


def remove_stale(failover: str, tc: Tc) -> list[int]:
    """Take the blocks of an earlier run off every link that has one; return their ifindexes."""
    stale = set(blocks_of(failover))
    found = [ifindex for ifindex, blocks in tc.filtered().items() if blocks & stale]
    for ifindex in found:
        with contextlib.suppress(LinkRequestError):  # it has gone meanwhile
            tc.remove_qdisc(f"interface {ifindex}", ifindex)
    return found


class _Slave(msgspec.Struct, kw_only=True):
    """A link that frames are sent by and received from."""

    link: Link
    sending: Filter
    receiving: Filter
    drain: int = 0
    """Handle of its filter while it is drained."""


class Wiring:
    """The filters of one failover, from open() to close().

    Args:
        failover: its name.
        tc: in the namespace of the TAP and of all slaves.
        classifiers: what to make the filters of: the first that works here.

    All methods raise TapbondError where the kernel refuses.
    """

    def __init__(self, failover: str, tc: Tc, classifiers: Sequence[Classifier] = CLASSIFIERS) -> None:
        sent, received = blocks_of(failover)
        self._active_out = Place(block=sent, prio=PRIO_ACTIVE)
        self._active_in = Place(block=received, prio=PRIO_ACTIVE)
        self._drained = Place(block=received, prio=PRIO_DRAIN)
        self._parked = Place(block=sent, chain=PARKED)
        self._failover = failover
        self._tc = tc
        self._classifiers = classifiers
        self._classifier = classifiers[0]
        self._tap = 0
        self._slaves: dict[int, _Slave] = {}
        self._sending = self._receiving = 0

    def open(self, tap: int) -> None:
        """Begin, with the TAP of this ifindex."""
        filtered = self._tc.filtered()
        ours = {self._active_out.block, self._active_in.block}
        if any(blocks & ours for blocks in filtered.values()):
            raise TapbondError(f"{self._failover}: its tc blocks {ours} are in use")
        if tap in filtered:
            raise TapbondError(f"{self._failover}: has a clsact or ingress qdisc of somebody else")
        self._tc.add_qdisc(self._failover, tap, self._active_out.block, egress=True)
        self._tap = tap
        try:
            self._classifier = self._choose(tap)
        except TapbondError:
            self.close()
            raise

    def _choose(self, tap: int) -> Classifier:
        """Return the first classifier with which a frame can be redirected to the TAP."""
        failures = []
        for classifier in self._classifiers:
            try:
                made = self._tc.put(
                    "tc", classifier, self._parked, EVERYTHING, Redirect(ifindex=tap, ingress=True)
                )
                self._tc.remove("tc", classifier, self._parked, made.handle)
            except LinkRequestError as error:
                failures.append(f"{classifier.kind}: {error.reason}")
            else:
                return classifier
        raise TapbondError(f"{self._failover}: this kernel's tc cannot redirect ({'; '.join(failures)})")

    @property
    def classifier(self) -> str:
        """What the filters are made of."""
        return self._classifier.kind

    def end(self) -> None:
        """Close the socket, after close(); again is harmless."""
        self._tc.close()

    def close(self) -> None:
        """Take everything off again; again is harmless, and so are links that have gone."""
        for link in [slave.link for slave in self._slaves.values()]:
            self.remove(link)
        tap, self._tap = self._tap, 0
        self._sending = self._receiving = 0
        if tap:
            self._remove_qdisc(self._failover, tap, self._active_out.block)

    def add(self, link: Link) -> None:
        """Take in a slave, which neither sends nor receives yet."""
        try:
            self._tc.add_qdisc(link.name, link.ifindex, self._active_in.block)
        except LinkRequestError as error:
            if error.code != errno.EEXIST:
                raise
            raise TapbondError(
                f"{link.name}: has an ingress or clsact qdisc already, which is left alone"
                f" (tc qdisc del dev {link.name} ingress; or --datapath copy)"
            ) from error
        try:
            self._slaves[link.ifindex] = _Slave(
                link=link,
                sending=self._park(link, Redirect(ifindex=link.ifindex)),
                receiving=self._park(link, Redirect(ifindex=self._tap, ingress=True)),
            )
        except TapbondError:
            self._tc.remove_qdisc(link.name, link.ifindex)
            raise

    def remove(self, link: Link) -> None:
        """Let go of a slave; one whose link has gone is fine. It neither sends nor receives any more."""
        slave = self._slaves.pop(link.ifindex)
        if slave.drain:
            self._remove(link.name, self._drained, slave.drain)
        self._remove_qdisc(link.name, link.ifindex, self._active_in.block)
        if not self._slaves:
            self._receiving = 0  # its block went with the last slave
        for handle in (slave.sending.handle, slave.receiving.handle):
            self._remove(link.name, self._parked, handle)

    def missing(self) -> list[tuple[int, str]]:
        """Return ifindex and name of the TAP and of each slave that is filtered no more, or has gone."""
        filtered = self._tc.filtered()
        wanted = [(self._tap, self._failover, self._active_out.block)] if self._tap else []
        wanted += [(index, slave.link.name, self._active_in.block) for index, slave in self._slaves.items()]
        return [(index, name) for index, name, block in wanted if block not in filtered.get(index, ())]

    def filtered(self) -> set[int]:
        """Return the ifindexes of all links that have an ``ingress`` or ``clsact`` qdisc, whoever put it there."""
        return set(self._tc.filtered())

    def send(self, ifindex: int) -> None:
        """Send by this slave; 0: by none, what the TAP sends goes to whoever reads it."""
        to = Redirect(index=self._slaves[ifindex].sending.index) if ifindex else None
        self._sending = self._set(self._active_out, EVERYTHING, to, self._sending)

    def receive(self, ifindex: int) -> None:
        """Receive from this slave; 0: from none."""
        to = Redirect(index=self._slaves[ifindex].receiving.index, ingress=True) if ifindex else None
        self._receiving = self._set(self._active_in, Match(ifindex=ifindex), to, self._receiving)

    def succession(self, ifindex: int, *, receives: bool) -> bytes:
        """Return the messages that have another slave send, and receive too: see Fuse.

        They do what send() and receive() do, if nothing has been changed since this was called.
        """
        slave, message = self._slaves[ifindex], b""
        if self._sending:
            to = Redirect(index=slave.sending.index)
            message += replacement(self._classifier, self._active_out, EVERYTHING, to, self._sending)
        if self._receiving and receives:
            to = Redirect(index=slave.receiving.index, ingress=True)
            message += replacement(self._classifier, self._active_in, Match(ifindex=ifindex), to, self._receiving)
        return message

    def drain(self, ifindex: int) -> None:
        """Receive unicast from this slave too, once it is not the one that is received from."""
        slave = self._slaves[ifindex]
        to = Redirect(index=slave.receiving.index, ingress=True)
        slave.drain = self._set(self._drained, Match(ifindex=ifindex, unicast=True), to, slave.drain)

    def end_drain(self, ifindex: int) -> None:
        """Receive nothing from it any more."""
        slave = self._slaves[ifindex]
        slave.drain = self._set(self._drained, EVERYTHING, None, slave.drain)

    def counters(self, ifindex: int) -> Counters:
        """Return what a slave has carried since it was added."""
        slave = self._slaves[ifindex]
        sent, received = (
            self._tc.get(slave.link.name, self._classifier, self._parked, handle)
            for handle in (slave.sending.handle, slave.receiving.handle)
        )
        return Counters(
            tx_frames=sent.frames - sent.lost,
            tx_bytes=sent.bytes,
            tx_errors=sent.lost,
            tx_dropped=sent.lost,
            rx_frames=received.frames - received.lost,
            rx_bytes=received.bytes + ETHERNET_HEADER * received.frames,
            rx_dropped=received.lost,
        )

    def _park(self, link: Link, to: Redirect) -> Filter:
        return self._tc.put(link.name, self._classifier, self._parked, EVERYTHING, to)

    def _set(self, place: Place, match: Match, to: Redirect | None, handle: int) -> int:
        """Add, replace or remove the filter of this handle (0: there is none); return its handle now."""
        if to is not None:
            return self._tc.put(self._failover, self._classifier, place, match, to, handle).handle
        if handle:
            self._remove(self._failover, place, handle)
        return 0

    def _remove_qdisc(self, what: str, ifindex: int, block: int) -> None:
        """Remove a qdisc, if it is still the one that was put there and not somebody else's."""
        with contextlib.suppress(LinkRequestError):
            if block in self._tc.filtered().get(ifindex, ()):
                self._tc.remove_qdisc(what, ifindex)

    def _remove(self, what: str, place: Place, handle: int) -> None:
        """Remove a filter; a block that has gone with its last link took it along."""
        with contextlib.suppress(LinkRequestError):
            self._tc.remove(what, self._classifier, place, handle)
