"""The options of ``tapbond run`` as a person writes them, times in ms: what a configuration file may say.

Each field is a key of the file, with ``-`` for ``_``. A test holds them against the command line's.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from tapbond.model import DataPathName, MacPolicyName, ReceiveMode, Reselect, Slots
from tapbond.queues import QUEUES_MAX
from tapbond.settings import MS, US, Probing, Settings

ALLOWED = "allowed"

Link = Annotated[
    str,
    Meta(
        pattern=r"^[^/:\s]{1,15}$",
        extra={ALLOWED: "the name of a link (up to 15 characters, no '/', ':' or space)"},
    ),
]
BackupText = Annotated[
    str, Meta(pattern=r"^[^/:\s]{1,15}(:-?[0-9]+)?$", extra={ALLOWED: 'LINK or LINK:PRIO ("eth2", "eth2:10")'})
]
Mac = Annotated[
    str,
    Meta(
        pattern="^[0-9a-fA-F]{2}(:[0-9a-fA-F]{2}){5}$",
        extra={ALLOWED: "a MAC address (aa:bb:cc:dd:ee:ff)"},
    ),
]
Address = Annotated[str, Meta(extra={ALLOWED: "an IPv4 or IPv6 address"})]
Text = Annotated[str, Meta(min_length=1, extra={ALLOWED: "a text that is not empty"})]

UpTo10s = Annotated[int, Meta(ge=0, le=10_000, extra={"unit": "ms"})]
UpToMinute = Annotated[int, Meta(ge=0, le=60_000, extra={"unit": "ms"})]
UpTo5Minutes = Annotated[int, Meta(ge=0, le=300_000, extra={"unit": "ms"})]
UpTo10Minutes = Annotated[int, Meta(ge=0, le=600_000, extra={"unit": "ms"})]


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, rename="kebab"):
    """What a file may say; see ``tapbond run --help``."""

    standby: Link | UnsetType = UNSET
    primary: Link | UnsetType = UNSET
    backup: tuple[BackupText, ...] = ()
    sticky: frozenset[Link] = frozenset()
    mac: Mac | UnsetType = UNSET
    mac_policy: MacPolicyName = MacPolicyName.SAME
    mtu: Annotated[int, Meta(ge=68, le=65521, extra={"unit": "bytes"})] | UnsetType = UNSET
    isolation: Literal["auto", "bridge", "nft", "netns", "none"] = "auto"
    datapath: DataPathName = DataPathName.COPY
    queues: Annotated[int, Meta(ge=1, le=QUEUES_MAX)] | Literal["auto"] = 1
    rx: ReceiveMode = ReceiveMode.ACTIVE
    slots: Slots = Slots.ANY
    reselect: Reselect = Reselect.ALWAYS
    drain: UpTo10s = 50
    updelay: UpTo10Minutes = 50
    downdelay: UpTo10Minutes = 0
    hold_down: UpTo5Minutes = 0
    poll: UpTo10s = 10
    busy_poll: Annotated[int, Meta(ge=0, le=1000, extra={"unit": "µs"})] = 50
    announce: Annotated[int, Meta(ge=0, le=255)] = 3
    announce_interval: UpToMinute = 100
    probe: tuple[Address, ...] = ()
    probe_interval: Annotated[int, Meta(ge=20, le=60_000, extra={"unit": "ms"})] = 100
    probe_missed: Annotated[int, Meta(ge=1, le=255)] = 2
    probe_targets: Literal["any", "all"] = "any"
    probe_watchers: Literal["all", "any"] = "all"
    probe_grace: UpTo10Minutes = 2000
    metrics: Text | UnsetType = UNSET
    metrics_file: Text | UnsetType = UNSET
    slave_netns: Text | UnsetType = UNSET
    adopt: bool = False
    run_dir: Text | UnsetType = UNSET
    verbose: bool = False
    quiet: bool = False


PARAMETERS = {"backup": "backups", "probe": "targets"}
"""Names that a program uses where a repeated option has the singular."""

OF_THE_PROCESS = ("verbose", "quiet")
"""They are no settings of a failover."""


def name_of(option: str) -> str:
    """Return what a field is called in a file and on the command line."""
    return option.replace("_", "-")


DEFAULTS: dict[str, Any] = {
    PARAMETERS.get(name, name): None if value is UNSET else value
    for name, value in msgspec.structs.asdict(Options()).items()
}
"""By parameter: what holds when neither the command line nor a file says anything."""


def to_settings(failover: str, options: Mapping[str, Any]) -> Settings:
    """Return the settings that these options ask for.

    Args:
        failover: its name.
        options: as DEFAULTS has them, in whole or in part.

    Raises:
        TapbondError: they contradict each other.
    """
    given = {**DEFAULTS, **options}
    for name in OF_THE_PROCESS:
        del given[name]
    probing = Probing(
        targets=given.pop("targets"),
        interval_ns=given.pop("probe_interval") * MS,
        missed_max=given.pop("probe_missed"),
        all_targets=given.pop("probe_targets") == "all",
        any_watcher=given.pop("probe_watchers") == "any",
        grace_ns=given.pop("probe_grace") * MS,
    )
    times = {
        f"{name}_ns": given.pop(name) * MS
        for name in ("drain", "updelay", "downdelay", "hold_down", "announce_interval")
    }
    times["busy_poll_ns"] = given.pop("busy_poll") * US
    times["poll_s"] = given.pop("poll") / 1000
    run_dir, announce_count = given.pop("run_dir"), given.pop("announce")
    return Settings.of(
        failover,
        {
            **given,
            **times,
            "announce_count": announce_count,
            "probing": probing,
            "run_dir": None if run_dir is None else Path(run_dir),
        },
    )
