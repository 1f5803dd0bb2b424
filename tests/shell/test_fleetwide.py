"""Answers of several routers put together, and how a router answers another one."""

from __future__ import annotations

from typing import Any

import orjson

from router.control import fleetwide
from router.control.routes import ROUTES
from tests.support.control import Admin

HANDLERS = {route.name: route.handler for route in ROUTES}


def status(*backends: str, hash_: str = "x", inflight: int = 1) -> dict[str, Any]:
    traffic = {"inflight": inflight, "queued": 2, "requests_per_s": 9.0}
    return {"router": {"config_hash": hash_}, "traffic": traffic, "backends": {"names": list(backends)}}


def test_traffic_is_added_and_what_only_some_have_is_said() -> None:
    merged = fleetwide.status([("a", status("us/a", "us/b")), ("b", status("us/a", inflight=4))])
    assert (merged["traffic"]["inflight"], merged["traffic"]["queued"]) == (5, 4)
    assert merged["differences"] == ["us/b only on a"]


def test_configurations_that_differ_otherwise_are_said_too() -> None:
    same = [("a", status("us/a")), ("b", status("us/a"))]
    assert fleetwide.differences(same) == []
    (line,) = fleetwide.differences([*same, ("c", status("us/a", hash_="y"))])
    assert line == "configurations differ: a, b run x; c runs y"


def test_workers_of_one_router_are_one() -> None:
    two = [("a", status("us/a", "us/b")), ("a", status("us/a", "us/b"))]
    assert fleetwide.differences(two) == []
    assert fleetwide.differences([*two, ("b", status("us/a"))]) == ["us/b only on a"]


def test_other_routers_in_trouble_are_named() -> None:
    """The first one is the one that is asked, and has its own words."""
    well, sick, stuck = status("us/a"), status("us/a"), status("us/a")
    sick["router"] |= {"ready": False, "not_ready": "shutting down"}
    stuck["router"] |= {"ready": True, "config_refused": {"at_s": 1.0, "problems": ["r.toml:3: bad", "more"]}}
    assert fleetwide.status([("a", stuck), ("a", sick), ("b", well)])["troubles"] == []
    lines = fleetwide.status([("a", well), ("b", sick), ("c", stuck), ("c", stuck)])["troubles"]
    assert lines == ["b is not ready: shutting down", "c would not start again, its file is refused: r.toml:3: bad"]


async def test_a_router_answers_for_itself_and_only_what_changes_nothing(admin: Admin) -> None:
    raw = await fleetwide.respond(admin.control, HANDLERS, "listRegions", {})
    assert raw is not None
    document = orjson.loads(raw)
    assert [region["name"] for region in document["data"]] == ["us-east", "eu-west"]
    assert document["fleet"]["scope"] == "edge only"
    assert await fleetwide.respond(admin.control, HANDLERS, "drainRegion", {":region": "us-east"}) is None
    assert await fleetwide.respond(admin.control, HANDLERS, "showRequest", {":request_id": "none"}) == b""
    assert all(route.method == "GET" for route in ROUTES if route.name in fleetwide.ASKED)


async def test_without_a_store_the_answer_is_about_this_router_only(admin: Admin) -> None:
    status_ = await admin.get("/admin/v1/status")
    assert status_["fleet"] == {"scope": "this router only", "routers": ["edge"], "silent": []}
    assert (await admin.get("/admin/v1/requests?router=edge"))["fleet"]["scope"] == "edge only"
    refused = await admin.get("/admin/v1/stats?router=other", 400)
    assert "There are: edge." in refused["error"]["message"]
    (line,) = (await admin.get("/admin/v1/routers"))["data"]
    assert (line["name"], line["this"], line["answers"]) == ("edge", True, True)


async def test_regions_have_the_counts_of_all_and_how_each_sees_them(admin: Admin) -> None:
    own = (await admin.get("/admin/v1/regions"))["data"]
    other = orjson.loads(orjson.dumps(own))
    other[0]["backends"][0] |= {"requests_total": 7, "state": "ejected", "usable": False}
    other[0]["backends"].append(other[0]["backends"][0] | {"name": "us-east/c"})
    merged = fleetwide.regions("edge", own, [("edge-2", other)])
    by_name = {b["name"]: b for region in merged for b in region["backends"]}
    assert by_name["us-east/a"]["requests_total"] == 7
    assert by_name["us-east/a"]["state"] == "healthy", "as the one that is asked sees it"
    assert [(s["router"], s["state"]) for s in by_name["us-east/a"]["routers"]][1] == ("edge-2", "ejected")
    assert [s["router"] for s in by_name["us-east/c"]["routers"]] == ["edge-2"]
