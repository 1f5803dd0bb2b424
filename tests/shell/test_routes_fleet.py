"""The routes of regions and backends: views, drains, probes."""

from __future__ import annotations

from typing import Any

import pytest

from router import clock
from router.core.health import State
from router.core.types import LoadSample
from tests.support.control import TOML, Admin, record
from tests.support.pages import page, serving

BACKEND_FIELDS = {
    *(
        "name",
        "region",
        "url",
        "engine",
        "models",
        "state",
        "draining",
        "drain",
        "asleep",
        "strained",
        "gpu",
        "ready",
        "leaving",
        "source",
        "usable",
        "since",
        "since_s",
        "why",
        "who",
        "continues",
        "burning_in_s",
        "rtt_s",
        "rtt_floor_s",
        "rtt_age_s",
    ),
    *("inflight", "inflight_peers", "max_inflight", "queue", "running", "kv_ratio", "load_age_s", "uncached_tokens"),
    *("output_tokens_per_s", "prefill_tokens_per_s", "ttft_error_s", "cost_usd_hour", "requests_total"),
    *("failures_total", "last_error"),
}


DIFFER = ("rtt_age_s", "load_age_s", "since", "since_s", "state", "usable", "why", "last_error")


async def test_regions_and_backends(admin: Admin) -> None:
    now_s = clock.monotonic_s()
    fleet = admin.control.fleet
    for name in ("us-east/a", "us-east/b"):
        fleet.observe_rtt(name, 0.02, now_s)
    fleet.observe_load("us-east/a", LoadSample(now_s, running=4, waiting=3, kv_ratio=0.5), now_s)
    regions = (await admin.get("/admin/v1/regions"))["data"]
    assert [r["name"] for r in regions] == ["us-east", "eu-west"]
    east, west = regions
    assert (east["jurisdiction"], east["location"], west["location"]) == ("us", [38.9, -77.0], None)
    assert (east["queue"], east["kv_ratio"], east["rtt_s"]) == (3, 0.5, 0.02)
    assert (west["queue"], west["kv_ratio"], west["rtt_s"], west["age_s"]) == (None, None, None, None)
    backends = (await admin.get("/admin/v1/backends"))["data"]
    assert [b["name"] for b in backends] == ["us-east/a", "us-east/b", "eu-west/a"]
    assert [set(b) ^ BACKEND_FIELDS for b in backends] == [set()] * 3
    assert east["backends"] == [{**b, **_ages(east, b["name"])} for b in backends[:2]]
    a, b = backends[:2]
    assert (a["running"], a["queue"], a["kv_ratio"], a["cost_usd_hour"]) == (4, 3, 0.5, 2.5)
    assert (b["running"], b["queue"], b["load_age_s"], b["models"]) == (None, None, None, ["m", "n"])
    assert a["last_error"] == "connection refused"


def _ages(region: dict[str, Any], name: str) -> dict[str, Any]:
    """What differs between two readings: ages, and what a probe has found meanwhile."""
    view = next(b for b in region["backends"] if b["name"] == name)
    return {field: view[field] for field in DIFFER}


async def test_a_notice_is_answered_with_what_is_in_force(admin: Admin) -> None:
    path = "/admin/v1/backends/us-east/a/notice"
    given = await admin.post(path, {"in_s": 120, "by": "alice"})
    assert (given["name"], given["usable"], given["applied"]) == ("us-east/a", False, "all routers")
    leaving = given["leaving"]
    assert leaving["by"] == "alice"
    assert 110 < leaving["in_s"] <= 120
    assert leaving["until_s"] - leaving["since_s"] == pytest.approx(120)
    assert abs(leaving["since_s"] - clock.wall_s()) < 60
    again = await admin.post(path, {"in_s": 120, "by": "bob"})
    assert again["leaving"]["until_s"] == pytest.approx(leaving["until_s"]), "said again, it gives no more time"
    [east, west] = (await admin.get("/admin/v1/regions"))["data"]
    assert east["leaving"] is None, "only one of two leaves"
    region = await admin.post("/admin/v1/regions/us-east/notice", {"in_s": 600})
    assert (region["state"], region["leaving"]["by"]) == ("leaving", "alice"), "the first one counts"
    assert region["backends"][1]["leaving"]["by"] == "an operator of edge"
    assert west["leaving"] is None
    metrics = await admin.get("/metrics")
    assert 'router_backend_leaving{region="us-east",backend="us-east/b"} 1' in metrics
    kept = await admin.ask("DELETE", path, 200)
    assert (kept["leaving"], kept["applied"]) == (None, "all routers")
    resumed = await admin.post("/admin/v1/regions/us-east/resume")
    assert [b["leaving"] for b in resumed["backends"]] == [None, None]


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "in_s"),
        ({"in_s": -1}, "in_s"),
        ({"in_s": 1e9}, "in_s"),
        ({"in_s": "soon"}, "in_s"),
        ({"in_s": True}, "in_s"),
        ({"in_s": 1, "by": "a\nb"}, "by"),
        ({"in": 1}, "in"),
    ],
)
async def test_a_notice_that_is_wrong(admin: Admin, body: dict[str, Any], param: str) -> None:
    answer = await admin.post("/admin/v1/regions/us-east/notice", body, status=400)
    assert (answer["error"]["code"], answer["error"]["param"]) == ("invalid_request", param)
    for name in ("regions/nowhere", "backends/us-east/z"):
        await admin.post(f"/admin/v1/{name}/notice", {"in_s": 1}, status=404)
    assert not admin.control.fleet.leaving()


async def test_drain_and_resume(admin: Admin) -> None:
    drained = await admin.post("/admin/v1/regions/us-east/drain")
    assert (drained["state"], drained["draining"], drained["applied"]) == ("draining", True, "all routers")
    assert [b["draining"] for b in drained["backends"]] == [True, True]
    resumed = await admin.post("/admin/v1/backends/us-east/b/resume")
    assert (resumed["name"], resumed["draining"]) == ("us-east/b", False)
    regions = (await admin.get("/admin/v1/regions"))["data"]
    assert [b["draining"] for b in regions[0]["backends"]] == [True, False]
    assert regions[0]["state"] in ("degraded", "down")
    resumed = await admin.post("/admin/v1/regions/us-east/resume")
    assert (resumed["draining"], [b["draining"] for b in resumed["backends"]]) == (False, [False, False])
    encoded = await admin.post("/admin/v1/backends/us-east%2Fa/drain", status=404)
    assert encoded["error"]["code"] == "not_found"
    for path in (
        "regions/nope/drain",
        "backends/us-east/nope/drain",
        "backends/nope/resume",
        "regions/us-east/explode",
    ):
        await admin.post(f"/admin/v1/{path}", status=404)


async def test_probe(admin: Admin) -> None:
    async with serving({"/health": page(b""), "/metrics": page(b"vllm:num_requests_waiting 3\n")}) as engine:
        admin.path.write_text(TOML.replace("http://127.0.0.1:1", engine.url))
        await admin.post("/admin/v1/config/reload")
        probed = await admin.post("/admin/v1/backends/us-east/a/probe")
        assert probed["probe"]["ok"] is True
        assert probed["probe"]["load"]["waiting"] == 3
        assert abs(probed["probe"]["load"]["at_s"] - clock.wall_s()) < 300.0, "a moment, as all others are"
        assert probed["queue"] == 3
        assert probed["last_error"] is None
        region = await admin.post("/admin/v1/regions/us-east/probe")
        assert [p["ok"] for p in region["probes"]] == [True, False]
        assert region["probes"][1]["error"] == "connection refused"


async def test_region_states(admin: Admin) -> None:
    fleet = admin.control.fleet
    now_s = clock.monotonic_s()
    for _ in range(5):
        fleet.observe_health("eu-west/a", False, now_s)
    assert fleet.backends["eu-west/a"].state is State.EJECTED
    states = {r["name"]: r["state"] for r in (await admin.get("/admin/v1/regions"))["data"]}
    assert states == {"us-east": "ok", "eu-west": "down"}


async def test_a_drain_is_told_with_its_reason(admin: Admin) -> None:
    body = {"by": "ann@ops", "reason": "new GPUs", "for_s": 60}
    drained = await admin.post("/admin/v1/backends/us-east/a/drain", body)
    drain = drained["drain"]
    assert (drain["by"], drain["reason"]) == ("ann@ops", "new GPUs")
    assert drain["until_s"] - drain["since_s"] == pytest.approx(60, abs=1)
    resumed = await admin.post("/admin/v1/backends/us-east/a/resume")
    assert resumed["drain"] is None
    for wrong in ({"for_s": 0}, {"for_s": "x"}, {"reason": 5}, {"why": "x"}):
        await admin.post("/admin/v1/backends/us-east/a/drain", wrong, 400)


async def test_what_would_be_lost(admin: Admin) -> None:
    for name in admin.control.fleet.backends:  # their probes met nobody
        admin.control.fleet.observe_health(name, True, admin.control.now_s())
    lost = await admin.get("/admin/v1/regions/us-east/losses")
    assert (lost["of"], lost["backends"], lost["models"]) == ("us-east", ["us-east/a", "us-east/b"], ["m"])
    assert (lost["jurisdictions"], lost["loses"], lost["share"]) == (["us"], True, None)
    lost = await admin.get("/admin/v1/backends/us-east/b/losses")
    assert (lost["models"], lost["loses"]) == ([], False), "eu-west has n, us-east/a has m"
    admin.control.telemetry.request_done(record(arrival_s=clock.wall_s()))
    lost = await admin.get("/admin/v1/backends/us-east/a/losses")
    assert (lost["share"], lost["requests"]) == (1.0, 1)
    await admin.get("/admin/v1/regions/nowhere/losses", 404)
    await admin.get("/admin/v1/backends/us-east/z/losses", 404)
