"""The routes about this process: alive, ready, status, metrics, figures."""

from __future__ import annotations

import json
import time

import pytest
from prometheus_client.parser import text_string_to_metric_families

from router import clock
from router.control.routes.process import _one_each
from router.core.types import LoadSample
from tests.support.control import Admin, record


async def test_status(admin: Admin) -> None:
    admin.control.telemetry.request_done(record())
    admin.control.telemetry.request_done(record(1, status=503, error="no_backend", cause="refused", attempts=[]))
    status = await admin.get("/admin/v1/status")
    assert {"router", "store", "traffic", "regions", "backends", "differences", "fleet", "dormant"} <= set(status)
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


async def test_stats(admin: Admin) -> None:
    admin.control.telemetry.request_done(record())
    stats = await admin.get("/admin/v1/stats?window_s=30")
    assert (stats["window_s"], stats["requests"], stats["output_tokens"]) == (30, 1, 20)
    assert stats["by_region"][0]["name"] == "us-east"
    assert set(stats["ttft_s"]) == {"p50", "p90", "p99"}
    await admin.get("/admin/v1/stats?window_s=0", 400)


async def test_health_and_readiness(admin: Admin) -> None:
    assert (await admin.get("/healthz"))["status"] == "ok"
    assert (await admin.get("/readyz"))["status"] == "ready"
    admin.not_ready = "no usable backend"
    assert (await admin.get("/readyz", 503))["reason"] == "no usable backend"
    await admin.get("/healthz")


async def test_why_it_is_not_ready(admin: Admin) -> None:
    assert (await admin.get("/admin/v1/status"))["router"]["not_ready"] is None
    admin.not_ready = "no usable backend"
    router = (await admin.get("/admin/v1/status"))["router"]
    assert (router["ready"], router["not_ready"]) == (False, "no usable backend")


async def test_metrics_tell_of_a_refused_file(admin: Admin) -> None:
    async def gauges() -> dict[str, float]:
        page = text_string_to_metric_families(await admin.get("/metrics"))
        return {f.name: f.samples[0].value for f in page if f.name.startswith("router_config_last_reload")}

    assert await gauges() == {}, "nobody watches the file here"
    admin.control.reloader.start(hangups=False)
    try:
        before = await gauges()
        assert before["router_config_last_reload_successful"] == 1
        good = admin.path.read_text()
        admin.path.write_text("[[[")
        await admin.post("/admin/v1/config/reload", None, 422)
        after = await gauges()
        assert after["router_config_last_reload_successful"] == 0
        name = "router_config_last_reload_timestamp_seconds"
        assert clock.wall_s() - 60 < before[name] <= after[name] <= clock.wall_s()
        admin.path.write_text(good)
        await admin.post("/admin/v1/config/reload")
        assert (await gauges())["router_config_last_reload_successful"] == 1
    finally:
        await admin.control.reloader.stop()


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


async def test_usage_of_a_day_by_what_one_likes(admin: Admin) -> None:
    admin.control.telemetry.request_done(record(1, key_id="key_1", cost_usd=0.002))
    admin.control.telemetry.request_done(record(2, key_id="key_2", output_tokens=90, cost_usd=0.009))
    usage = await admin.get("/admin/v1/usage?since_s=86400&by=key,region&sort=cost")
    assert [(row["key"], row["region"], row["cost_usd"]) for row in usage["data"]] == [
        ("key_2", "us-east", 0.009),
        ("key_1", "us-east", 0.002),
    ]
    assert usage["total"]["requests"] == 2
    for query, text in (("by=kye", 'did you mean "key"'), ("sort=price", "Sort by one of"), ("since_s=1", "since_s")):
        wrong = await admin.get(f"/admin/v1/usage?{query}", 400)
        assert text in wrong["error"]["message"]


async def test_a_router_that_died_is_listed_since_when(admin: Admin) -> None:
    word = {"name": "edge-9", "region": "eu", "version": "0.1.0", "config_hash": "abc", "at_s": time.time() - 60}
    await admin.control.store.set_runtime("router:edge-9", json.dumps(word))
    here, gone = (await admin.get("/admin/v1/routers"))["data"]
    assert (here["name"], here["answers"], here["gone_since_s"]) == ("edge", True, None)
    assert (gone["name"], gone["answers"], gone["gone_since_s"]) == ("edge-9", False, None)
    assert gone["last_word_s"] == pytest.approx(word["at_s"]), "nobody was there to hear when it died"
    noted_s = word["at_s"] + 7.5
    admin.control.chronicle.history.note("router", "edge-9", before="serving", after="gone", at_s=noted_s)
    assert (await admin.get("/admin/v1/routers"))["data"][1]["gone_since_s"] == pytest.approx(noted_s)
    assert (gone["region"], gone["config_hash"]) == ("eu", "abc")


def test_the_workers_of_a_router_are_one_line() -> None:
    line = {"name": "edge-2", "inflight": 2, "ready": False, "not_ready": "starting"}
    other = {"name": "edge-2", "inflight": 3, "ready": True, "not_ready": None}
    mine = {"name": "edge-1", "inflight": 1, "ready": True, "not_ready": None}
    assert _one_each([mine, line, other]) == [mine, {"name": "edge-2", "inflight": 5, "ready": True, "not_ready": None}]
