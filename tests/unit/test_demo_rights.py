"""What the demo says when it may not, without changing anything here."""

import errno
import os
from pathlib import Path

import pytest

from tapbond.errors import RightsError, TapbondError
from tapbond.lab.demo import plot, rights

DENIED = OSError(errno.EPERM, os.strerror(errno.EPERM))


@pytest.mark.parametrize(("name", "bad", "good"), rights.SYSCTLS)
def test_sysctl_that_forbids_is_named_with_the_way_out(name: str, bad: str, good: str) -> None:
    said = rights.forbidden(DENIED, lambda asked: bad if asked == name else None)
    assert f"{name} is {bad}" in said
    assert f"sysctl -w {name}={good}" in said
    assert "\n" not in said


def test_unknown_reason_is_told_as_the_kernel_said_it() -> None:
    assert "Operation not permitted" in rights.forbidden(DENIED, lambda _: None)
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    assert "user.max_user_namespaces" in rights.forbidden(full, lambda _: None)


def test_missing_sysctl_reads_as_none() -> None:
    assert rights.read_sysctl("kernel.no_such_thing") is None
    assert rights.read_sysctl("kernel.ostype") == "Linux"


def test_missing_device_is_named_with_the_way_out(tmp_path: Path) -> None:
    with pytest.raises(RightsError, match=r"tun: does not exist \(modprobe tun"):
        rights.check_device(tmp_path / "tun")


def test_device_that_may_not_be_opened_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> int:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(rights.os, "open", refuse)
    with pytest.raises(RightsError, match=r"may not be opened \(as root: chmod 666"):
        rights.check_device(tmp_path / "tun")


def test_capabilities_are_a_mask() -> None:
    assert 0 <= rights.capabilities() < 1 << 64


def test_plot_needs_a_suffix_that_it_knows(tmp_path: Path) -> None:
    with pytest.raises(TapbondError, match=r"a plot is a .png or .svg file"):
        plot.check(tmp_path / "plot.pdf")


def test_plot_needs_matplotlib(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plot, "find_spec", lambda _: None)
    with pytest.raises(TapbondError, match=r"pip install 'tapbond\[plot\]'"):
        plot.check(tmp_path / "plot.svg")
