"""Reading the configuration again: what is applied, what is told, and what a terminal's SIGHUP means."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from tapbond.config.change import Change
from tapbond.config.configuration import Configuration
from tapbond.errors import ConfigError, TapbondError
from tapbond.service.reloading import Reloading, hung_up
from tapbond.settings import MS, Settings

Start = Callable[[str], tuple["Adjusted", Reloading]]


class Adjusted:
    """A failover that takes note of what it is told."""

    def __init__(self) -> None:
        self.name = "tb0"
        self.ready = asyncio.Event()
        self.settings: list[Settings] = []
        self.refusal = ""

    async def adjust(self, settings: Settings) -> list[str]:
        if self.refusal:
            raise TapbondError(self.refusal)
        self.settings.append(settings)
        return []


def write(path: Path, text: str) -> None:
    path.write_text(text)


def remove(path: Path) -> None:
    path.unlink()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tb0.toml"


@pytest.fixture
def start(path: Path) -> Start:
    def start(text: str) -> tuple[Adjusted, Reloading]:
        path.write_text(text)
        failover = Adjusted()
        return failover, Reloading(failover, Configuration.read("tb0", path, {"poll": 7}))  # type: ignore[arg-type]

    return start


async def test_what_can_be_applied_is_and_the_rest_is_told_until_the_restart(path: Path, start: Start) -> None:
    failover, reloading = start('standby = "eth0"\n')
    write(path, 'standby = "eth0"\nupdelay = 1\nrx = "any"\npoll = 1\n')
    assert await reloading.reload() == Change(applied=("updelay",), restart=("rx",))
    assert failover.settings == [Settings(name="tb0", standby="eth0", updelay_ns=MS, poll_s=0.007)]
    assert await reloading.reload() == Change(restart=("rx",))
    write(path, 'standby = "eth0"\nupdelay = 1\n')
    assert await reloading.reload() == Change()


async def test_what_failed_is_tried_again(path: Path, start: Start) -> None:
    failover, reloading = start('standby = "eth0"\n')
    failover.refusal = "eth1: not an Ethernet link"
    write(path, 'standby = "eth0"\nprimary = "eth1"\n')
    with pytest.raises(TapbondError, match="not an Ethernet link"):
        await reloading.reload()
    failover.refusal = ""
    assert await reloading.reload() == Change(applied=("primary",))


async def test_what_goes_only_together_with_a_restart_is_not_applied_in_part(path: Path, start: Start) -> None:
    failover, reloading = start('standby = "eth0"\nslots = "kernel"\n')
    write(path, 'standby = "eth0"\nbackup = ["eth2"]\nupdelay = 1\n')
    with pytest.raises(
        ConfigError, match=r"eth2: no backups .* needs a restart, as do slots: nothing was applied"
    ):
        await reloading.reload()
    assert failover.settings == []


async def test_a_file_that_has_gone_changes_nothing(path: Path, start: Start) -> None:
    failover, reloading = start('standby = "eth0"\n')
    remove(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        await reloading.reload()
    assert failover.settings == []


def test_a_terminal_that_was_closed_is_told_from_one_that_is_open() -> None:
    """The kernel's __tty_hangup(): every ioctl fails once the other end has gone."""
    master, slave = os.openpty()
    with open(slave) as stream:  # noqa: PTH123  (a descriptor)
        assert stream.isatty()
        assert not hung_up([stream])
        os.close(master)
        assert hung_up([stream])
    assert not hung_up([])
