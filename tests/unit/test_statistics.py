"""Folded statistics never run backwards and miss nothing that can be known."""

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from tapbond.model import LINK_COUNTER_FIELDS, LinkCounters
from tapbond.statistics import Fold, growth
from tapbond.tally import Tally
from tapbond.testing import VirtualClock, run

WORD = 1 << 32
SLAVES = (1, 2, 3)

counts = st.integers(0, WORD // 2 - 1)
changes = st.tuples(
    st.sampled_from(("count", "count", "reset", "unplug", "plug", "vanish")), st.sampled_from(SLAVES), counts
)


def counters(value: int) -> LinkCounters:
    """All fields at once, each another: none may be mistaken for another."""
    return LinkCounters(**{field: value + place for place, field in enumerate(LINK_COUNTER_FIELDS)})


def test_growth() -> None:
    assert growth(5, 8) == 3
    assert growth(8, 5) == 0
    assert growth(WORD - 2, 3) == 5
    assert growth(WORD - 2, WORD + 3) == 5
    assert growth(WORD + 3, 5) == 0
    assert growth(0, WORD // 2) == 0


class Driver:
    """A slave's driver, whose counters have 32 or 64 bits and start again from 0 when it likes."""

    def __init__(self, wide: bool) -> None:
        self.wide = wide
        self.value = 0

    def count(self, more: int) -> None:
        self.value += more
        if not self.wide:
            self.value %= WORD

    def told(self) -> LinkCounters:
        return LinkCounters(rx_packets=self.value, tx_bytes=self.value)


@given(st.lists(changes, max_size=60), st.sets(st.sampled_from(SLAVES)))
def test_never_backwards_and_as_the_model(happened: list[tuple[str, int, int]], wide: set[int]) -> None:
    """The model: what each driver counted while it was a slave.

    A counter that is reset from between 2 and 4 GiB looks like one of 32 bits that has wrapped: to the kernel too.
    """
    fold, drivers, plugged, truth = Fold(), {slave: Driver(slave in wide) for slave in SLAVES}, set[int](), 0
    for what, slave, more in happened:
        before, driver = fold.total, drivers[slave]
        if what == "count":
            driver.count(more)
            truth += more if slave in plugged else 0
            fold.update(slave, driver.told())
        elif what == "reset":
            if slave in plugged and WORD // 2 < driver.value < WORD:
                truth += WORD - driver.value
            driver.value = 0
            fold.update(slave, driver.told())
        elif what == "plug" and slave not in plugged:
            plugged.add(slave)
            fold.begin(slave, driver.told())
        elif what in {"unplug", "vanish"}:
            plugged.discard(slave)
            fold.end(slave, driver.told() if what == "unplug" else None)
        assert fold.total.rx_packets >= before.rx_packets
        assert fold.total.tx_bytes == fold.total.rx_packets == truth


@given(st.lists(st.integers(0, WORD // 2 - 1), max_size=40), st.booleans())
def test_exact_without_resets(steps: list[int], wide: bool) -> None:
    """64 bits: a step below 2 GiB is never mistaken; 32 bits: nor is a wrap."""
    driver, fold = Driver(wide), Fold()
    fold.begin(1, driver.told())
    for step in steps:
        driver.count(step)
        fold.update(1, driver.told())
    assert fold.total.rx_packets == sum(steps)


def test_each_field_is_folded_into_its_own() -> None:
    fold = Fold()
    fold.begin(1, counters(100))
    fold.begin(2, counters(1000))
    fold.update(1, counters(107))
    fold.update(2, counters(1001))
    assert fold.total == LinkCounters(**dict.fromkeys(LINK_COUNTER_FIELDS, 8))
    fold.end(1, counters(110))
    fold.update(1, counters(200))
    assert fold.total.rx_packets == 11
    fold.begin(1, counters(0))
    fold.update(1, counters(1))
    assert fold.total.rx_packets == 12


# How it is fed.


class Slave:
    """As much of a slave as the tally asks for."""

    def __init__(self, ifindex: int) -> None:
        self.link = self
        self.ifindex = ifindex


class Stage:
    def __init__(self) -> None:
        self.now: dict[int, int] = {}
        self.slaves: list[Slave] = []
        self.tally = Tally(self.slaves, self._read)

    async def _read(self, ifindex: int) -> LinkCounters | None:
        await asyncio.sleep(0.001)
        value = self.now.get(ifindex)
        return None if value is None else LinkCounters(rx_packets=value)

    async def look(self) -> int:
        await self.tally.look()
        return self.tally.total.rx_packets


def test_a_slave_counts_from_its_greeting_to_its_release() -> None:
    stage = Stage()

    async def main() -> None:
        stage.now[7] = 100
        await stage.tally.begin(7)
        stage.now[7] = 110
        assert await stage.look() == 10  # it is about to become one
        stage.slaves.append(Slave(7))
        stage.now[7] = 130
        assert await stage.look() == 30
        stage.slaves.clear()
        stage.now[7] = 140
        assert await stage.look() == 40  # for the last time
        stage.now[7] = 150
        assert await stage.look() == 40

    run(main(), VirtualClock())


def test_a_slave_that_was_unplugged_leaves_what_rtnetlink_told_last() -> None:
    stage = Stage()

    async def main() -> None:
        for told, total in ((LinkCounters(rx_packets=105), 5), (None, 5)):
            stage.now[7] = 100
            await stage.tally.begin(7)
            stage.slaves.append(Slave(7))
            looking = asyncio.create_task(stage.tally.look())
            await asyncio.sleep(0)
            stage.slaves.clear()
            del stage.now[7]
            stage.tally.end(7, told)
            await looking
            assert stage.tally.total.rx_packets == total

    run(main(), VirtualClock())


def test_looks_at_once_do_not_overtake_each_other() -> None:
    stage = Stage()

    async def main() -> None:
        stage.now[7] = 0
        await stage.tally.begin(7)
        stage.slaves.append(Slave(7))
        looks = [asyncio.create_task(stage.tally.look()) for _ in range(5)]
        for n in range(20):
            stage.now[7] = n
            await asyncio.sleep(0.0005)
        await asyncio.wait(looks)
        assert await stage.look() == 19

    run(main(), VirtualClock())
