"""Rounds: once a second, at once when there is hurry, whatever fails."""

import asyncio

from tapbond.rounds import Rounds
from tapbond.testing import VirtualClock, run


def test_once_a_second_and_in_a_hurry() -> None:
    done: list[int] = []
    clock = VirtualClock()

    async def duty() -> None:
        done.append(clock() // 1_000_000)
        await asyncio.sleep(0.01)

    async def main() -> None:
        start = clock() // 1_000_000
        rounds = Rounds(duty)
        rounds.start()
        await asyncio.sleep(2.5)
        assert [round(at - start, -1) for at in done] == [1000, 2010]
        for _ in range(9):
            rounds.hurry()
        await asyncio.sleep(0.005)
        assert len(done) == 3
        rounds.hurry()  # while a round is under way: once more
        await asyncio.sleep(0.1)
        assert len(done) == 4
        await rounds.stop()
        await rounds.stop()
        await asyncio.sleep(5)
        assert len(done) == 4

    run(main(), clock)


def test_a_duty_that_fails_keeps_nobody_from_the_others() -> None:
    done: list[str] = []

    async def fails() -> None:
        done.append("fails")
        raise ValueError("no")

    async def works() -> None:
        done.append("works")

    async def main() -> None:
        rounds = Rounds(fails, works)
        await rounds.once()
        await rounds.once()

    run(main(), VirtualClock())
    assert done == ["fails", "works"] * 2
