"""Configuration files: every option, each mistake with its line, the schema, what a reload may change."""

import re
from pathlib import Path

import click
import msgspec
import pytest
from click.testing import CliRunner
from msgspec import inspect

from tapbond.adjustment import ADJUSTABLE
from tapbond.cli import cli
from tapbond.cli.run import command
from tapbond.config.allowed import types
from tapbond.config.change import LIVE, Change, applicable, compare
from tapbond.config.configuration import Configuration
from tapbond.config.file import ConfigFile, find
from tapbond.config.options import DEFAULTS, PARAMETERS, Options, name_of, to_settings
from tapbond.errors import ConfigError
from tapbond.settings import Backup, Probing, Settings

MS = 1_000_000
EXAMPLES = sorted((Path(__file__).parents[2] / "docs" / "examples").glob("*.toml"))
NOT_IN_A_FILE = {"--config", "--ready-fd"}
"""Where the file is, and a descriptor of whoever starts it."""

PARAMETER_OF = {
    option.opts[-1]: option
    for option in command.params
    if isinstance(option, click.Option) and option.opts[-1] not in NOT_IN_A_FILE
}


def read(tmp_path: Path, text: str | bytes) -> ConfigFile:
    path = tmp_path / "tb0.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return ConfigFile.read(path)


def findings(tmp_path: Path, text: str | bytes) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read(tmp_path, text).settings("tb0")
    return [finding.removeprefix(str(tmp_path / "tb0.toml")) for finding in caught.value.findings]


def test_a_file_may_say_what_the_command_line_may() -> None:
    assert {f"--{name}" for name in types()} == PARAMETER_OF.keys()
    assert {option.name for option in PARAMETER_OF.values()} == DEFAULTS.keys()


@pytest.mark.parametrize("name", list(types()))
def test_with_the_same_range_and_the_same_default(name: str) -> None:
    option, kind = PARAMETER_OF[f"--{name}"], types()[name]
    while isinstance(kind, inspect.Metadata):
        kind = kind.type
    if isinstance(option.type, click.IntRange):
        assert isinstance(kind, inspect.IntType)
        assert (kind.ge, kind.le) == (option.type.min, option.type.max)
    elif isinstance(option.type, click.Choice):
        values = [item.value for item in kind.cls] if isinstance(kind, inspect.EnumType) else kind.values
        assert set(values) == set(option.type.choices)
    if not option.multiple and not option.is_flag and option.envvar is None:
        context = command.make_context("run", ["tb0"])
        assert context.params[option.name or ""] == DEFAULTS[option.name or ""]


def test_every_option_arrives(tmp_path: Path) -> None:
    made = read(
        tmp_path,
        'standby = "eth0"\nprimary = "eth1"\nbackup = ["eth2:-5", "eth3"]\nsticky = ["eth2"]\n'
        'mac = "02:AA:00:00:00:01"\nmac-policy = "set"\nmtu = 9000\nisolation = "nft"\nrx = "any"\n'
        'slots = "any"\nreselect = "failure"\ndrain = 1\nupdelay = 2\ndowndelay = 3\nhold-down = 4\npoll = 5\n'
        'busy-poll = 9\nannounce = 6\nannounce-interval = 7\nprobe = ["10.0.0.1", "fd00::0:1"]\n'
        'probe-interval = 20\nprobe-missed = 3\nprobe-targets = "all"\nprobe-watchers = "any"\nprobe-grace = 8\n'
        'adopt = false\nslave-netns = "blue"\n'
        'run-dir = "/tmp/x"\ndatapath = "copy"\nqueues = 3\nmetrics = "9199"\n'
        'metrics-file = "/tmp/x.prom"\nverbose = true\nquiet = true\n',
    )
    assert made.options.keys() == DEFAULTS.keys()
    assert made.settings("tb0") == Settings(
        name="tb0",
        standby="eth0",
        primary="eth1",
        backups=(Backup(link="eth2", prio=-5), Backup(link="eth3")),
        sticky=frozenset({"eth2"}),
        mac="02:aa:00:00:00:01",
        mac_policy="set",
        mtu=9000,
        isolation="nft",
        queues=3,
        metrics="9199",
        metrics_file="/tmp/x.prom",  # noqa: S108
        rx="any",
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
        run_dir=Path("/tmp/x"),  # noqa: S108
    )


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            'standby = "eth0"\nupdelai = 5\n',
            ":2: updelai: no such option (did you mean updelay? allowed: standby, ",
        ),
        ("hold_down = 5\n", ":1: hold_down: no such option (did you mean hold-down? "),
        (
            "\n[probe-missed]\nx = 1\n",
            ':2: probe-missed: {"x": 1} is not allowed here: a whole number from 1 to 255',
        ),
        (
            "# a\nupdelay = 700000\n",
            ":2: updelay: 700000 is not allowed here: a whole number from 0 to 600000 (ms)",
        ),
        ("busy-poll = 1.5\n", ":1: busy-poll: 1.5 is not allowed here: a whole number from 0 to 1000 (µs)"),
        ("announce = true\n", ":1: announce: true is not allowed here: a whole number from 0 to 255"),
        ('rx = "some"\n', ':1: rx: "some" is not allowed here: one of "active", "kernel", "any"'),
        ('isolation = "vrf"\n', ':1: isolation: "vrf" is not allowed here: one of "auto", "bridge", '),
        ('adopt = "yes"\n', ':1: adopt: "yes" is not allowed here: true or false'),
        ('standby = "a/b"\n', ':1: standby: "a/b" is not allowed here: the name of a link (up to 15'),
        ('backup = "eth2"\n', ':1: backup: "eth2" is not allowed here: a list, each LINK or LINK:PRIO'),
        ('backup = ["eth2:9999999999"]\n', ":1: backup: eth2:9999999999: 9999999999 is not in the range -2147"),
        ('mac = "01:00:5e:00:00:01"\n', ":1: mac: 01:00:5e:00:00:01: a group address cannot be a link's own"),
        ('probe = [\n"gateway"]\n', ":1: probe: 'gateway' does not appear to be an IPv4 or IPv6 address"),
        ('standby = "eth0"\nstandby = "eth1"\n', ":2:17: not TOML: cannot overwrite a value"),
        ('standby = "eth0\n', ":1:16: not TOML: "),
        (b'standby = "eth0"\nmac = "\xff"\n', ":2: not UTF-8 text, which TOML is"),
        (b"x" * 2_000_000, ": longer than 1048576 bytes: not a configuration file"),
        ('standby = "eth0"\nprimary = "eth0"\n', ":2: eth0: cannot be standby and primary at once"),
        ('standby = "eth0"\n\nsticky = ["eth9"]\n', ":3: eth9: sticky, but not named as a slave of tb0"),
        ('standby = "eth0"\nadopt = true\nslave-netns = "x"\n', ":2: tb0: --adopt does not go with --slave-netns"),
        ("", ": tb0: needs a standby link, or the MAC to look for"),
    ],
)
def test_a_mistake_is_named_with_its_line_and_what_is_allowed(
    tmp_path: Path, text: str | bytes, says: str
) -> None:
    (found,) = findings(tmp_path, text)
    assert found.startswith(says)
    assert "\n" not in found


def test_all_mistakes_are_told_by_check_and_the_first_by_run(tmp_path: Path) -> None:
    text = "updelay = -1\n\nx = 1\nmtu = 1\n"
    assert [finding.partition(": ")[0] for finding in findings(tmp_path, text)] == [":1", ":3", ":4"]
    path = tmp_path / "tb0.toml"
    done = CliRunner().invoke(cli, ["check", str(path)])
    assert (done.exit_code, done.stderr.count("\n")) == (1, 3)
    with pytest.raises(ConfigError, match=re.escape(f"(and 2 more: tapbond check {path})")):
        ConfigFile.read(path)


def test_a_file_that_is_not_there_or_not_ours(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        find("tb0", tmp_path / "none.toml")
    with pytest.raises(ConfigError, match="cannot be read: Is a directory"):
        find("tb0", tmp_path)


def test_a_failovers_own_file_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TAPBOND_CONFIG_DIR", str(tmp_path))
    assert find("tb0", None) == ConfigFile()
    read(tmp_path, 'standby = "eth0"\n')
    assert find("tb0", None).options == {"standby": "eth0"}
    assert find("tb0", Path("/dev/null")) == ConfigFile()
    assert CliRunner().invoke(cli, ["check"]).stdout == f"{tmp_path / 'tb0.toml'}: ok\n"


def test_the_command_line_wins_now_and_when_the_file_is_read_again(tmp_path: Path) -> None:
    path = tmp_path / "tb0.toml"
    path.write_text('standby = "eth0"\nupdelay = 7\npoll = 1\n')
    made = Configuration.read("tb0", path, {"updelay": 9})
    assert (made.settings.updelay_ns, made.settings.poll_s) == (9 * MS, 0.001)
    path.write_text('standby = "eth0"\nupdelay = 8\npoll = 2\n')
    again = made.again()
    assert (again.settings.updelay_ns, again.settings.poll_s) == (9 * MS, 0.002)
    assert compare(made.options, again.options) == Change(applied=("poll",))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_an_example_is_valid(path: Path) -> None:
    assert ConfigFile.read(path).settings(path.stem).name == path.stem


def test_the_example_with_everything_has_everything_and_the_defaults() -> None:
    (path,) = (path for path in EXAMPLES if path.stem == "everything")
    text = path.read_text()
    mentioned = set(re.findall(r"^#?([a-z-]+) = ", text, re.MULTILINE))
    assert mentioned == set(types())
    read = ConfigFile.read(path)
    assert {**DEFAULTS, **read.options} == {**DEFAULTS, "standby": "eth0", "primary": "eth1"}
    starred = set(re.findall(r"^#?([a-z-]+) = .*# \*", text, re.MULTILINE))
    assert starred == {name_of(NAMES.get(name, name)) for name in DEFAULTS.keys() - LIVE}


NAMES = {parameter: option for option, parameter in PARAMETERS.items()}


def test_what_a_reload_applies_is_what_a_failover_can_change() -> None:
    """Each live option changes fields of Settings that Failover.adjust() takes, and no other."""
    samples = {
        "primary": "eth9",
        "backups": (Backup(link="eth8"),),
        "sticky": frozenset({"eth0"}),
        "reselect": "better",
    }
    samples |= {"targets": ("10.0.0.1",), "probe_targets": "all", "probe_watchers": "any"}
    before, touched = to_settings("tb0", {"standby": "eth0"}), set()
    for name in LIVE:
        after = to_settings("tb0", {"standby": "eth0", name: samples.get(name, 33)})
        different = {f for f in Settings.__struct_fields__ if getattr(before, f) != getattr(after, f)}
        assert different
        assert different <= ADJUSTABLE
        touched |= different
    assert touched == ADJUSTABLE


def test_what_needs_a_restart_stays_as_it_was() -> None:
    before = {**DEFAULTS, "standby": "eth0"}
    after = {**before, "rx": "any", "poll": 0, "verbose": True, "targets": ("10.0.0.1",)}
    change = compare(before, after)
    assert change == Change(applied=("poll", "probe"), restart=("rx", "verbose"))
    assert str(change) == "applied: poll, probe; needs a restart: rx, verbose"
    assert applicable(before, after) == {**before, "poll": 0, "targets": ("10.0.0.1",)}
    assert str(compare(before, before)) == "nothing has changed"


def test_the_schema_describes_every_key_and_allows_no_other() -> None:
    done = CliRunner().invoke(cli, ["schema"])
    made = msgspec.json.decode(done.stdout)
    assert made["additionalProperties"] is False
    assert made["properties"].keys() == types().keys()
    assert all(value["description"] for value in made["properties"].values())
    assert made["properties"]["updelay"]["maximum"] == 600_000
    reference = made["properties"]["reselect"]["$ref"].rpartition("/")[2]
    assert made["$defs"][reference]["enum"] == ["always", "better", "failure"]
    assert {field.encode_name for field in msgspec.structs.fields(Options)} == made["properties"].keys()
