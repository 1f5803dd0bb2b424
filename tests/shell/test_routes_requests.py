"""The routes of requests: lists, one request, the tail, explain."""

from __future__ import annotations

import asyncio
import json

from router.core.decisions import Candidate
from tests.support.control import Admin, record


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
        "reason": None,
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


async def test_explain(admin: Admin) -> None:
    asked = {"model": "m", "prompt": "hello", "residency": ["eu", "us"], "max_tokens": 5}
    explained = await admin.post("/admin/v1/explain", asked)
    assert explained["decision"]["asked"] == asked | {"residency": "eu,us"}
    assert (await admin.post("/admin/v1/explain", {"model": "x"}, 404))["error"]["code"] == "unknown_model"
    for body in ({}, {"model": 5}, {"model": "m", "max_tokens": "many"}, {"model": "m", "polcy": "x"}):
        assert (await admin.post("/admin/v1/explain", body, 400))["error"]["code"] == "invalid_request"


async def test_a_recorded_decision_is_taken_again(admin: Admin) -> None:
    terms = {"us-east/a": (("rtt", 0.05), ("queue", 0.2)), "eu-west/a": (("rtt", 0.3), ("queue", 0.0))}
    candidates = tuple(Candidate(name, sum(v for _, v in t), t, None) for name, t in terms.items())
    admin.control.telemetry.request_done(record(0, candidates=candidates))
    admin.control.telemetry.request_done(record(1, candidates=()))
    asked = {"request_id": "req-0", "without": ["us-east"]}
    explained = await admin.post("/admin/v1/explain", asked)
    assert explained["decision"]["backend"] == "us-east/a", "as it was"
    again = explained["what_if"]
    assert again["says"] == "without us-east"
    assert (again["decision"]["backend"], again["decision"]["policy"]) == ("eu-west/a", "p2c")
    more = await admin.post("/admin/v1/explain", {"request_id": "req-0", "add": ["us-east/z=us-east/a"], "scale": 2})
    assert more["what_if"]["decision"]["backend"] == "us-east/z"
    assert "what_if" not in await admin.post("/admin/v1/explain", {"request_id": "req-0"})
    for body, param in (
        ({"without": ["mars"]}, "without"),
        ({"without": [5]}, "without"),
        ({"add": ["us-east/z"]}, "add"),
        ({"add": ["us-east/z=mars/a"]}, "add"),
        ({"scale": 0}, "scale"),
    ):
        refused = await admin.post("/admin/v1/explain", {"request_id": "req-0", **body}, 400)
        assert refused["error"]["param"] == param, body
    forgotten = await admin.post("/admin/v1/explain", {"request_id": "req-1", "without": ["us-east"]}, 400)
    assert "not kept any more" in forgotten["error"]["message"]
    admin.control.telemetry.request_done(record(2, candidates=(), policy=None))
    refused = await admin.post("/admin/v1/explain", {"request_id": "req-2", "without": ["us-east"]}, 400)
    assert "No backend was looked for" in refused["error"]["message"], "as of one that a limit refused"
    assert set(admin.control.fleet.backends) == {"us-east/a", "us-east/b", "eu-west/a"}


async def test_requests_in_flight_are_listed_oldest_first(admin: Admin) -> None:
    empty = await admin.get("/admin/v1/requests/in-flight")
    assert (empty["data"], empty["count"], empty["fleet"]["routers"]) == ([], 0, ["edge"])
    admin.on_their_way = [{"request_id": f"req-{age}", "age_s": float(age)} for age in (9, 5, 2)]
    listed = await admin.get("/admin/v1/requests/in-flight?limit=2")
    assert [(r["request_id"], r["router"]) for r in listed["data"]] == [("req-9", "edge"), ("req-5", "edge")]
    assert listed["count"] == 3
    assert (await admin.get("/admin/v1/requests/in-flight?limit=0", 400))["error"]["param"] == "limit"
    assert (await admin.get("/admin/v1/requests/in-flight?router=other", 400))["error"]["param"] == "router"
