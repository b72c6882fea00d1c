"""Speed and duplex: what the driver is asked, what the slaves know of it, what the failover shows."""

import ctypes
import errno
import struct
from collections.abc import Iterator
from typing import Any

import pytest

from tapbond import ethtool
from tapbond.ethtool import (
    DUPLEX_FULL,
    DUPLEX_HALF,
    DUPLEX_UNKNOWN,
    ETHTOOL_GLINKSETTINGS,
    ETHTOOL_SLINKSETTINGS,
    NAME,
    REQUEST,
    SETTINGS_LEN,
    SIOCGIFNAME,
    SPEED_UNKNOWN,
    UNKNOWN,
    Ethtool,
    LinkSpeed,
)
from tapbond.slave import Slave
from tapbond.speed import SpeedMirror
from tapbond.testing import VirtualClock, run

WORDS = 4


class Kernel:
    """eth1, ifindex 7: answers as dev_ethtool() in net/ethtool/ioctl.c does, the handshake included."""

    def __init__(self, speed: int, duplex: int) -> None:
        self.speed, self.duplex = speed, duplex
        self.masks = bytes(range(3 * 4 * WORDS))
        self.refuse = 0

    def ioctl(self, _fd: Any, request: int, argument: bytes) -> bytes:
        if request == SIOCGIFNAME:
            if NAME.unpack(argument)[1] != 7:
                raise OSError(errno.ENODEV, "No such device")
            return NAME.pack(b"eth1", 7)
        name, address = REQUEST.unpack(argument)
        assert name.rstrip(b"\0") == b"eth1"
        if self.refuse:
            raise OSError(self.refuse, "no")
        command, speed, duplex = struct.unpack("=IIB", ctypes.string_at(address, 9))
        (words,) = struct.unpack("b", ctypes.string_at(address + 15, 1))
        if command == ETHTOOL_GLINKSETTINGS:
            head = struct.pack("=IIB6xb32x", command, self.speed, self.duplex, words if words == WORDS else -WORDS)
            assert len(head) == SETTINGS_LEN
            ctypes.memmove(address, head, len(head))
            if words == WORDS:
                ctypes.memmove(address + SETTINGS_LEN, self.masks, len(self.masks))
        else:
            assert (command, words) == (ETHTOOL_SLINKSETTINGS, WORDS)
            assert ctypes.string_at(address + SETTINGS_LEN, len(self.masks)) == self.masks
            self.speed, self.duplex = speed, duplex
        return argument


@pytest.fixture
def kernel(monkeypatch: pytest.MonkeyPatch) -> Kernel:
    made = Kernel(1000, DUPLEX_FULL)
    monkeypatch.setattr(ethtool, "fcntl", made)
    return made


@pytest.fixture
def tool() -> Iterator[Ethtool]:
    made = Ethtool()
    yield made
    made.close()


@pytest.mark.parametrize(
    ("speed", "duplex", "expected", "full"),
    [
        (1000, DUPLEX_FULL, LinkSpeed(speed=1000, duplex=DUPLEX_FULL), True),
        (10, DUPLEX_HALF, LinkSpeed(speed=10, duplex=DUPLEX_HALF), False),
        (SPEED_UNKNOWN, DUPLEX_UNKNOWN, UNKNOWN, False),
    ],
)
def test_read(kernel: Kernel, tool: Ethtool, speed: int, duplex: int, expected: LinkSpeed, full: bool) -> None:
    kernel.speed, kernel.duplex = speed, duplex
    found = tool.read(7)
    assert found == expected
    assert found.full_duplex is full


def test_what_cannot_be_read_is_unknown(kernel: Kernel, tool: Ethtool) -> None:
    assert tool.read(8) == UNKNOWN
    kernel.refuse = errno.EOPNOTSUPP
    assert tool.read(7) == UNKNOWN


def test_write_changes_nothing_but_speed_and_duplex(kernel: Kernel, tool: Ethtool) -> None:
    for speed in (LinkSpeed(speed=25000, duplex=DUPLEX_FULL), LinkSpeed(speed=10, duplex=DUPLEX_HALF), UNKNOWN):
        tool.write(7, speed)
        assert tool.read(7) == speed
    assert kernel.speed == SPEED_UNKNOWN


def test_write_says_why_not(kernel: Kernel, tool: Ethtool) -> None:
    kernel.refuse = errno.EPERM
    with pytest.raises(OSError, match="no"):
        tool.write(7, UNKNOWN)


# What is shown.

FAST = LinkSpeed(speed=25000, duplex=DUPLEX_FULL)
SLOW = LinkSpeed(speed=1000, duplex=DUPLEX_FULL)


class FakeSlave:
    """As much of a slave as the mirror asks for."""

    def __init__(self, ifindex: int) -> None:
        self.link = self
        self.ifindex = ifindex
        self.speed = 0
        self.full_duplex = False


class Stage:
    """Slaves 1 (fast) and 2 (slow)."""

    def __init__(self) -> None:
        self.drivers = {1: FAST, 2: SLOW}
        self.slaves: list[Any] = [FakeSlave(1), FakeSlave(2)]
        self.active: Any = None
        self.shown: list[LinkSpeed] = []
        self.asked: list[int] = []
        self.decided = 0
        self.mirror = SpeedMirror(self.slaves, self._active, self._read, self._show, self._changed)

    def _active(self) -> Slave | None:
        found: Slave | None = self.active
        return found

    async def _read(self, ifindex: int) -> LinkSpeed:
        self.asked.append(ifindex)
        return self.drivers.get(ifindex, UNKNOWN)

    async def _show(self, speed: LinkSpeed) -> None:
        self.shown.append(speed)

    def _changed(self) -> None:
        self.decided += 1


def test_each_change_of_the_active_slave_is_shown_once() -> None:
    stage = Stage()

    async def main() -> None:
        for slave in stage.slaves:
            assert await stage.mirror.read(slave)
        assert [(slave.speed, slave.full_duplex) for slave in stage.slaves] == [(25000, True), (1000, True)]
        for active in (None, stage.slaves[0], stage.slaves[1], stage.slaves[1], None):
            stage.active = active
            await stage.mirror.look()
        assert stage.shown == [UNKNOWN, FAST, SLOW, UNKNOWN]
        stage.mirror.show_again()
        await stage.mirror.look()
        assert stage.shown[-2:] == [UNKNOWN, UNKNOWN]

    run(main(), VirtualClock())


def test_only_doubtful_slaves_are_read_and_only_other_speeds_are_worth_a_decision() -> None:
    stage = Stage()

    async def main() -> None:
        for slave in stage.slaves:
            await stage.mirror.read(slave)
        stage.asked.clear()
        await stage.mirror.look()
        assert stage.asked == []
        stage.mirror.doubt(2)
        stage.mirror.doubt(99)
        await stage.mirror.look()
        assert (stage.asked, stage.decided) == ([2], 0)
        stage.drivers[2] = FAST
        stage.mirror.doubt(2)
        await stage.mirror.look()
        assert (stage.asked, stage.decided, stage.slaves[1].speed) == ([2, 2], 1, 25000)

    run(main(), VirtualClock())


def test_a_slave_that_has_gone_is_forgotten() -> None:
    stage = Stage()

    async def main() -> None:
        for slave in stage.slaves:
            await stage.mirror.read(slave)
        stage.active = stage.slaves.pop()
        await stage.mirror.look()
        assert stage.shown == [UNKNOWN]

    run(main(), VirtualClock())
