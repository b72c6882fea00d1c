"""How many queues there are, and what is refused."""

import click
import pytest

from tapbond._core import lib
from tapbond.cli.run import command
from tapbond.errors import TapbondError
from tapbond.queues import QUEUES_MAX, queue_count
from tapbond.settings import Settings


@pytest.mark.parametrize(("cores", "queues"), [(1, 1), (2, 1), (3, 1), (4, 2), (6, 3), (16, 8), (17, 8), (128, 8)])
def test_auto_leaves_half_of_the_processors_to_sender_and_receiver(cores: int, queues: int) -> None:
    assert queue_count("auto", cores, copies=True) == queues
    assert queue_count("auto", cores, copies=False) == 1


@pytest.mark.parametrize("copies", [True, False])
def test_a_number_is_a_number(copies: bool) -> None:
    assert queue_count(5, 1, copies=copies) == 5


def test_the_limit_is_that_of_the_pump() -> None:
    assert lib.TB_QUEUES_MAX == QUEUES_MAX


@pytest.mark.parametrize("value", ["0", "65", "-1", "x", "", "1.5", "²", "AUTO"])
def test_what_is_no_number_of_queues_is_refused_in_one_line(value: str) -> None:
    with pytest.raises(click.BadParameter) as refused:
        command.make_context("run", ["tb0", "--standby", "eth0", "--queues", value])
    assert refused.value.message == f"{value}: not a number of queues (1 to 64, or auto)"


@pytest.mark.parametrize("queues", [0, 65, -3])
def test_the_library_refuses_it_too(queues: int) -> None:
    with pytest.raises(TapbondError, match=f"tb0: {queues} queues: 1 to 64, or auto"):
        Settings.of("tb0", {"standby": "eth0", "queues": queues})


def test_another_word_is_refused() -> None:
    with pytest.raises(TapbondError, match="tb0: Invalid"):
        Settings.of("tb0", {"standby": "eth0", "queues": "many"})


def test_redirecting_has_no_use_for_them() -> None:
    with pytest.raises(TapbondError, match="tb0: --queues 2 does not go with --datapath redirect"):
        Settings.of("tb0", {"standby": "eth0", "datapath": "redirect", "queues": 2})
    assert Settings.of("tb0", {"standby": "eth0", "datapath": "redirect", "queues": "auto"}).queue_count() == 1
    assert Settings.of("tb0", {"standby": "eth0", "datapath": "auto", "queues": "auto"}).queue_count() == 1
    assert Settings.of("tb0", {"standby": "eth0", "datapath": "auto", "queues": 3}).queue_count() == 3
