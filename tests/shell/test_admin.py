"""The admin API as an operator meets it: every route, its shapes and its refusals."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from prometheus_client.parser import text_string_to_metric_families

from router import clock
from router.control.routes import ROUTES
from router.core.decisions import Candidate
from router.core.health import State
from router.core.types import LoadSample
from router.telemetry.journal import AttemptRecord, Record
from tests.support.control import Admin, administering
from tests.support.pages import page, serving

TOML = """
[router]
name = "edge"
region = "us-east"
policy = "p2c"

[probes]
interval = 3600
timeout = 0.3

[plans.default]

[plans.gold]
requests_per_minute = 100
tokens_per_minute = 1000
concurrent = 5

[[regions]]
name = "us-east"
jurisdiction = "us"
location = [38.9, -77.0]
  [[regions.backends]]
  name = "a"
  url = "http://127.0.0.1:1"
  engine = "vllm"
  models = ["m"]
  cost_usd_hour = 2.5
  [[regions.backends]]
  name = "b"
  url = "http://127.0.0.1:2"
  models = ["m", "n"]

[[regions]]
name = "eu-west"
  [[regions.backends]]
  name = "a"
  url = "http://127.0.0.1:3"
  models = ["n"]
"""


@pytest.fixture
async def admin(tmp_path: Path) -> AsyncIterator[Admin]:
    path = tmp_path / "regions.toml"
    path.write_text(TOML)
    async with administering(path) as made:
        # the first probes go out at once; nobody listens there
        await asyncio.sleep(0.05)
        yield made


def record(number: int = 0, **changes: Any) -> Record:
    made = Record(
        f"req-{number}",
        1000.0 + number,
        model="m",
        served_model="m",
        path="/v1/chat/completions",
        status=200,
        policy="p2c",
        attempts=[
            AttemptRecord("eu-west/a", "eu-west", 0.001, "unreachable", status=None, detail="connection refused"),
            AttemptRecord("us-east/a", "us-east", 0.01, "ok", 0.2, 0.25, 200, kind="retry"),
        ],
        candidates=(Candidate("us-east/a", 0.25, (("rtt", 0.05), ("queue", 0.2)), None),),
        ttft_s=0.21,
        duration_s=1.0,
        output_tokens=20,
        prefix_blocks=(1, 2, 3),
    )
    for name, value in changes.items():
        setattr(made, name, value)
    return made


BACKEND_FIELDS = {
    *("name", "region", "url", "engine", "models", "state", "draining", "usable", "rtt_s", "rtt_floor_s", "rtt_age_s"),
    *("inflight", "max_inflight", "queue", "running", "kv_ratio", "load_age_s", "uncached_tokens"),
    *("output_tokens_per_s", "prefill_tokens_per_s", "ttft_error_s", "cost_usd_hour", "requests_total"),
    *("failures_total", "last_error"),
}


async def test_status(admin: Admin) -> None:
    admin.control.telemetry.request_done(record())
    admin.control.telemetry.request_done(record(1, status=503, error="no_backend", cause="refused", attempts=[]))
    status = await admin.get("/admin/v1/status")
    assert set(status) == {"router", "store", "traffic", "regions", "backends"}
    router = status["router"]
    assert (router["name"], router["region"], router["version"], router["policy"]) == (
        "edge",
        "us-east",
        "1.2.3",
        "p2c",
    )
    assert (router["config_generation"], router["config_source"], router["ready"]) == (1, str(admin.path), True)
    assert (status["store"]["kind"], status["store"]["state"]) == ("memory", "up")
    assert status["traffic"]["queued"] == 3
    assert status["traffic"]["error_ratio"] == 0.5
    assert status["traffic"]["requests_per_s"] > 0
    assert status["traffic"]["ttft_s_p50"] == pytest.approx(0.21, rel=0.03)
    assert (status["regions"]["total"], status["backends"]["total"]) == (2, 3)


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
    assert all(set(b) == BACKEND_FIELDS for b in backends)
    assert east["backends"] == [{**b, **_ages(east, b["name"])} for b in backends[:2]]
    a, b = backends[:2]
    assert (a["running"], a["queue"], a["kv_ratio"], a["cost_usd_hour"]) == (4, 3, 0.5, 2.5)
    assert (b["running"], b["queue"], b["load_age_s"], b["models"]) == (None, None, None, ["m", "n"])
    assert a["last_error"] == "connection refused"


def _ages(region: dict[str, Any], name: str) -> dict[str, Any]:
    """What differs between two readings: ages."""
    view = next(b for b in region["backends"] if b["name"] == name)
    return {field: view[field] for field in ("rtt_age_s", "load_age_s")}


async def test_requests(admin: Admin) -> None:
    journal = admin.control.telemetry
    journal.request_done(record(0))
    journal.request_done(record(1, tenant="acme", status=503, error="no_backend", cause="refused", attempts=[]))
    journal.request_done(record(2, model="n", served_model="n"))
    listed = (await admin.get("/admin/v1/requests"))["data"]
    assert [r["request_id"] for r in listed] == ["req-2", "req-1", "req-0"]
    assert (listed[2]["backend"], listed[2]["attempts"], listed[2]["ttft_s"]) == ("us-east/a", 2, 0.21)
    for query, expected in {
        "limit=1": ["req-2"],
        "model=n": ["req-2"],
        "tenant=acme": ["req-1"],
        "backend=us-east/a": ["req-2", "req-0"],
        "backend=us-east": ["req-2", "req-0"],
        "status=503": ["req-1"],
        "status=5xx": ["req-1"],
        "status=2xx": ["req-2", "req-0"],
        "since_s=1001": ["req-2", "req-1"],
        "status=2xx&model=m": ["req-0"],
    }.items():
        found = (await admin.get(f"/admin/v1/requests?{query}"))["data"]
        assert [r["request_id"] for r in found] == expected, query
    for query in ("limit=0", "limit=x", "limit=nan", "limit=99999", "status=abc", "status=20", "since_s=-1"):
        refused = await admin.get(f"/admin/v1/requests?{query}", 400)
        assert refused["error"]["param"] == query.split("=")[0]


async def test_one_request_is_shown_whole(admin: Admin) -> None:
    admin.control.telemetry.request_done(record())
    admin.control.telemetry.flush()
    shown = await admin.get("/admin/v1/requests/req-0")
    assert [a["outcome"] for a in shown["attempts"]] == ["unreachable", "ok"]
    assert shown["attempts"][0]["detail"] == "connection refused"
    assert shown["decision"] == {
        "policy": "p2c",
        "backend": "us-east/a",
        "candidates": [
            {
                "backend": "us-east/a",
                "cost_s": 0.25,
                "terms": {"rtt": 0.05, "queue": 0.2},
                "struck": None,
                "chosen": True,
            }
        ],
    }
    assert shown["prefix_blocks"] == 3
    assert (await admin.get("/admin/v1/requests/nope", 404))["error"]["code"] == "not_found"
    explained = await admin.post("/admin/v1/explain", {"request_id": "req-0"})
    assert explained["decision"] == shown["decision"]
    await admin.post("/admin/v1/explain", {"request_id": "nope"}, 404)


async def test_tail(admin: Admin) -> None:
    async with admin.session.get(f"{admin.url}/admin/v1/requests/tail?status=2xx") as response:
        assert response.content_type == "text/event-stream"
        assert await response.content.readuntil(b"\n\n") == b": connected\n\n"
        admin.control.telemetry.request_done(record(1, status=500))
        admin.control.telemetry.request_done(record(2))
        event = await asyncio.wait_for(response.content.readuntil(b"\n\n"), 30)
    name, data = event.decode().strip().split("\n")
    assert name == "event: request"
    assert json.loads(data.removeprefix("data: "))["request_id"] == "req-2"


async def test_a_reader_of_the_tail_that_leaves_is_forgotten(admin: Admin) -> None:
    for _ in range(40):
        async with admin.session.get(f"{admin.url}/admin/v1/requests/tail") as response:
            assert response.status == 200
            response.close()
        await asyncio.sleep(0.01)
    readers = [await admin.session.get(f"{admin.url}/admin/v1/requests/tail") for _ in range(32)]
    try:
        assert [r.status for r in readers] == [200] * 32
        refused = await admin.get("/admin/v1/requests/tail", 429)
        assert refused["error"]["code"] == "admission_full"
    finally:
        for reader in readers:
            reader.close()


async def test_stats(admin: Admin) -> None:
    admin.control.telemetry.request_done(record())
    stats = await admin.get("/admin/v1/stats?window_s=30")
    assert (stats["window_s"], stats["requests"], stats["output_tokens"]) == (30, 1, 20)
    assert stats["by_region"][0]["name"] == "us-east"
    assert set(stats["ttft_s"]) == {"p50", "p90", "p99"}
    await admin.get("/admin/v1/stats?window_s=0", 400)


async def test_keys_and_quotas(admin: Admin) -> None:
    made = await admin.post("/admin/v1/keys", {"name": "ci", "plan": "gold", "tenant": "acme"}, 201)
    assert set(made) == {"id", "name", "tenant", "plan", "key"}
    assert (made["name"], made["tenant"], made["plan"]) == ("ci", "acme", "gold")
    listed = await admin.get("/admin/v1/keys")
    assert [k["id"] for k in listed["data"]] == [made["id"]]
    assert made["key"] not in json.dumps(listed)
    shown = await admin.get(f"/admin/v1/keys/{made['id']}")
    assert (shown["plan"], shown["revoked"]) == ("gold", False)
    changed = await admin.ask("PATCH", f"/admin/v1/keys/{made['id']}", 200, json={"plan": "default", "name": "cd"})
    assert (changed["name"], changed["plan"], changed["tenant"]) == ("cd", "default", "acme")
    changed = await admin.ask("PATCH", f"/admin/v1/keys/{made['id']}", 200, json={"plan": "gold", "name": "ci"})
    assert changed == shown
    for wrong in ({"plan": "none"}, {"plan": ""}, {"plan": None}, {"revoked": False}, {"name": 3}):
        refused = await admin.ask("PATCH", f"/admin/v1/keys/{made['id']}", 400, json=wrong)
        assert refused["error"]["param"] == next(iter(wrong))
    await admin.ask("PATCH", "/admin/v1/keys/key_none", 404, json={"plan": "gold"})
    quotas = (await admin.get(f"/admin/v1/quotas?key={made['id']}"))["data"]
    assert quotas[0]["key"] == {"id": made["id"], "name": "ci"}
    limits = {limit["limit"]: limit for limit in quotas[0]["limits"]}
    assert (limits["tokens"]["max"], limits["tokens"]["used"]) == (1000, 0)
    assert (await admin.get("/admin/v1/quotas"))["data"][0]["key"]["id"] == made["id"]
    reset = await admin.ask("DELETE", f"/admin/v1/quotas/{made['id']}", 200)
    assert reset["key"]["id"] == made["id"]
    revoked = await admin.ask("DELETE", f"/admin/v1/keys/{made['id']}", 200)
    assert revoked["revoked"] is True
    assert (await admin.get(f"/admin/v1/keys/{made['id']}"))["revoked"] is True
    assert (await admin.get("/admin/v1/quotas"))["data"] == []


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": 5}, "name"),
        ({"name": "x", "plan": "platinum"}, "plan"),
        ({"name": "x", "tennant": "y"}, "tennant"),
    ],
)
async def test_keys_that_are_refused(admin: Admin, body: dict[str, Any], param: str) -> None:
    refused = await admin.post("/admin/v1/keys", body, 400)
    assert refused["error"]["param"] == param
    assert (await admin.get("/admin/v1/keys"))["data"] == []


@pytest.mark.parametrize("path", ["keys/nope", "quotas?key=nope", "requests/nope"])
async def test_what_is_not_there_is_404(admin: Admin, path: str) -> None:
    assert (await admin.get(f"/admin/v1/{path}", 404))["error"]["code"] == "not_found"


async def test_a_reload_names_the_keys_whose_plan_it_takes_away(admin: Admin) -> None:
    made = await admin.post("/admin/v1/keys", {"name": "ci", "plan": "gold"}, 201)
    admin.path.write_text(TOML.replace("[plans.gold]", "[plans.golden]"))
    for _ in range(2):  # the watcher may have been faster; it is said at every reload
        (warning,) = (await admin.post("/admin/v1/config/reload"))["warnings"]
        assert '"gold"' in warning
        assert made["id"] in warning
    (shown,) = (await admin.get("/admin/v1/keys"))["data"]
    assert (shown["plan"], shown["plan_missing"]) == ("gold", True)
    await admin.ask("PATCH", f"/admin/v1/keys/{made['id']}", 200, json={"plan": "golden"})
    assert (await admin.post("/admin/v1/config/reload"))["warnings"] == []


async def test_config_and_reload(admin: Admin) -> None:
    shown = await admin.get("/admin/v1/config")
    assert (shown["source"], shown["generation"], shown["refused"]) == (str(admin.path), 1, None)
    assert shown["config"]["router"]["policy"] == "p2c"
    assert (await admin.post("/admin/v1/config/reload")) == {
        "changed": False,
        "generation": 1,
        "changes": [],
        "warnings": [],
    }
    admin.path.write_text(TOML.replace('"p2c"', '"ttft"'))
    reloaded = await admin.post("/admin/v1/config/reload")
    assert reloaded == {
        "changed": True,
        "generation": 2,
        "changes": ['router.policy: "p2c" -> "ttft"'],
        "warnings": [],
    }
    admin.path.write_text(TOML.replace("[probes]", "[probs]"))
    refused = await admin.post("/admin/v1/config/reload", None, 422)
    assert refused["error"]["problems"][0].startswith(f"{admin.path}:")
    assert 'did you mean "probes"?' in refused["error"]["problems"][0]
    shown = await admin.get("/admin/v1/config")
    assert (shown["generation"], shown["config"]["router"]["policy"]) == (2, "ttft")
    assert shown["refused"]["problems"] == refused["error"]["problems"]


async def test_policies(admin: Admin) -> None:
    listed = (await admin.get("/admin/v1/policies"))["data"]
    assert [p["name"] for p in listed if p["default"]] == ["p2c"]
    assert all(p["summary"] and p["source"] for p in listed)


async def test_explain(admin: Admin) -> None:
    asked = {"model": "m", "prompt": "hello", "residency": ["eu", "us"], "max_tokens": 5}
    explained = await admin.post("/admin/v1/explain", asked)
    assert explained["decision"]["asked"] == asked | {"residency": "eu,us"}
    assert (await admin.post("/admin/v1/explain", {"model": "x"}, 404))["error"]["code"] == "unknown_model"
    for body in ({}, {"model": 5}, {"model": "m", "max_tokens": "many"}, {"model": "m", "polcy": "x"}):
        assert (await admin.post("/admin/v1/explain", body, 400))["error"]["code"] == "invalid_request"


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


async def test_health_and_readiness(admin: Admin) -> None:
    assert (await admin.get("/healthz"))["status"] == "ok"
    assert (await admin.get("/readyz"))["status"] == "ready"
    admin.not_ready = "no usable backend"
    assert (await admin.get("/readyz", 503))["reason"] == "no usable backend"
    await admin.get("/healthz")


async def test_metrics(admin: Admin) -> None:
    now_s = clock.monotonic_s()
    admin.control.fleet.observe_rtt("us-east/a", 0.02, now_s)
    admin.control.fleet.observe_load("us-east/a", LoadSample(now_s, running=4, waiting=3), now_s)
    admin.control.telemetry.request_done(record())
    families = {f.name: f for f in text_string_to_metric_families(await admin.get("/metrics"))}
    assert families["router_requests"].samples[0].value == 1
    states = {(s.labels["backend"], s.labels["state"]): s.value for s in families["router_backend_state"].samples}
    assert states["us-east/a", "healthy"] == 1
    assert states["us-east/a", "ejected"] == 0
    assert [s.value for s in families["router_backend_waiting"].samples] == [3], "unknown has no sample"
    assert "router_backend_kv_ratio" not in families
    assert families["router_build_info"].samples[0].labels == {"version": "1.2.3"}
    assert families["router_store_up"].samples[0].value == 1
    assert families["router_queue_length"].samples[0].value == 3
    assert "process_resident_memory_bytes" in families


async def test_the_openapi_document_describes_every_route(admin: Admin) -> None:
    document = await admin.get("/admin/v1/openapi.json")
    described = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    assert described == {(route.method, route.path) for route in ROUTES}
    served = {
        (route.method, route.resource.canonical)
        for route in _app_routes(admin)
        if route.resource is not None and route.method != "HEAD"
    }
    assert served == described
    names = [operation["operationId"] for methods in document["paths"].values() for operation in methods.values()]
    assert len(names) == len(set(names))
    assert document["paths"]["/healthz"]["get"].get("security") is None


def _app_routes(admin: Admin) -> Any:
    from router.control.admin import make_app

    return make_app(admin.control, None).router.routes()


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/", 404, "not_found"),
        ("GET", "/admin/v1/nope", 404, "not_found"),
        ("POST", "/admin/v1/status", 405, "method_not_allowed"),
        ("DELETE", "/admin/v1/regions", 405, "method_not_allowed"),
    ],
)
async def test_other_paths_and_methods(admin: Admin, method: str, path: str, status: int, code: str) -> None:
    assert (await admin.ask(method, path, status))["error"]["code"] == code


@pytest.mark.parametrize(
    ("data", "content_type", "status"),
    [
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"\xff", "application/json", 400),
        (b'{"name":"x"}', "text/plain", 400),
        (b'{"name":"x"}', "application/x-www-form-urlencoded", 400),
        (b" " * (1024 * 1024 + 1), "application/json", 413),
        (b"[" * 100_000, "application/json", 400),
    ],
)
async def test_bodies_that_are_refused(admin: Admin, data: bytes, content_type: str, status: int) -> None:
    headers = {"Content-Type": content_type}
    refused = await admin.ask("POST", "/admin/v1/keys", status, data=io.BytesIO(data), headers=headers)
    assert set(refused["error"]) == {"message", "type", "param", "code"}


async def test_a_fault_of_ours_shows_nothing_of_the_inside(
    admin: Admin, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def broken(document: dict[str, Any]) -> dict[str, Any]:
        raise ZeroDivisionError("secret inside")

    admin.control.explain = broken
    refused = await admin.post("/admin/v1/explain", {"model": "m"}, 500)
    assert refused["error"]["code"] == "internal"
    assert "secret" not in orjson.dumps(refused).decode()
    assert "ZeroDivisionError" in caplog.text
