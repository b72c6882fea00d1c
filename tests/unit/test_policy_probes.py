"""The policy where probes have something to say."""

import pytest

from tapbond.model import ReceiveMode, Reselect, Role, SlaveFacts
from tapbond.policy import decide

NOW = 10**12


def chosen(
    primary: bool, standby: bool, active: int, *, requested: int | None = None, forced: bool = False
) -> int | None:
    """Return who sends, of a primary 1 and a standby 0 whose probes are answered or not."""
    slaves = [
        SlaveFacts(port=0, role=Role.STANDBY, up=True, carrier=True, answered=standby),
        SlaveFacts(port=1, role=Role.PRIMARY, up=True, carrier=True, answered=primary, forced=forced),
    ]
    return decide(ReceiveMode.ACTIVE, slaves, NOW, requested, active=active, reselect=Reselect.ALWAYS).active


@pytest.mark.parametrize("active", [0, 1])
def test_who_answers_goes_first(active: int) -> None:
    assert chosen(primary=False, standby=True, active=active) == 0
    assert chosen(primary=True, standby=False, active=active) == 1
    assert chosen(primary=True, standby=True, active=active) == 1


@pytest.mark.parametrize("active", [0, 1])
@pytest.mark.parametrize("forced", [False, True])
def test_where_nobody_answers_the_active_one_stays(active: int, forced: bool) -> None:
    assert chosen(primary=False, standby=False, active=active, forced=forced) == active


def test_by_hand() -> None:
    assert chosen(primary=True, standby=True, active=1, requested=0) == 0
    assert chosen(primary=True, standby=False, active=1, requested=0) == 1
    assert chosen(primary=False, standby=False, active=1, requested=0) == 0
