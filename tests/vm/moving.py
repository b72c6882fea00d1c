"""A live migration as the kernel's document has it, step by step, and what each step costs the traffic."""

import json
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rig import MAC, Rig
from subjects import Subject
from traffic import Traffic, longest_silence_ms

from tapbond.lab import wait_until
from tapbond.lab.vm import stream
from tapbond.lab.vm.machine import Machine
from tapbond.lab.vm.network import FAR_V4
from tapbond.lab.vm.stream import Stream

if TYPE_CHECKING:
    from tapbond.lab.vm.guest import Program

TCP_PORT = 5400
TCP_RATE = 100
SOURCE, DESTINATION = "source", "destination"
MIGRATE = "migrate"


@dataclass(frozen=True)
class Step:
    """What one step cost."""

    name: str
    lost_out: int
    lost_in: int
    silence_out_ms: float
    """The longest of what the guest sends, where the far host receives it."""


@dataclass(frozen=True)
class Journey:
    """What a migration came to."""

    steps: list[Step]
    duplicated: int
    downtime_ms: int
    """How long QEMU stopped the guest to copy the rest."""
    total_ms: int
    tcp_sent: int
    tcp_error: str
    tcp_silence_ms: float


class Tcp:
    """One connection from the guest to the far host, with numbers both ways."""

    def __init__(self, rig: Rig) -> None:
        with rig.network.far.socket() as listener:
            listener.bind((FAR_V4, TCP_PORT))
            listener.listen(1)
            listener.settimeout(20.0)
            argv = (sys.executable, "-IS", stream.__file__, FAR_V4, str(TCP_PORT), str(TCP_RATE))
            self.program: Program = rig.guest.start(*argv)
            self.far = Stream(listener.accept()[0], TCP_RATE)
        self.far.start()

    def flows_on(self) -> bool:
        """Return whether numbers still arrive at the far host."""
        had = len(self.far.arrived_ns)
        wait_until(lambda: len(self.far.arrived_ns) > had or self.far.error, what="TCP to go on")
        return not self.far.error

    def end(self) -> tuple[int, str]:
        """Stop both ends; return how many numbers were sent both ways, and what went wrong."""
        sent, error = self.far.sent, self.far.error
        record = json.loads(self.program.stop())
        self.far.end()
        return sent + record["sent"], error or record["error"]


class Diary:
    """Steps done under traffic.

    Args:
        traffic: numbered datagrams both ways.
    """

    def __init__(self, traffic: Traffic) -> None:
        self._traffic = traffic
        self._marks = [traffic.mark()]
        self._names: list[str] = []

    def step(self, name: str, act: Callable[[], object]) -> None:
        act()
        self._traffic.go_on(100)
        self._names.append(name)
        self._marks.append(self._traffic.mark())

    def steps(self) -> list[Step]:
        """Return what each cost, once the traffic has stopped."""
        arrived = {number for number, _ in self._traffic.out}
        found = []
        for name, (in_from, out_from), (in_to, out_to) in zip(
            self._names, self._marks, self._marks[1:], strict=False
        ):
            found.append(
                Step(
                    name,
                    lost_out=sum(number not in arrived for number in range(out_from, out_to)),
                    lost_in=sum(number not in self._traffic.came for number in range(in_from, in_to)),
                    silence_out_ms=longest_silence_ms(
                        [entry for entry in self._traffic.out if out_from - 1 <= entry[0] < out_to]
                    ),
                )
            )
        return found


def journey(rig: Rig, subject: Subject, destination: Machine) -> Journey:
    """Move a guest that sends by its primary; its standby's link is off, as the document has it."""
    rig.link("standby", on=False)
    master = str(subject.master(rig))
    tcp = Tcp(rig)
    source, there = rig.switch, rig.network.switches[DESTINATION]
    states: list[dict[str, int]] = []

    def plug() -> None:
        rig.plug("primary")
        wait_until(lambda: joined(rig, subject), timeout=20.0, what="the primary to be a slave again")

    with rig.traffic(master) as traffic:
        diary = Diary(traffic)
        diary.step("standby's link on", lambda: rig.link("standby", on=True))
        diary.step("VF unplugged", lambda: rig.unplug("primary"))
        diary.step("FDB: the MAC is behind the standby", lambda: source.pin(MAC, "standby"))
        diary.step(MIGRATE, lambda: states.append(rig.move(destination, DESTINATION)))
        diary.step("FDB cleaned up", lambda: source.unpin(MAC))
        diary.step("VF plugged on the destination", plug)
        diary.step("standby's link off", lambda: rig.link("standby", on=False))
        assert tcp.flows_on(), tcp.far.error
    assert there is rig.switch
    arrivals = list(enumerate(tcp.far.arrived_ns))
    sent, error = tcp.end()
    return Journey(
        steps=diary.steps(),
        duplicated=traffic.figures.duplicated,
        downtime_ms=states[0]["downtime"],
        total_ms=states[0]["total-time"],
        tcp_sent=sent,
        tcp_error=error,
        tcp_silence_ms=longest_silence_ms(arrivals),
    )


def joined(rig: Rig, subject: Subject) -> bool:
    """Return whether the primary is a slave, by hand where it does not become one by itself."""
    link = rig.nic("primary")
    if link and not link.get("master"):
        subject.enslave(rig, "primary")
    return bool(link and link.get("master"))
