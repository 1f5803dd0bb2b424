"""The routes of API keys and quotas."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from tests.support.control import Admin


async def test_keys_and_quotas(admin: Admin) -> None:
    made = await admin.post("/admin/v1/keys", {"name": "ci", "plan": "gold", "tenant": "acme"}, 201)
    assert set(made) == {"id", "name", "tenant", "plan", "expires", "expires_s", "key"}
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
        ({"name": "x", "expires": "soon"}, "expires"),
        ({"name": "x", "expires": "30"}, "expires"),
        ({"name": "x", "expires": 30}, "expires"),
    ],
)
async def test_keys_that_are_refused(admin: Admin, body: dict[str, Any], param: str) -> None:
    refused = await admin.post("/admin/v1/keys", body, 400)
    assert refused["error"]["param"] == param
    assert (await admin.get("/admin/v1/keys"))["data"] == []


async def test_a_key_that_expires(admin: Admin) -> None:
    made = await admin.post("/admin/v1/keys", {"name": "ci", "expires": "2027-01-31T12:00:00+01:00"}, 201)
    path = f"/admin/v1/keys/{made['id']}"
    assert (made["expires"], made["expires_s"]) == ("2027-01-31T11:00:00Z", 1_801_393_200.0)
    shown = await admin.get(path)
    assert (shown["expires"], shown["expired"]) == ("2027-01-31T11:00:00Z", False)
    changed = await admin.ask("PATCH", path, 200, json={"expires": "30d"})
    assert changed["expires_s"] == pytest.approx(time.time() + 30 * 86_400, abs=5)
    changed = await admin.ask("PATCH", path, 200, json={"expires": "2001-01-01"})
    assert changed["expired"] is True
    assert changed["revoked"] is False
    changed = await admin.ask("PATCH", path, 200, json={"expires": "never"})
    assert (changed["expires"], changed["expires_s"], changed["expired"]) == (None, None, False)
    await admin.ask("PATCH", path, 400, json={"expires": ""})


async def test_a_key_gets_a_new_secret(admin: Admin) -> None:
    made = await admin.post("/admin/v1/keys", {"name": "ci"}, 201)
    path = f"/admin/v1/keys/{made['id']}"
    rotated = await admin.post(f"{path}/rotate", {"overlap": "2h"})
    assert rotated["id"] == made["id"]
    assert rotated["key"].startswith("mr-")
    assert rotated["key"] != made["key"]
    assert rotated["overlap_until_s"] == pytest.approx(time.time() + 7200, abs=5)
    shown = await admin.get(path)
    assert (shown["older_secrets"], shown["overlap_until_s"]) == (1, rotated["overlap_until_s"])
    assert "key" not in shown
    usual = await admin.post(f"{path}/rotate", {})
    assert usual["overlap_until_s"] == pytest.approx(time.time() + 86_400, abs=5)
    ended = await admin.post(f"{path}/rotate", {"overlap": 0})
    assert (ended["older_secrets"], ended["overlap_until_s"]) == (0, None)
    for wrong in ("soon", "2y", -1, True):
        refused = await admin.post(f"{path}/rotate", {"overlap": wrong}, 400)
        assert refused["error"]["param"] == "overlap"
    await admin.post("/admin/v1/keys/key_none/rotate", {}, 404)
    await admin.ask("DELETE", path, 200)
    await admin.post(f"{path}/rotate", {}, 400)
