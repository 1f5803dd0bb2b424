"""The routes about how many backends there are and are needed, as operators and as Kubernetes ask."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.support.control import TOML, Admin, administering

BASE = "/apis/external.metrics.k8s.io/v1beta1"
GOAL = '\n[models.m]\ntarget_ttft_s = 0.8\nmin = 2\nmax = 6\n[models."n"]\n'


@pytest.fixture
async def watched(tmp_path: Path) -> AsyncIterator[Admin]:
    path = tmp_path / "regions.toml"
    path.write_text(TOML + GOAL)
    async with administering(path) as admin:
        yield admin


def of(document: dict[str, Any], region: str, model: str) -> dict[str, Any]:
    found: dict[str, Any] = next(e for e in document["data"] if (e["region"], e["model"]) == (region, model))
    return found


async def test_what_there_is_and_what_is_needed(watched: Admin) -> None:
    document = await watched.get("/admin/v1/capacity")
    here = of(document, "us-east", "m")
    assert (here["known"], here["there"], here["needed"], here["short"]) == (2, 2, 2, 0)
    assert (here["target_ttft_s"], here["min"], here["max"]) == (0.8, 2, 6)
    assert {e["backend"] for e in here["engines"]} == {"us-east/a", "us-east/b"}
    assert {e["state"] for e in here["engines"]} == {"idle"}
    other = of(document, "eu-west", "n")
    assert (other["there"], other["needed"], other["reason"]) == (1, None, None)
    watched.control.fleet.set_draining("us-east/a", True)
    assert document["idle_usd_hour"] == 0.0


async def test_one_that_is_away_is_short(watched: Admin) -> None:
    await watched.post("/admin/v1/backends/us-east/a/drain")
    here = of(await watched.get("/admin/v1/capacity"), "us-east", "m")
    assert (here["there"], here["needed"], here["short"]) == (1, 2, 1)
    drained = next(e for e in here["engines"] if e["backend"] == "us-east/a")
    assert (drained["state"], drained["reason"]) == ("away", "it is drained")


async def test_metrics_for_prometheus(watched: Admin) -> None:
    page = await watched.get("/metrics")
    samples = {
        (s.name, s.labels.get("region"), s.labels.get("model")): s.value
        for family in text_string_to_metric_families(page)
        for s in family.samples
    }
    assert samples["router_backends_there", "us-east", "m"] == 2
    assert samples["router_backends_needed", "us-east", "m"] == 2
    assert samples["router_backends_short", "us-east", "m"] == 0
    assert samples["router_ttft_target_seconds", "us-east", "m"] == 0.8
    assert ("router_backends_needed", "eu-west", "n") not in samples


async def test_discovery(watched: Admin) -> None:
    groups = await watched.get("/apis")
    assert (groups["kind"], groups["groups"][0]["name"]) == ("APIGroupList", "external.metrics.k8s.io")
    assert (await watched.get("/apis/external.metrics.k8s.io"))["kind"] == "APIGroup"
    listed = await watched.get(BASE)
    assert (listed["kind"], listed["groupVersion"]) == ("APIResourceList", "external.metrics.k8s.io/v1beta1")
    assert "router_backends_needed" in {r["name"] for r in listed["resources"]}


async def test_values_by_selector(watched: Admin) -> None:
    path = f"{BASE}/namespaces/default/router_backends_needed"
    every = await watched.get(path)
    assert [(i["metricLabels"], i["value"]) for i in every["items"]] == [({"region": "us-east", "model": "m"}, "2")]
    assert (await watched.get(f"{path}?labelSelector=region%3Deu-west"))["items"] == []
    both = await watched.get(f"{path}?labelSelector=region%20in%20(us-east),model%3Dm")
    assert len(both["items"]) == 1


async def test_the_number_of_a_model_by_its_path(watched: Admin) -> None:
    """KEDA drops the query of an address when it asks each router."""
    here = await watched.get("/admin/v1/needed/us-east/m")
    assert here == {"model": "m", "region": "us-east", "needed": 2, "unknown": None}
    assert (await watched.get("/admin/v1/needed/-/m"))["needed"] == 2
    await watched.get("/admin/v1/needed/us-east/n", 404)
    await watched.get("/admin/v1/needed/eu-west/m", 404)


async def test_what_is_wrong_is_said_as_kubernetes_says_it(watched: Admin) -> None:
    missing = await watched.get(f"{BASE}/namespaces/default/nothing", 404)
    assert (missing["kind"], missing["reason"], missing["code"]) == ("Status", "NotFound", 404)
    bad = await watched.get(f"{BASE}/namespaces/default/router_backends_needed?labelSelector=a%3Db%3Dc", 400)
    assert (bad["kind"], bad["reason"]) == ("Status", "BadRequest")
