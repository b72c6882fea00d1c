"""Namespaces are found by name, path and process id."""

import os
from pathlib import Path

import pytest

from tapbond.errors import NamespaceError
from tapbond.model import Link, Role
from tapbond.netns import OWN, Netns, own_inode, shows_netns
from tapbond.registry import Registry


@pytest.mark.parametrize("text", [str(os.getpid()), f"/proc/{os.getpid()}/ns/net", str(OWN)])
def test_found(text: str) -> None:
    found = Netns.find(text)
    assert (found.inode, found.name) == (own_inode(), text)
    assert not os.get_inheritable(found.fileno())
    found.close()
    found.close()


def test_found_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a name that is also a process id the name wins, as with ip-link(8)."""
    monkeypatch.setattr("tapbond.netns.NAMED", tmp_path)
    (tmp_path / "1").symlink_to(f"/proc/{os.getpid()}/ns/net")
    found = Netns.find("1")
    assert found.inode == own_inode()
    found.close()


@pytest.mark.parametrize("text", ["", "lan", "..", "-1", "999999999", "/", "/etc/hosts", "/none", "a/b", "\u0661"])
def test_not_found(text: str) -> None:
    with pytest.raises(NamespaceError) as caught:
        Netns.find(text)
    assert str(caught.value).startswith(f"{text}: ")
    assert "\n" not in str(caught.value)


def test_shows_netns(tmp_path: Path) -> None:
    assert shows_netns(OWN)
    (tmp_path / "stale").touch()
    assert not shows_netns(tmp_path / "stale")
    assert not shows_netns(tmp_path / "none")


def test_an_ifindex_says_nothing_without_its_namespace() -> None:
    slots = Registry("tb0", "52:54:00:00:00:01", None, None)
    there = Link(ifindex=3, name="eth1", mac="52:54:00:00:00:01", netns=2)
    slots.take(Role.PRIMARY, there)
    here = Link(ifindex=3, name="eth7", mac="52:54:00:00:00:01", netns=1)
    slots.check(here, Role.STANDBY, {})
    assert there.key != here.key
