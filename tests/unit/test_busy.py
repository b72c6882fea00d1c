"""How long the pump stays awake: only while that pays."""

from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from rig import frame, inbound, receive, running, send, until

from tapbond._core import lib

US = 1000
LONGEST = 50 * US

times = st.integers(0, 1 << 40)
windows = st.integers(0, LONGEST)


@given(windows, times)
def test_never_longer_than_it_may_be(window: int, waited: int) -> None:
    assert 0 <= lib.tb_busy_window(window, LONGEST, waited) <= LONGEST


@given(times)
def test_never_at_all_where_it_may_not(waited: int) -> None:
    assert lib.tb_busy_window(0, 0, waited) == 0


@given(windows, st.integers(LONGEST + 1, 1 << 40))
def test_after_a_long_pause_it_sleeps_at_once(window: int, waited: int) -> None:
    assert lib.tb_busy_window(window, LONGEST, waited) == 0


@given(st.integers(1, LONGEST))
def test_a_steady_stream_finds_it_awake_after_a_few(gap: int) -> None:
    window = 0
    for _ in range(4):
        window = lib.tb_busy_window(window, LONGEST, gap)
    assert window >= gap
    assert lib.tb_busy_window(window, LONGEST, gap) == window


def asleep() -> bool:
    """Return whether every pump of this process sleeps (proc_pid_stat(5))."""
    stats = [path.read_text() for path in Path("/proc/self/task").glob("*/stat")]
    pumps = [stat.rsplit(") ", 1) for stat in stats if "(tapbond-pump) " in stat]
    return bool(pumps) and all(state.startswith("S") for _, state in pumps)


async def test_an_idle_pump_sleeps() -> None:
    async with running() as rig:
        for number in range(100):  # so that it has reason to stay awake
            await send(rig.host, [frame(number)])
            await send(rig.far[0], [inbound(number)])
            await receive(rig.far[0], 1)
            await receive(rig.host, 1)
        await until(asleep, "the pump to sleep")
        await send(rig.host, [frame(1)])
        assert await receive(rig.far[0], 1) == [frame(1)]
