"""The options of ``tapbond run``: what they make, and what is refused in one line."""

import click
import pytest

from tapbond.cli.run import command
from tapbond.config.options import to_settings
from tapbond.errors import TapbondError
from tapbond.settings import Backup, Probing, Settings

MS = 1_000_000


def parse(*arguments: str) -> Settings:
    context = command.make_context("run", ["tb0", *arguments])
    options = {
        name: value
        for name, value in context.params.items()
        if name not in ("failover", "config", "ready_fd", "run_dir", "verbose", "quiet")
    }
    return to_settings("tb0", options)


def test_the_defaults_are_those_of_the_library() -> None:
    assert parse("--standby", "eth0") == Settings(name="tb0", standby="eth0")


def test_every_option_arrives() -> None:
    made = parse(
        *("--standby", "eth0", "--primary", "eth1", "--backup", "eth2:-5", "--backup", "eth3", "--sticky", "eth2"),
        *(
            "--mac",
            "02:AA:00:00:00:01",
            "--mac-policy",
            "set",
            "--mtu",
            "9000",
            "--isolation",
            "nft",
            "--rx",
            "any",
        ),
        *(
            "--queues",
            "3",
            "--slots",
            "any",
            "--reselect",
            "failure",
            "--drain",
            "1",
            "--updelay",
            "2",
            "--downdelay",
            "3",
        ),
        *("--hold-down", "4", "--poll", "5", "--busy-poll", "9", "--announce", "6", "--announce-interval", "7"),
        *("--probe", "10.0.0.1", "--probe", "fd00::0:1", "--probe-interval", "20", "--probe-missed", "3"),
        *("--probe-targets", "all", "--probe-watchers", "any", "--probe-grace", "8", "--slave-netns", "blue"),
    )
    assert made == Settings(
        name="tb0",
        standby="eth0",
        primary="eth1",
        backups=(Backup(link="eth2", prio=-5), Backup(link="eth3")),
        sticky=frozenset({"eth2"}),
        mac="02:aa:00:00:00:01",
        mac_policy="set",
        mtu=9000,
        isolation="nft",
        rx="any",
        queues=3,
        reselect="failure",
        drain_ns=MS,
        updelay_ns=2 * MS,
        downdelay_ns=3 * MS,
        hold_down_ns=4 * MS,
        poll_s=0.005,
        busy_poll_ns=9000,
        announce_count=6,
        announce_interval_ns=7 * MS,
        probing=Probing(
            targets=("10.0.0.1", "fd00::1"),
            interval_ns=20 * MS,
            missed_max=3,
            all_targets=True,
            any_watcher=True,
            grace_ns=8 * MS,
        ),
        slave_netns="blue",
    )


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--backup", "eth2:ten"), "ten"),
        (("--backup", ":10"), "no link is named"),
        (("--backup", "eth2:3000000000"), "3000000000"),
        (("--probe", "gateway"), "'gateway' does not appear to be an IPv4 or IPv6 address"),
        (("--probe-interval", "10"), "20<=x<=60000"),
        (("--reselect", "sometimes"), "'always', 'better', 'failure'"),
        (("--mac-policy", "none"), "'same', 'set', 'follow'"),
        (("--slots", "3"), "'any', 'kernel'"),
        (("--announce", "256"), "0<=x<=255"),
    ],
)
def test_refused_by_the_command_line(arguments: tuple[str, ...], says: str) -> None:
    with pytest.raises(click.BadParameter) as caught:
        parse("--standby", "eth0", *arguments)
    assert says in caught.value.format_message()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--primary", "eth0"), "eth0: cannot be standby and primary at once"),
        (("--primary", "tb0"), "tb0: cannot be the failover and its own slave"),
        (("--backup", "eth0"), "eth0: named twice as a slave of tb0"),
        (("--backup", "eth2", "--backup", "eth2:1"), "eth2: named twice as a slave of tb0"),
        (
            ("--backup", "eth2", "--slots", "kernel"),
            "eth2: no backups with --slots kernel, which has two slots only",
        ),
        (
            ("--backup", "eth2", "--rx", "kernel"),
            "eth2: no backups with --rx kernel, whose rule is for two slaves",
        ),
        (("--sticky", "eth9"), "eth9: sticky, but not named as a slave of tb0"),
        (("--adopt", "--mac", "02:00:00:00:00:01"), "tb0: --adopt keeps the standby's MAC: leave out --mac"),
        (("--adopt", "--slave-netns", "x"), "tb0: --adopt does not go with --slave-netns"),
        (("--isolation", "netns", "--slave-netns", "x"), "tb0: --isolation netns does not go with --slave-netns"),
    ],
)
def test_refused_because_it_contradicts_itself(arguments: tuple[str, ...], says: str) -> None:
    with pytest.raises(TapbondError) as caught:
        parse("--standby", "eth0", *arguments)
    assert str(caught.value).startswith(says)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"standby": "eth0", "rx": "sometimes"}, "sometimes"),
        ({"standby": "eth0", "mtu": "large"}, "mtu"),
        ({"standby": "eth0", "updelay": 5}, "updelay"),
        ({}, "needs a standby link"),
    ],
)
def test_the_library_refuses_with_one_error(options: dict[str, object], says: str) -> None:
    with pytest.raises(TapbondError, match=says) as caught:
        Settings.of("tb0", options)
    assert str(caught.value).startswith("tb0: ")
