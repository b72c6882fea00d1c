"""The figures of a comparison, from values that were measured."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tapbond.bench.account import busy_ticks
from tapbond.bench.figures import Spread, differences, quantile, ratios, spread
from tapbond.bench.loads import flood_figures
from tapbond.bench.machine import cpu_model
from tapbond.lab.flood import FloodState

values = st.lists(st.floats(0, 1e9), min_size=1, max_size=50)


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, 1), (0.5, 100), (0.501, 101), (0.99, 198), (0.999, 200), (1.0, 200)]
)
def test_quantile_is_the_nearest_rank(share: float, expected: int) -> None:
    assert quantile(range(1, 201), share) == expected


def test_quantile_of_one_value_is_that_value() -> None:
    assert [quantile([7.0], share) for share in (0.0, 0.5, 0.99, 1.0)] == [7.0] * 4


@given(values, st.floats(0, 1))
def test_quantile_was_measured_and_has_its_share_below_it(found: list[float], share: float) -> None:
    ordered = sorted(found)
    at = quantile(ordered, share)
    assert at in ordered
    assert sum(value <= at for value in ordered) >= share * len(ordered) * (1 - 1e-9)


def test_ratios_are_of_the_same_rounds_so_that_a_machine_that_drifts_does_not_show() -> None:
    assert ratios([5.0, 50.0, 0.5], [10.0, 100.0, 1.0]) == Spread(0.5, 0.5, 0.5)


def test_differences_are_of_the_same_rounds() -> None:
    assert differences([12.0, 112.0, 23.0], [10.0, 110.0, 20.0]) == Spread(2.0, 2.0, 3.0)


def test_rounds_that_the_other_did_not_take_part_in_do_not_count() -> None:
    assert ratios([5.0, 50.0], [10.0]) == Spread(0.5, 0.5, 0.5)
    assert ratios([5.0], []) is None
    assert ratios([5.0], [0.0]) is None
    assert differences([], [1.0]) is None


@given(values)
def test_spread_is_in_order(found: list[float]) -> None:
    extent = spread(found)
    assert extent.low <= extent.median <= extent.high


def test_busy_ticks_are_neither_idle_nor_stolen() -> None:
    assert busy_ticks("cpu  1 2 4 800 1600 8 16 3200 1 1") == 1 + 2 + 4 + 8 + 16


def test_a_processor_has_a_name_or_none() -> None:
    assert cpu_model("processor\t: 0\nmodel name\t: Some  CPU @ 2 GHz\nflags: x") == "Some CPU @ 2 GHz"
    assert cpu_model("processor\t: 0\nBogoMIPS: 50\n") == ""


def state(**changed: int) -> FloodState:
    fields = dict.fromkeys(FloodState._fields, 0)
    return FloodState(**{**fields, **changed})


def test_a_floods_figures_are_rates_at_the_sink_and_costs_of_what_arrived() -> None:
    before = state(sent=100, received=18 * 50, tx_cpu_ns=5, rx_cpu_ns=7, at_ns=1_000_000_000)
    after = state(sent=1100, received=18 * 550, overflow=4, tx_cpu_ns=1005, rx_cpu_ns=507, at_ns=1_500_000_000)
    found = flood_figures(before, after, {"tapbond": 2000, "machine": 6000}, 18)
    assert found == {
        "frames/s": 1000,
        "Gbit/s": 500 * 18 * 8 / 1e9 / 0.5,
        "sent/s": 2000,
        "sink overflow/s": 8,
        "ns/frame tapbond": 4,
        "ns/frame machine": 12,
        "ns/frame sender": 2,
        "ns/frame sink": 1,
    }


def test_a_flood_of_which_nothing_arrives_has_no_costs() -> None:
    found = flood_figures(state(), state(sent=10, at_ns=1_000_000_000), {"tapbond": 5}, 18)
    assert found["frames/s"] == 0
    assert not [metric for metric in found if metric.startswith("ns/frame")]
