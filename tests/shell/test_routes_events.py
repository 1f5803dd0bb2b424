"""The routes of the history: listed, filtered, followed; every change by an operator is in it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest

from router import clock
from router.control.callers import ECHO_HEADER, OPERATOR_HEADER
from router.control.routes import ROUTES, events
from router.core.health import Event, State
from router.errors import ConfigError
from tests.support.control import Admin

EVENTS = "/admin/v1/events"
ANNA = {OPERATOR_HEADER: "anna@laptop"}


async def listed(admin: Admin, query: str = "") -> list[dict[str, Any]]:
    return list((await admin.get(f"{EVENTS}?limit={events.EVENTS_MAX}{query}"))["data"])


def brief(found: list[dict[str, Any]]) -> list[tuple[Any, ...]]:
    return [(e["kind"], e["subject"], e["from"], e["to"], e["why"], e["who"]) for e in found]


def kill(admin: Admin, name: str) -> None:
    for i in range(10):
        admin.control.fleet.observe_health(name, False, clock.monotonic_s() + i * 0.001)


async def test_a_death_is_an_event_and_the_views_say_since_when_and_why(admin: Admin) -> None:
    kill(admin, "us-east/a")
    (event,) = await listed(admin, "&kind=health&backend=us-east/a")
    assert (event["from"], event["to"], event["region"], event["router"]) == ("healthy", "ejected", "us-east", "edge")
    assert event["why"].startswith("nobody answers")
    assert event["at"].endswith("Z")
    (region, *_) = (await admin.get("/admin/v1/regions"))["data"]
    (dead,) = [b for b in region["backends"] if b["name"] == "us-east/a"]
    assert (dead["since_s"], dead["why"], dead["who"]) == (event["at_s"], event["why"], None)
    assert dead["since"] == event["at"]
    assert region["state"] == "degraded"
    assert region["since_s"] == event["at_s"]
    assert region["why"] == f"us-east/a: {event['why']}"


async def test_a_drain_says_who_and_why_and_is_noted_once(admin: Admin) -> None:
    path = "/admin/v1/regions/eu-west"
    drained = await admin.post(f"{path}/drain", {"reason": "new kernel"}, headers=ANNA)
    assert (drained["why"], drained["who"]) == ("new kernel", "anna@laptop")
    assert abs(drained["since_s"] - clock.wall_s()) < 30.0
    again = await admin.post(f"{path}/drain", {}, headers={OPERATOR_HEADER: "bob"})
    assert (again["why"], again["who"], again["since_s"]) == ("new kernel", "anna@laptop", drained["since_s"])
    await admin.post(f"{path}/drain", headers=ANNA)
    await admin.post(f"{path}/resume", {}, headers=ANNA)
    await admin.post(f"{path}/resume", {}, headers=ANNA)
    assert brief(await listed(admin, "&kind=drain")) == [
        ("drain", "eu-west", "draining", "resumed", None, "anna@laptop"),
        ("drain", "eu-west", "ok", "draining", "new kernel", "anna@laptop"),
    ]


async def test_a_change_by_an_operator_is_told_once(admin: Admin) -> None:
    """Its call is in the audit trail. One that was refused, or has no event of its own, is in both lists."""
    await admin.post("/admin/v1/regions/eu-west/drain", {}, headers=ANNA)
    await admin.post("/admin/v1/regions/nowhere/drain", {}, 404, headers=ANNA)
    key = (await admin.post("/admin/v1/keys", {"name": "ci"}, 201, headers=ANNA))["id"]
    for _ in range(2):
        await admin.ask("DELETE", f"/admin/v1/keys/{key}", 200, headers=ANNA)
    told = [(e["subject"], e["to"]) for e in await listed(admin) if e["who"] == "anna@laptop"]
    refused = ("POST /admin/v1/regions/nowhere/drain", "not_found")
    assert told[::-1] == [("eu-west", "draining"), refused, (key, "created"), (key, "revoked")]
    audit = [e["to"] for e in await listed(admin, "&kind=operator")]
    assert audit[::-1] == ["200", "not_found", "201", "200", "200"]


def test_of_every_call_that_changes_something_it_is_known_whether_an_event_tells_the_change() -> None:
    alone = {"addOperator", "removeOperator"}
    assert {route.name for route in ROUTES if route.writes} == events.TOLD_BY_CHANGES | alone


async def test_an_ejected_backend_that_is_down_has_a_word_of_its_own(admin: Admin) -> None:
    fleet, now_s = admin.control.fleet, clock.monotonic_s()
    b = fleet.backends["us-east/a"]
    b.health.state = State.EJECTED
    fleet.bulletin.moved(b, State.HEALTHY, Event.TRIP, now_s, silent=False)
    fleet.bulletin.moved(b, State.EJECTED, Event.DOWN, now_s, silent=False)
    assert [e["to"] for e in await listed(admin, "&kind=health&backend=us-east/a")] == ["down", "ejected"]


async def test_a_notice_a_key_a_quota_a_fault_and_a_burn_in(admin: Admin) -> None:
    await admin.post("/admin/v1/backends/eu-west/a/notice", {"in_s": 60, "by": "the cloud"}, headers=ANNA)
    await admin.ask("DELETE", "/admin/v1/backends/eu-west/a/notice", 200, headers=ANNA)
    key = (await admin.post("/admin/v1/keys", {"name": "ci"}, 201, headers=ANNA))["id"]
    await admin.ask("PATCH", f"/admin/v1/keys/{key}", 200, json={"plan": "gold"}, headers=ANNA)
    await admin.ask("DELETE", f"/admin/v1/quotas/{key}", 200, headers=ANNA)
    await admin.ask("DELETE", f"/admin/v1/keys/{key}", 200, headers=ANNA)
    await admin.post("/admin/v1/backends/us-east/a/burn-in", {}, 202, headers=ANNA)
    found = brief(await listed(admin, "&kind=notice,key,quota,burn-in"))[::-1]
    assert [event for event in found if event[-1] is not None] == [
        ("notice", "eu-west/a", "healthy", "leaving", "it goes away in 60 s, says the cloud", "anna@laptop"),
        ("notice", "eu-west/a", "leaving", "stays", None, "anna@laptop"),
        ("key", key, None, "created", "ci, plan default", "anna@laptop"),
        ("key", key, None, "changed", "ci: plan gold", "anna@laptop"),
        ("quota", key, None, "reset", "ci", "anna@laptop"),
        ("key", key, "valid", "revoked", "ci", "anna@laptop"),
        ("burn-in", "us-east/a", None, "asked for", None, "anna@laptop"),
    ]


async def test_every_call_that_changes_something_is_in_the_audit_trail(admin: Admin) -> None:
    await admin.get("/admin/v1/regions")
    await admin.post("/admin/v1/explain", {"model": "m"})
    await admin.post("/admin/v1/regions/nowhere/drain", {}, 404, headers=ANNA)
    await admin.post("/admin/v1/regions/eu-west/drain", {}, headers=ANNA)
    await admin.post("/admin/v1/regions/eu-west/resume", {}, headers=ANNA | {ECHO_HEADER: "1"})
    assert brief(await listed(admin, "&kind=operator"))[::-1] == [
        ("operator", "POST /admin/v1/regions/nowhere/drain", None, "not_found", "drainRegion", "anna@laptop"),
        ("operator", "POST /admin/v1/regions/eu-west/drain", None, "200", "drainRegion", "anna@laptop"),
    ]


async def test_a_look_is_not_an_event_also_if_it_is_a_post(admin: Admin) -> None:
    text = admin.path.read_text()
    await admin.post("/admin/v1/config/check", {"text": text}, headers=ANNA)
    await admin.post("/admin/v1/backends/us-east/a/probe", {}, headers=ANNA)
    assert brief(await listed(admin, "&kind=operator")) == []


async def test_a_reload_is_noted_and_so_is_one_that_is_refused(admin: Admin) -> None:
    before = admin.path.read_text()
    admin.path.write_text(before.replace("requests_per_minute = 100", "requests_per_minute = 200"))
    await admin.post("/admin/v1/config/reload", {}, headers=ANNA)
    admin.path.write_text(before.replace("requests_per_minute = 100", "requests_per_minute = -1"))
    with pytest.raises(ConfigError):
        await admin.control.reloader.reload("file changed")
    refused, taken = (await listed(admin, "&kind=config"))[:2]
    assert (taken["from"], taken["to"], taken["who"]) == ("generation 1", "generation 2", "anna@laptop")
    assert "200" in taken["why"]
    assert (refused["from"], refused["to"], refused["who"]) == ("generation 2", "refused", None)
    assert "requests_per_minute" in refused["why"]


async def test_filters(admin: Admin) -> None:
    history = admin.control.chronicle.history
    history.note("health", "us-east/a", after="ejected", at_s=100.0)
    history.note("drain", "us-east", after="draining", at_s=200.0)
    history.note("key", "key_1", after="created", at_s=300.0)
    assert [e["kind"] for e in await listed(admin, "&region=us-east")] == ["drain", "health"]
    assert [e["kind"] for e in await listed(admin, "&backend=us-east/a")] == ["health"]
    assert [e["kind"] for e in await listed(admin, "&since_s=150&router=edge")] == ["key", "drain"]
    wrong = await admin.get(f"{EVENTS}?router=egde", 400)
    assert 'There is no router "egde", did you mean "edge"?' in wrong["error"]["message"]
    assert [e["kind"] for e in (await admin.get(f"{EVENTS}?limit=1"))["data"]] == ["key"]
    wrong = await admin.get(f"{EVENTS}?kind=helth", 400)
    assert 'did you mean "health"?' in wrong["error"]["message"]


async def test_followers_get_the_past_and_then_what_happens(admin: Admin) -> None:
    history = admin.control.chronicle.history
    for number in range(3):
        history.note("key", f"key_{number}", after="created")
    async with admin.session.get(f"{admin.url}{EVENTS}/tail?past=2&kind=key") as answer:
        seen = []
        async with asyncio.timeout(10):
            while len(seen) < 3:
                block = (await answer.content.readuntil(b"\n\n")).decode()
                if block.startswith("event: event\ndata: "):
                    seen.append(json.loads(block.removeprefix("event: event\ndata: "))["subject"])
                    if len(seen) == 2:
                        history.note("store", "store", after="down")
                        history.note("key", "key_3", after="created")
    assert seen == ["key_1", "key_2", "key_3"]
    async with asyncio.timeout(10):
        while history._subscriptions:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_metrics_count_events_and_changes_of_state(admin: Admin) -> None:
    kill(admin, "us-east/a")
    await admin.post("/admin/v1/regions/eu-west/drain", {})
    page = await admin.get("/metrics")
    assert 'router_backend_transitions_total{region="us-east",backend="us-east/a",state="ejected"} 1' in page
    assert 'router_events_total{kind="drain"} 1' in page
    assert 'router_events_total{kind="operator"} 1' in page


async def test_a_region_or_a_backend_that_nobody_knows_is_an_error_that_suggests(admin: Admin) -> None:
    for query, words in (("region=us-eat", 'did you mean "us-east"'), ("backend=us-east/c", "There are: eu-west/a")):
        for path in ("events", "events/tail"):
            refused = await admin.get(f"/admin/v1/{path}?{query}", 400)
            assert words in refused["error"]["message"]
    admin.control.chronicle.history.note("health", "old/x", before="healthy", after="ejected")
    assert (await admin.get("/admin/v1/events?region=us-east"))["data"] == []
    (kept,) = (await admin.get("/admin/v1/events?backend=old/x"))["data"]
    assert kept["subject"] == "old/x", "the history has names that are gone"
