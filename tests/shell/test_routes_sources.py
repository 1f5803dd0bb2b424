"""The routes of sources and registrations (router.control.routes.sources, router.control.source_views)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.control import Admin

POD = {"name": "us-east/pod-7", "url": "http://127.0.0.1:9", "engine": "vllm", "models": ["m"], "lease_s": 20}


async def test_a_backend_registers_renews_and_leaves(admin: Admin) -> None:
    made = await admin.post("/admin/v1/backends", POD, 201)
    assert (made["name"], made["url"], made["engine"], made["models"]) == ("us-east/pod-7", POD["url"], "vllm", ["m"])
    assert made["applied"] == "all routers"
    source = made["source"]
    assert (source["name"], source["kind"], source["says"]) == ("registered", "registered", "ready")
    assert 19 < source["lease_s"] <= 20
    again = await admin.post("/admin/v1/backends", POD | {"lease_s": 30})
    assert 29 < again["source"]["lease_s"] <= 30
    assert (source["renew_s"], again["source"]["renew_s"]) == (20 / 3, 10)
    assert "us-east/pod-7" in [b["name"] for b in (await admin.get("/admin/v1/backends"))["data"]]
    region = (await admin.get("/admin/v1/regions"))["data"][0]
    assert [b["name"] for b in region["backends"]] == ["us-east/a", "us-east/b", "us-east/pod-7"]
    gone = await admin.ask("DELETE", "/admin/v1/backends/us-east/pod-7?in_s=60", 200)
    assert 59 < gone["leaving"]["in_s"] <= 60
    assert (gone["leaving"]["by"], gone["usable"], gone["source"]["says"]) == ("the backend itself", False, "leaving")


async def test_the_region_may_stand_beside_the_name(admin: Admin) -> None:
    made = await admin.post("/admin/v1/backends", POD | {"name": "pod-8", "region": "eu-west"}, 201)
    assert made["name"] == "eu-west/pod-8"


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"name": "mars/a"}, "region"),
        ({"name": "a"}, "region"),
        ({"name": "us-east/a"}, "name"),
        ({"name": "us-east/a/b"}, "name"),
        ({"region": "eu-west"}, "region"),
        ({"url": "10.0.0.1:80"}, "url"),
        ({"url": "http://169.254.169.254/"}, "url"),
        ({"url": "http://127.0.0.1:1"}, "url"),
        ({"url": "http://127.0.0.1:8080"}, "url"),
        ({"url": None}, "url"),
        ({"engine": "vlm"}, "engine"),
        ({"models": ["two words"]}, "models"),
        ({"models": [1]}, "models"),
        ({"max_inflight": 0}, "max_inflight"),
        ({"cost_usd_hour": -1}, "cost_usd_hour"),
        ({"lease_s": 0}, "lease_s"),
        ({"lease_s": 1e9}, "lease_s"),
        ({"notice_url": "ftp://x"}, "notice_url"),
        ({"key_env": "SECRET"}, "key_env"),
    ],
)
async def test_what_it_says_is_checked_as_the_file_is(admin: Admin, changes: dict[str, Any], param: str) -> None:
    answer = await admin.post("/admin/v1/backends", POD | changes, 400)
    assert answer["error"]["param"] == param, answer


async def test_what_is_not_registered_is_not_ended(admin: Admin) -> None:
    answer = await admin.ask("DELETE", "/admin/v1/backends/us-east/a", 404)
    assert answer["error"]["message"] == "The backend us-east/a is not registered."
    answer = await admin.ask("DELETE", "/admin/v1/backends/us-east/none", 404)
    assert answer["error"]["message"] == "The backend us-east/none is not there."


async def test_the_file_is_a_source_and_says_little(admin: Admin) -> None:
    backend = (await admin.get("/admin/v1/backends"))["data"][0]
    assert backend["source"] == {
        "name": "file",
        "kind": "file",
        "says": "ready",
        "since_s": None,
        "heard_s": None,
        "lease_s": None,
        "renew_s": None,
        "facts": {},
    }


async def test_every_source_is_listed(admin: Admin) -> None:
    await admin.post("/admin/v1/backends", POD, 201)
    found = (await admin.get("/admin/v1/sources"))["data"]
    assert [(s["name"], s["state"], s["backends"], s["in_use"]) for s in found] == [
        ("file", "heard", 3, 3),
        ("registered", "heard", 1, 1),
    ]
    assert all(s["problem"] is None and s["remarks"] == s["left_out"] == [] for s in found)
