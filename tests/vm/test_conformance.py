"""Every scenario with every subject, in one guest; the outcomes are those of docs/conformance.md.

guest                                     switch                     far
master ┬ virtio-net  standby ── rp0 ───── standby ┐
       ├ e1000e      primary ── rp1 ───── primary ┼ br0 ── swf ───── eth0 10.53.0.2
       └ e1000e      third   ── rp2 ───── third   ┘
"""

import sys
from collections.abc import Iterator

import pytest
from outcomes import Outcomes
from rig import Rig
from scenario import Scenario
from scenarios import ALL
from subjects import Subject, Tapbond
from trial import trial

pytestmark = [
    pytest.mark.namespaces,
    pytest.mark.tools("qemu-system-x86_64", "ip", "ethtool", "ping", "nft", "sh"),
    pytest.mark.timeout(180),
]

ORDER = ("net_failover", "bonding", "tapbond")
"""The NICs at boot are net_failover's."""


def cases() -> Iterator[object]:
    for subject in ORDER:
        for scenario in ALL:
            selected = subject == "tapbond" or (subject == "net_failover" and scenario.slug == "black_hole")
            marks = [pytest.mark.selection] if selected else []
            yield pytest.param(subject, scenario, id=f"{subject}-{scenario.slug}", marks=marks)


@pytest.mark.parametrize(("name", "scenario"), list(cases()))
def test_outcome(
    name: str,
    scenario: Scenario,
    rig: Rig,
    subjects: dict[str, Subject],
    outcomes: Outcomes,
    request: pytest.FixtureRequest,
) -> None:
    subject = subjects[name]
    try:
        with trial(rig, subject) as tried:
            outcome = scenario.run(tried)
    except BaseException:
        sys.stdout.write(rig.machine.console[-2000:])
        if isinstance(subject, Tapbond):
            sys.stdout.write(subject.log()[-6000:])
        raise
    outcomes.note(scenario, name, outcome, tried.figures)
    if request.config.getoption("--update-docs"):
        return
    assert outcome == outcomes.documented.get((scenario.name, name)), "docs/conformance.md says otherwise"
