"""The alerts and the scraping that the chart asks the Prometheus operator for."""

from __future__ import annotations

import yaml

from tests.support.helm import CHART, EXAMPLES, NEEDS_HELM, objects, pick, refusal

pytestmark = NEEDS_HELM

ONE = EXAMPLES / "one-region.yaml"


def test_alerts_are_those_of_prometheus() -> None:
    rule = pick(objects(ONE), "PrometheusRule")
    alerts = yaml.safe_load((CHART.parents[1] / "prometheus" / "alerts.yml").read_text())
    assert rule["spec"] == alerts
    monitor = pick(objects(ONE), "ServiceMonitor")["spec"]
    service = pick(objects(ONE), "Service", "meridian-admin")
    assert service["metadata"]["labels"][monitor["jobLabel"]] == "router", "the alerts ask for this job"
    assert monitor["endpoints"][0]["authorization"]["credentials"] == {"name": "meridian", "key": "ROUTER_ADMIN_TOKEN"}


def test_alerts_lead_to_where_the_runbook_is_kept() -> None:
    ours = "https://git.acme.example/meridian/blob/main/docs/runbook.md"
    rules = pick(objects(ONE, sets=[f"prometheusRule.runbookBase={ours}"]), "PrometheusRule")["spec"]["groups"]
    urls = {r["alert"]: r["annotations"]["runbook_url"] for g in rules for r in g["rules"] if "alert" in r}
    assert len(urls) > 15
    assert urls == {alert: f"{ours}#{alert.lower()}" for alert in urls}
    assert "runbookBase" in refusal({"prometheusRule": {"runbookBase": "docs/runbook.md"}})
