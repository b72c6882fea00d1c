"""What a failover that runs refuses to change."""

from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from tapbond.adjustment import ADJUSTABLE, Adjustment
from tapbond.errors import TapbondError
from tapbond.settings import Settings

BEFORE = Settings(name="tb0", standby="eth0")
OTHERWISE: dict[str, Any] = {
    "name": "tb1",
    "standby": "eth9",
    "mac": "02:00:00:00:00:01",
    "mac_policy": "set",
    "mtu": 9000,
    "rx": "any",
    "slots": "kernel",
    "isolation": "nft",
    "datapath": "auto",
    "queues": 2,
    "metrics": "9199",
    "metrics_file": "/run/x.prom",
    "slave_netns": "blue",
    "adopt": True,
    "busy_poll_ns": 1,
    "run_dir": "/run",
}
"""A value for each field that is fixed; a new field of Settings is fixed until somebody says otherwise."""
FIXED = [name for name in Settings.__struct_fields__ if name not in ADJUSTABLE]


@pytest.mark.parametrize("field", FIXED)
def test_what_is_fixed_is_refused_by_name(field: str) -> None:
    if field not in OTHERWISE:
        pytest.skip(f"no sample of {field}")
    after = msgspec.structs.replace(BEFORE, **{field: OTHERWISE[field]})
    parts = SimpleNamespace(places=SimpleNamespace(slaves=None))
    with pytest.raises(TapbondError, match=f"tb0: {field} cannot be changed while it runs"):
        Adjustment(parts, BEFORE, after).check()  # type: ignore[arg-type]
