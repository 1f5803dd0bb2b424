"""The routes of API keys and quotas."""

from __future__ import annotations

import json
import time
from typing import Any

import pytest

from router import clock
from router.core.limits import Amounts
from router.store.base import Reservation
from router.store.keys import Ring
from tests.support.control import TOML, Admin, record


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


async def test_what_a_key_used_in_the_last_minute(admin: Admin) -> None:
    made = await admin.post("/admin/v1/keys", {"name": "ci", "plan": "gold"}, 201)
    for number in range(3):
        admin.control.telemetry.request_done(record(number, arrival_s=clock.wall_s(), key_id=made["id"]))
    (quota,) = (await admin.get("/admin/v1/quotas"))["data"]
    assert quota["last_minute"] == {"requests": 3, "tokens": 60, "refused": 0}
    assert (quota["plan"], quota["limits"][0]["plan_max"]) == ("gold", 100)


async def test_a_reset_may_leave_the_month_alone(admin: Admin) -> None:
    admin.path.write_text(TOML + "[plans.rich]\ntokens_per_minute = 1_000_000\nbudget_usd_month = 100.0\n")
    await admin.post("/admin/v1/config/reload")
    made = await admin.post("/admin/v1/keys", {"name": "ci", "plan": "rich"}, 201)
    store = admin.control.store
    key = await store.get_key(made["id"])
    assert key is not None

    async def used() -> dict[str, float]:
        (quota,) = (await admin.get(f"/admin/v1/quotas?key={made['id']}"))["data"]
        return {entry["limit"]: entry["used"] for entry in quota["limits"]}

    async def spend() -> None:
        taken = await store.reserve(key, Amounts(1, 500, 0, 2_000_000), "r")
        assert isinstance(taken, Reservation)

    await spend()
    assert (await used())["budget"] == 2.0
    await admin.ask("DELETE", f"/admin/v1/quotas/{made['id']}?what=minute", 200)
    assert (await used()) | {"tokens": 0} == {"tokens": 0, "budget": 2.0}
    await spend()
    await admin.ask("DELETE", f"/admin/v1/quotas/{made['id']}?what=month", 200)
    after = await used()
    assert after["budget"] == 0
    assert after["tokens"] > 0
    await admin.ask("DELETE", f"/admin/v1/quotas/{made['id']}", 200)
    assert await used() == {"tokens": 0, "budget": 0}
    await admin.ask("DELETE", f"/admin/v1/quotas/{made['id']}?what=year", 400)


GROUPS = """
[tenants.acme]
requests_per_minute = 10
[tenants.idle]
concurrent = 3
[models."org/m"]
tokens_per_minute = 500
[all]
budget_usd_day = 2.5
"""


async def test_quotas_of_groups(admin: Admin) -> None:
    admin.path.write_text(admin.path.read_text() + GROUPS)
    await admin.post("/admin/v1/config/reload")
    made = await admin.post("/admin/v1/keys", {"name": "ci", "tenant": "acme"}, 201)
    listed = (await admin.get("/admin/v1/quotas"))["data"]
    accounts = [made["id"], "tenant:acme", "tenant:idle", "model:org/m", "all"]
    assert [entry["account"] for entry in listed] == accounts
    assert [(entry["scope"], entry["name"], entry["plan"]) for entry in listed[:2]] == [
        ("key", "ci", "default"),
        ("tenant", "acme", None),
    ]
    assert listed[1]["key"] is None
    assert listed[1]["limits"][0] == {
        "limit": "requests",
        "max": 10,
        "plan_max": 10,
        "used": 0,
        "remaining": 10,
        "held": 0,
        "reset_s": 0.0,
        "scope": "this router",
    }
    assert listed[4]["limits"][0]["max"] == 2.5
    of_key = (await admin.get(f"/admin/v1/quotas?key={made['id']}"))["data"]
    assert [entry["account"] for entry in of_key] == [made["id"], "tenant:acme", "all"]
    of_tenant = (await admin.get("/admin/v1/quotas?tenant=acme"))["data"]
    assert [entry["account"] for entry in of_tenant] == ["tenant:acme", made["id"]]
    assert [e["account"] for e in (await admin.get("/admin/v1/quotas?tenant=idle"))["data"]] == ["tenant:idle"]
    await admin.get("/admin/v1/quotas?tenant=nobody", 404)
    for account in ("tenant%3Aacme", "model%3Aorg%2Fm", "all", "tenant:acme"):
        assert (await admin.ask("DELETE", f"/admin/v1/quotas/{account}", 200))["limits"][0]["used"] == 0
    await admin.ask("DELETE", "/admin/v1/quotas/tenant:nobody", 404)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({}, "name"),
        ({"name": ""}, "name"),
        ({"name": "x" * 201}, "name"),
        ({"name": "a\nb"}, "name"),
        ({"name": 5}, "name"),
        ({"name": "all"}, "name"),
        ({"name": "tenant:acme"}, "name"),
        ({"name": "model:org/m"}, "name"),
        ({"name": "jwt:acme"}, "name"),
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


async def test_a_key_does_not_get_the_name_of_other_limits(admin: Admin) -> None:
    made = await admin.post("/admin/v1/keys", {"name": "tenants:all"}, 201)
    for name in ("all", "tenant:acme", "model:m", "jwt:acme"):
        refused = await admin.ask("PATCH", f"/admin/v1/keys/{made['id']}", 400, json={"name": name})
        assert refused["error"]["param"] == "name"
    assert (await admin.get(f"/admin/v1/keys/{made['id']}"))["name"] == "tenants:all"


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


@pytest.mark.parametrize("path", ["keys", "quotas", "quotas?key=key_1", "quotas?tenant=acme"])
async def test_while_no_key_is_known_there_are_not_none(admin: Admin, path: str) -> None:
    """A router that was started while the store is away must not send an operator away who wants to revoke one."""
    ring = admin.control.store.keys
    assert isinstance(ring, Ring)
    ring.loaded = False
    refused = await admin.get(f"/admin/v1/{path}", 503)
    assert refused["error"]["message"] == "API keys are not known yet: the store is away."
