"""What is deployed agrees with the code: metrics, distances, configurations."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from router.app import STOP_S
from router.config import EXAMPLE, TimeoutsSection, load
from router.telemetry.metrics import METRICS
from router.wire.listeners import NAMES
from router.wire.sockets import BACKLOG
from sim.geography import DEFAULT_REGIONS, RegionPlan, rtt_ms
from tests.tidy.test_text import anchors
from tests.tidy.tree import ROOT


def _grouped(expression: str) -> set[str]:
    return {label.strip() for group in re.findall(r"\b(?:by|on) \(([^)]*)\)", expression) for label in group.split(",")}


PROMETHEUS = ROOT / "deploy" / "prometheus"
RULES = [rule for group in yaml.safe_load((PROMETHEUS / "alerts.yml").read_text())["groups"] for rule in group["rules"]]
ALERTS = [rule for rule in RULES if "alert" in rule]
RECORDED = {rule["record"]: _grouped(rule["expr"]) - {"le"} for rule in RULES if "record" in rule}
DASHBOARD = json.loads((ROOT / "deploy" / "grafana" / "meridian.json").read_text())
PANELS = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())

#: What Prometheus itself adds.
_FOREIGN = {"up": {"job", "instance"}}


def _series() -> dict[str, set[str]]:
    """Every series of the router's page, with its labels."""
    out = _FOREIGN | RECORDED
    for metric in METRICS:
        labels = set(metric.labels)
        if metric.kind == "histogram":
            out |= {
                f"{metric.name}_bucket": labels | {"le"},
                f"{metric.name}_sum": labels,
                f"{metric.name}_count": labels,
            }
        else:
            out[metric.name] = labels
    return out


def _selectors(expression: str) -> Iterator[tuple[str, set[str]]]:
    """The series an expression reads, and the labels that it asks of them."""
    names = {label for metric in METRICS for label in metric.labels}
    for series, matchers in re.findall(r"\b((?:\w+:)?(?:router|gen_ai)_\w+(?::\w+)?|up)\b(?:\{([^}]*)\})?", expression):
        if series not in names:
            yield series, set(re.findall(r"(\w+)\s*(?:=~|!~|!=|=)", matchers))


def _check_expression(expression: str) -> None:
    series = _series()
    read = list(_selectors(expression))
    assert read, f"{expression}: reads nothing"
    for metric, labels in read:
        assert metric in series, f"{expression}: the router has no {metric}"
        assert labels <= series[metric] | {"instance"}, f"{expression}: {metric} has no {labels - series[metric]}"
    known = set().union(*(series[metric] for metric, _ in read)) | {"instance"}
    assert _grouped(expression) <= known, f"{expression}: groups by {_grouped(expression) - known}"


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.get("alert") or rule["record"])
def test_rules_read_what_the_router_exports(rule: dict[str, object]) -> None:
    _check_expression(str(rule["expr"]))


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_every_alert_has_a_page_and_a_test(rule: dict[str, dict[str, str]]) -> None:
    base, _, anchor = rule["annotations"]["runbook_url"].partition("#")
    assert base == "https://runbooks.example.com/meridian/runbook.md", "one address, to be replaced in one step"
    assert anchor == str(rule["alert"]).lower()
    assert anchor in anchors(ROOT / "docs" / "runbook.md"), f"the runbook has no section {rule['alert']}"
    tests = yaml.safe_load((PROMETHEUS / "alerts_test.yml").read_text())["tests"]
    fired = {t["alertname"] for test in tests for t in test.get("alert_rule_test", ()) if t["exp_alerts"]}
    assert rule["alert"] in fired, "alerts_test.yml does not make it fire"


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_panels_read_what_the_router_exports(panel: dict[str, list[dict[str, str]]]) -> None:
    for target in panel["targets"]:
        _check_expression(target["expr"])


def test_promtool_agrees() -> None:
    promtool = shutil.which("promtool") or shutil.which("promtool", path=str(ROOT / ".cache" / "bin"))
    if promtool is None and "CI" not in os.environ:
        pytest.skip("promtool is not installed; it comes with Prometheus")
    assert promtool is not None, ".ci/run fetches it"
    done = subprocess.run(
        [promtool, "test", "rules", "alerts_test.yml"], cwd=PROMETHEUS, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("region", DEFAULT_REGIONS, ids=lambda region: region.name)
def test_compose_regions_are_as_far_away_as_the_real_ones(region: RegionPlan) -> None:
    service = COMPOSE["services"][region.name]
    told = float(service["command"][service["command"].index("--rtt-ms") + 1])
    assert told == rtt_ms()[DEFAULT_REGIONS[0].city, region.city]


def test_compose_has_a_configuration_that_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROUTER_ADMIN_TOKEN", "for-local-use-only")
    config = load(str(ROOT / "deploy" / "compose" / "regions.toml"))
    services = set(COMPOSE["services"])
    assert {backend.url.split("/")[2].split(":")[0] for backend in config.backends} <= services
    assert [(r.spec.name, r.spec.jurisdiction) for r in config.regions] == [
        (plan.name, plan.jurisdiction) for plan in DEFAULT_REGIONS
    ]
    assert str(config.store.redis).split("/")[2].split(":")[0] in services


def test_the_example_for_bare_hosts_loads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MERIDIAN_REDIS", "redis://10.1.0.5:6379/0")
    monkeypatch.setenv("ENGINES_KEY", "a key")
    config = load(str(EXAMPLES / "regions.toml"))
    assert [backend.name for backend in config.backends] == ["us-east/gpu-1", "us-east/gpu-2", "eu-central/gpu-1"]


def test_the_engines_of_both_examples_serve_one_name() -> None:
    """Clients ask for one model, wherever it runs."""
    name = r"--served-model-name[ =](\S+)"
    names = {tuple(re.findall(name, (EXAMPLES / file).read_text())) for file in ("vllm.service", "vllm.yaml")}
    assert names == {("llama-3.1-8b",)}


def test_compose_publishes_on_this_machine_only() -> None:
    ports = [port for service in COMPOSE["services"].values() for port in service.get("ports", [])]
    assert ports
    assert all(port.startswith("127.0.0.1:") for port in ports)


def test_the_regions_file_is_the_example() -> None:
    assert (ROOT / "regions.toml").read_text() == EXAMPLE


SYSTEMD = ROOT / "deploy" / "systemd"
EXAMPLES = ROOT / "deploy" / "examples"


def _unit(name: str) -> dict[str, list[str]]:
    """The settings of a unit, each with its values."""
    settings: dict[str, list[str]] = {}
    for line in (SYSTEMD / name).read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            key, _, value = line.partition("=")
            settings.setdefault(key, []).append(value)
    return settings


def test_the_units_fit_the_router() -> None:
    service, addresses = _unit("meridian.service"), _unit("meridian.socket")
    assert service["Type"] == ["notify"]
    assert service["Sockets"] == ["meridian.socket"]
    assert len(addresses["ListenStream"]) == len(NAMES), "clients, then operators"
    assert addresses["Backlog"] == [str(BACKLOG)]
    timeouts = TimeoutsSection()
    assert int(service["TimeoutStopSec"][0]) > timeouts.lead + timeouts.drain + STOP_S
    program, command, *arguments = service["ExecStart"][0].split(" ")
    assert program.endswith("/router")
    done = subprocess.run([sys.executable, "-m", "cli", command, "--help"], cwd=ROOT, capture_output=True, check=True)
    for option in arguments[::2]:
        assert option.encode() in done.stdout


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd-analyze is not installed")
def test_the_units_are_good_and_give_away_little(tmp_path: Path) -> None:
    text = (SYSTEMD / "meridian.service").read_text().replace("/opt/meridian/bin/router", shutil.which("true") or "")
    for name in ("meridian.service", "meridian@.service"):
        (tmp_path / name).write_text(text)
    (tmp_path / "meridian.socket").write_text((SYSTEMD / "meridian.socket").read_text())
    units = [str(tmp_path / name) for name in ("meridian.service", "meridian.socket", "meridian@other.service")]
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True)
    assert (done.returncode, done.stderr.strip()) == (0, "")
    # Of 100: a service without any of these settings has 96.
    limit = ["--offline=true", "--threshold=20"]
    done = subprocess.run(["systemd-analyze", "security", *limit, units[0]], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-200:]
