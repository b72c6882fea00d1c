"""The bench on which every subject is tried: one guest, its NICs, the far host, and eyes on each wire.

    guest                                     switch                     far
    master ┬ virtio-net  standby ── rp0 ───── standby ┐
           ├ e1000e      primary ── rp1 ───── primary ┼ br0 ── swf ───── eth0 10.53.0.2
           └ e1000e      third   ── rp2 ───── third   ┘
    10.53.0.1

All NICs of the guest have one MAC unless a scenario says otherwise. The far host sends numbered datagrams all the
time.
"""

import itertools
import json
import struct
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from observe import Wire
from traffic import RATE, Traffic

from tapbond.lab import wait_until
from tapbond.lab.vm import numbered
from tapbond.lab.vm.kernel import Kernel
from tapbond.lab.vm.machine import Machine
from tapbond.lab.vm.network import FAR_MAC, FAR_V4, GUEST_V4, Network, Switch
from tapbond.lab.vm.numbered import Numbered, open_socket

MAC = "02:00:00:00:00:53"
OTHER_MAC = "02:00:00:00:00:99"
PORT = 5300
FAR_RUN = 1
DRIVERS = {"standby": "virtio-net-pci", "primary": "e1000e", "third": "e1000e"}
PORT_OF = {"standby": "rp0", "primary": "rp1", "third": "rp2"}
BUS_OF = {"primary": "0000:02:00.0", "third": "0000:03:00.0"}
UDP = b"\x08\x00"
ARP, RARP = b"\x08\x06", b"\x80\x35"
DATAGRAM = struct.Struct("!II")

Link = dict[str, Any]


def device(role: str, mac: str = MAC, **properties: Any) -> dict[str, Any]:
    """Return the NIC of a role, as QEMU's ``-device`` takes it."""
    where = {"driver": DRIVERS[role], "id": role, "netdev": f"net{role}", "bus": PORT_OF[role]}
    return where | {"mac": mac, "romfile": ""} | properties


def raw(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


@dataclass(frozen=True)
class Paths:
    """Which way frames went when it was tried."""

    tx: str
    """The NIC by which frames left the guest, ``none``, or several with a plus."""
    rx: bool
    """Whether frames reached the guest."""
    errors: str
    """What the guest's sends failed with, if any did."""


class Rig:
    """A guest with a network around it.

    Args:
        folder: for sockets and logs, a short path.
        kernel: of the guest.
        root: the guest's initramfs.
        nics: those that are there when it boots.
        hosts: names of the switches; the guest boots on the first.
    """

    def __init__(
        self,
        folder: Path,
        kernel: Kernel,
        root: Path,
        nics: Mapping[str, Mapping[str, Any]],
        hosts: tuple[str, ...] = ("switch",),
    ) -> None:
        self._runs = itertools.count(2)
        self.plugged = set(nics)
        self.current: Any = None
        """The subject that has begun."""
        self.dirty = False
        """Whether a trial has left things as they should not be."""
        self.new = True
        """Whether the NICs are as they were at boot."""
        self.failover = any(nic.get("failover") for nic in nics.values())
        """Whether the standby offers the feature STANDBY."""
        with ExitStack() as stack:
            self.network = stack.enter_context(Network(dict.fromkeys(hosts, tuple(DRIVERS)), MAC))
            self.switch = self.network.switches[hosts[0]]
            self.machine = stack.enter_context(
                Machine(folder, kernel, root, taps=self.switch.taps, nics=list(nics.values()))
            )
            self.wires = {name: stack.enter_context(self._wire(self.switch, name)) for name in DRIVERS}
            sock = self.network.far.run(open_socket, FAR_V4, GUEST_V4, PORT)
            stack.callback(sock.close)
            self.far = Numbered(sock, RATE, FAR_RUN)
            self.far.start()
            stack.callback(self.far.end)
            self.guest = self.machine.guest
            self._stack = stack.pop_all()

    def _wire(self, switch: Switch, name: str) -> Wire:
        return Wire(switch.namespace, name, lambda frame: frame[6:12] in (raw(MAC), raw(OTHER_MAC)))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    # NICs

    def plug(self, role: str, mac: str = MAC, **properties: Any) -> None:
        self.machine.plug(device(role, mac, **properties))
        self.plugged.add(role)
        wait_until(lambda: self.nic(role), what=f"the guest to have its {role}")

    def unplug(self, role: str) -> None:
        self.machine.unplug(role)
        self.plugged.discard(role)

    def link(self, role: str, *, on: bool) -> None:
        """Switch a NIC's link, and wait until the guest has noticed, if it is up there."""
        self.machine.set_link(role, on=on)

        def noticed() -> bool:
            link = self.nic(role)
            return not link or "UP" not in link["flags"] or ("LOWER_UP" in link["flags"]) is on

        wait_until(noticed, what=f"the guest to notice the {role}'s link")

    # the machine

    def move(self, destination: Machine, host: str) -> dict[str, Any]:
        """Migrate the guest to a machine of another switch, and look there from then on."""
        state = self.machine.migrate(destination)
        self.guest.reconnect(destination.folder / "agent")
        self.machine, self.switch = destination, self.network.switches[host]
        self.wires = {name: self._stack.enter_context(self._wire(self.switch, name)) for name in DRIVERS}
        return state

    # what the guest shows

    def links(self) -> list[Link]:
        found: list[Link] = self.guest.ask("ip", "-j", "-d", "-s", "link")
        return found

    def find(self, name: str) -> Link | None:
        return next((link for link in self.links() if link["ifname"] == name), None)

    def nic(self, role: str) -> Link | None:
        """Return the guest's link of a role, None when it has none."""
        links = self.links()
        if role != "standby":
            return next((link for link in links if link.get("parentdev") == BUS_OF[role]), None)
        virtio = [link for link in links if link.get("parentbus") == "virtio"]
        masters = {link.get("master") for link in virtio}  # net_failover's has the same parent
        return next((link for link in virtio if link["ifname"] not in masters), None)

    def name(self, role: str) -> str:
        """Return the name in the guest of the NIC of a role, which must be there."""
        link = self.nic(role)
        assert link, f"the guest has no {role}"
        return str(link["ifname"])

    def ip(self, *argv: str) -> str:
        return self.guest.run("ip", *argv)

    # traffic

    def address(self, master: str) -> None:
        """Give the master its address and let it know the far host without asking."""
        self.ip("addr", "replace", f"{GUEST_V4}/24", "dev", master)
        self.ip("neigh", "replace", FAR_V4, "lladdr", FAR_MAC, "dev", master, "nud", "permanent")

    def numbered(self, run: int, seconds: float) -> tuple[str, ...]:
        program = (sys.executable, "-IS", numbered.__file__)
        return (*program, GUEST_V4, FAR_V4, str(PORT), str(RATE), str(run), str(seconds))

    def try_paths(self, master: str, seconds: float = 0.1) -> Paths:
        """Send for a moment and say what went where; by what the guest sends the switch knows where it is."""
        run = next(self._runs)
        if (self.find(master) or {"flags": []})["flags"].count("UP") == 0:
            return Paths("none", rx=False, errors="")
        self.address(master)
        since = {name: len(wire.frames) for name, wire in self.wires.items()}
        record = json.loads(self.guest.run(*self.numbered(run, seconds)).removeprefix("ready\n"))
        tx = [name for name, wire in self.wires.items() if run in runs_of(wire.frames[since[name] :])]
        return Paths("+".join(tx) or "none", bool(record["received"]), ", ".join(record["errors"]))

    def settle(self, master: str, tx: str | None = None, rx: bool = True, timeout: float = 10.0) -> Paths:
        """Return the paths once they are as wanted, or as they are at the deadline."""
        deadline = time.monotonic() + timeout
        while True:
            paths = self.try_paths(master)
            if (paths.rx == rx and (tx is None or paths.tx == tx)) or time.monotonic() > deadline:
                return paths

    @contextmanager
    def traffic(self, master: str) -> Iterator[Traffic]:
        """Have numbered traffic both ways while something happens."""
        self.address(master)
        traffic = Traffic(self, next(self._runs))
        wait_until(lambda: traffic.arrived() > 20, what="numbered traffic to flow")
        try:
            yield traffic
        finally:
            traffic.stop()

    def arriving(self, master: str, count: int) -> int:
        """Return how many of so many frames of the far host reach the guest."""
        with self.traffic(master) as traffic:
            first = len(self.far.sent_ns)
            traffic.go_on(count)
        return sum(first <= number < first + count for number in traffic.came)

    # the wires

    def mark(self) -> dict[str, int]:
        """Return where each wire's record is now."""
        return {name: len(wire.frames) for name, wire in self.wires.items()}

    def seen(self, role: str, since: Mapping[str, int], wanted: Callable[[bytes], bool]) -> bool:
        """Return whether a wire has had such a frame since a mark."""
        return any(wanted(frame) for frame in self.wires[role].frames[since[role] :])


def runs_of(frames: list[bytes]) -> set[int]:
    """Return the runs whose datagrams are among frames from the guest."""
    udp = (frame for frame in frames if frame[12:14] == UDP and frame[23] == 17 and len(frame) >= 50)
    return {DATAGRAM.unpack_from(frame, 42)[0] for frame in udp if frame[36:38] == struct.pack("!H", PORT)}


def is_announcement(frame: bytes) -> bool:
    """Return whether a frame only tells where its sender is: a RARP, or an ARP for its own address."""
    if frame[12:14] == RARP:
        return True
    return frame[12:14] == ARP and frame[28:32] == frame[38:42]
