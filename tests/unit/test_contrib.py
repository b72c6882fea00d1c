"""The dashboard and the alerts ask for metrics and labels that there are."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families as parse
from statuses import LOST, PROBED, STANDBY, status, switchover

from tapbond.metrics.page import MetricsPage
from tapbond.metrics.switchovers import REASONS, SwitchoverCounts

CONTRIB = Path(__file__).parents[2] / "contrib"
RULES = CONTRIB / "prometheus/tapbond.rules.yml"
DASHBOARD = CONTRIB / "grafana/tapbond.json"
PROMTOOL = shutil.which("promtool")
FROM_PROMETHEUS = {"instance", "le"}
NAME = re.compile(r"\btapbond_\w+")
GROUPING = re.compile(r"\bby \(([\w, ]+)\)")
SELECTOR = re.compile(r"(\w+)=?[!~=]+\"")


def there_are() -> tuple[set[str], set[str]]:
    """Return the names of all samples and labels."""
    counts = SwitchoverCounts()
    counts.add(switchover())
    page = MetricsPage(lambda: status(STANDBY, LOST, rules=PROBED), counts, lambda: 0)
    samples = [sample for family in parse(page.text()) for sample in family.samples]
    return {sample.name for sample in samples}, {label for sample in samples for label in sample.labels}


def expressions() -> list[str]:
    dashboard = json.loads(DASHBOARD.read_text())
    found = [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]
    found += [annotation["expr"] for annotation in dashboard["annotations"]["list"]]
    rules = re.findall(r"^ +expr: (.+)$", RULES.read_text(), re.MULTILINE)
    assert len(rules) == RULES.read_text().count("- alert: ")
    return found + rules


@pytest.mark.parametrize("expression", expressions())
def test_names_and_labels_exist(expression: str) -> None:
    names, labels = there_are()
    assert set(NAME.findall(expression)) <= names
    used = {label.strip() for group in GROUPING.findall(expression) for label in group.split(",")}
    assert used | set(SELECTOR.findall(expression)) <= labels | FROM_PROMETHEUS


def test_reasons_in_the_alerts_exist() -> None:
    (listed,) = re.findall(r'reason!~"([^"]+)"', RULES.read_text())
    assert set(listed.split("|")) <= set(REASONS.values())


def test_panels_do_not_overlap() -> None:
    taken: set[tuple[int, int]] = set()
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken
        assert at["x"] + at["w"] <= 24
        taken |= cells


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian: prometheus)")
@pytest.mark.parametrize("what", [("check", "rules", RULES.name), ("test", "rules", "tapbond.test.yml")])
def test_promtool_accepts_the_alerts(what: tuple[str, ...]) -> None:
    done = subprocess.run(
        [str(PROMTOOL), *what], cwd=RULES.parent, capture_output=True, text=True, check=False, timeout=50
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout


@pytest.mark.skipif(PROMTOOL is None, reason="promtool is not installed (Debian: prometheus)")
def test_promtool_parses_the_dashboard_s_expressions(tmp_path: Path) -> None:
    """As recording rules: it has no other way to be asked."""
    rules = [
        f"      - record: tapbond:expression:{number}\n        expr: >-\n          {text}\n"
        for number, text in enumerate(one.replace("$__rate_interval", "1m") for one in expressions())
    ]
    file = tmp_path / "rules.yml"
    file.write_text("groups:\n  - name: x\n    rules:\n" + "".join(rules))
    done = subprocess.run(
        [str(PROMTOOL), "check", "rules", str(file)], capture_output=True, text=True, check=False, timeout=50
    )
    assert done.returncode == 0, done.stdout + done.stderr
