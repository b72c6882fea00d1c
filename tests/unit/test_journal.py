"""What a slave was like, in a file that survives whatever happens to its writer."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from structlog.testing import capture_logs

from tapbond.errors import TapbondError
from tapbond.journal import Journal, Original
from tapbond.testing import FakeNetwork, VirtualClock, run

MAC = "52:54:00:00:00:01"


def original(ifindex: int = 2, **properties: object) -> Original:
    found = {"name": f"eth{ifindex}", "mac": MAC, "mtu": 1500, "up": True, "addr_gen_mode": 0}
    return Original(ifindex=ifindex, **(found | properties))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "tb0.journal"


def test_what_was_written_is_found_by_the_next_process(path: Path) -> None:
    journal = Journal(path)
    journal.record(original(2, link_local=("fe80::1/64",)))
    journal.record(original(3, up=False, addr_gen_mode=None))
    assert Journal(path).left_behind() == [
        original(2, link_local=("fe80::1/64",)),
        original(3, up=False, addr_gen_mode=None),
    ]


def test_the_file_exists_only_while_there_is_something_in_it(path: Path) -> None:
    journal = Journal(path)
    assert not path.exists()
    journal.record(original(2))
    journal.record(original(3))
    journal.forget(original(2))
    assert Journal(path).left_behind() == [original(3)]
    journal.forget(original(2))
    journal.forget(original(3))
    assert not path.exists()
    assert Journal(path).left_behind() == []
    journal.record(original())
    journal.keep(())
    journal.keep(())
    assert not path.exists()


def test_a_link_that_is_written_down_again_stands_there_once(path: Path) -> None:
    journal = Journal(path)
    journal.record(original(mtu=1400))
    journal.record(original(mtu=9000))
    assert [found.mtu for found in Journal(path).left_behind()] == [9000]


def test_a_writer_that_dies_halfway_leaves_the_former_file(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal = Journal(path)
    journal.record(original(2))

    def power_cut(_self: Path, _target: Path) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Path, "replace", power_cut)
    with pytest.raises(KeyboardInterrupt):
        journal.record(original(3))
    assert Journal(path).left_behind() == [original(2)]


@pytest.mark.parametrize("content", [b"", b"{", b"[]x", b"null", b'[{"ifindex": "two"}]', b"\xff\xfe", b"[{}]"])
def test_a_file_that_cannot_be_read_holds_nothing(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert Journal(path).left_behind() == []


@given(st.binary(max_size=64))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_content_whatever_stops_a_start(path: Path, content: bytes) -> None:
    path.write_bytes(content)
    assert isinstance(Journal(path).left_behind(), list)


@given(st.text(max_size=40))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_name_whatever_stops_a_start(path: Path, text: str) -> None:
    path.write_text(f'[{{"ifindex": 2, "name": "{text}"}}]', encoding="utf-8", errors="surrogatepass")
    assert isinstance(Journal(path).left_behind(), list)


# Putting back.


def network(**properties: object) -> FakeNetwork:
    found = FakeNetwork(VirtualClock())
    found.add("eth2", MAC, **({"ifindex": 2, "mtu": 9000, "addr_gen_mode": 1} | properties))
    return found


@pytest.mark.parametrize(
    ("found", "methods"),
    [
        (original(), ["set_mtu", "set_addr_gen_mode", "set_up"]),
        (original(up=False), ["set_up", "set_mtu", "set_addr_gen_mode"]),
        (original(addr_gen_mode=None), ["set_mtu", "set_up"]),
        (
            original(link_local=("fe80::1/64", "fe80::2/64")),
            ["set_mtu", "set_addr_gen_mode", "set_up", "add_address", "add_address"],
        ),
    ],
)
def test_a_slave_is_put_back_in_this_order(found: Original, methods: list[str]) -> None:
    stage = network()
    run(found.restore(stage.rtnetlink), VirtualClock())
    assert [request[0] for request in stage.rtnetlink.requests] == methods
    link = stage.device("eth2")
    assert (link.mtu, link.up) == (1500, found.up)
    assert link.addr_gen_mode == (1 if found.addr_gen_mode is None else 0)
    assert {str(address) for address in stage.device_addresses.get(2, ())} == set(found.link_local)


def test_a_slave_that_was_renamed_meanwhile_is_known_by_its_ifindex() -> None:
    stage = network()
    stage.change("eth2", name="lan0")
    run(original().restore(stage.rtnetlink), VirtualClock())
    assert stage.device("lan0").mtu == 1500


def test_one_that_has_gone_is_fine() -> None:
    stage = network()
    stage.delete("eth2")
    run(original(up=False).restore(stage.rtnetlink), VirtualClock())


def test_its_own_mac_comes_back_whatever_it_was_given_last() -> None:
    """A change that was to be taken back, and was not: what is written down says that it has its own."""
    stage = network()
    stage.change("eth2", mac="52:54:00:00:00:99")
    changed = replace(original(), given_macs=("52:54:00:00:00:99", MAC))
    run(changed.restore_mac(stage.rtnetlink), VirtualClock())
    assert stage.device("eth2").mac == MAC


def test_a_refusal_is_said() -> None:
    stage = network()
    stage.rtnetlink.failures["set_mtu"] = [TapbondError("eth2: no")]
    with capture_logs() as logs:
        run(original(up=False).restore(stage.rtnetlink), VirtualClock())
    assert [(log["log_level"], log["slave"], log["error"]) for log in logs] == [("warning", "eth2", "eth2: no")]


def test_a_refusal_does_not_stop_what_comes_after() -> None:
    stage = network()
    stage.rtnetlink.failures["set_mtu"] = [TapbondError("eth2: no")]
    run(original().restore(stage.rtnetlink), VirtualClock())
    assert stage.device("eth2").addr_gen_mode == original().addr_gen_mode
