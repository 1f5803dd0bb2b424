"""The routes of API keys and quotas."""

from __future__ import annotations

import json
from typing import Any

import pytest

from tests.support.control import Admin


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
