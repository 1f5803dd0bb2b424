"""Who spends, and whose limits can be asked for."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from router import clock
from router.core.limits import NOTHING, Units
from router.store.base import Holder, LimitState
from tests.support.control import Admin, record

BUDGETS = """
[plans.rich]
budget_usd_month = 100.0
[tenants.default]
requests_per_minute = 100
"""


async def reload(admin: Admin, more: str) -> None:
    admin.path.write_text(admin.path.read_text() + more)
    await admin.post("/admin/v1/config/reload")


def answered(admin: Admin, number: int, **changes: Any) -> None:
    made = record(number, tenant="acme", key_id="key_1", plan="rich", prompt_tokens=10, cost_usd=0.5)
    for name, value in changes.items():
        setattr(made, name, value)
    admin.control.telemetry.request_done(made)


async def test_who_spends(admin: Admin) -> None:
    key = await admin.post("/admin/v1/keys", {"name": "ci", "tenant": "acme"}, 201)
    answered(admin, 1, key_id=key["id"])
    answered(admin, 2, served_model="n", cost_usd=1.5)
    answered(admin, 3, tenant="bob", key_id="key_2", cost_usd=2.0)
    answered(admin, 4, tenant="bob", status=429, cause="refused", error="quota_exhausted", cost_usd=None)
    found = await admin.get("/admin/v1/spending?by=tenant")
    now = datetime.now(UTC)
    assert (found["period"], found["of"]) == ("month", f"{now:%Y-%m}")
    assert [(row["tenant"], row["requests"], row["cost_usd"], row["share"]) for row in found["data"]] == [
        ("acme", 2, 2.0, 0.5),
        ("bob", 1, 2.0, 0.5),
    ]
    assert found["total"] == {
        "requests": 3,
        "prompt_tokens": 30,
        "output_tokens": 60,
        "cost_usd": 4.0,
        "share": 1.0,
    }
    today = await admin.get(f"/admin/v1/spending?period=day&of={now:%Y-%m-%d}&by=key,model")
    assert (today["data"][-1]["key"], today["data"][-1]["key_name"], today["data"][-1]["model"]) == (
        key["id"],
        "ci",
        "m",
    )
    assert (await admin.get("/admin/v1/spending?of=2020-01"))["data"] == []
    for query, text in (("of=2026-13", "must be a month"), ("period=year", "period"), ("by=tenat", "did you mean")):
        wrong = await admin.get(f"/admin/v1/spending?{query}", 400)
        assert text in wrong["error"]["message"]
        assert "1970" not in wrong["error"]["message"]


async def test_a_budget_has_a_forecast(admin: Admin) -> None:
    await reload(admin, BUDGETS)
    key = await admin.post("/admin/v1/keys", {"name": "ci", "plan": "rich"}, 201)
    for number in range(3):
        answered(admin, number, key_id=key["id"])
    (quota, tenant) = (await admin.get(f"/admin/v1/quotas?key={key['id']}"))["data"]
    (budget,) = quota["limits"]
    assert budget["pace_usd_per_day"] == 1.5 * 24, "an hour at least"
    assert budget["forecast"] == budget["used"] + 1.5 / 3600 * budget["reset_s"]
    assert "forecast" not in tenant["limits"][0]


async def test_a_tenant_that_nobody_is_cannot_be_asked_for(admin: Admin) -> None:
    await reload(admin, BUDGETS)
    await admin.post("/admin/v1/keys", {"name": "ci", "tenant": "acme"}, 201)
    assert (await admin.get("/admin/v1/quotas?tenant=acme"))["data"][0]["account"] == "tenant:acme"
    assert (await admin.get("/admin/v1/quotas?account=tenant:acme"))["data"][0]["account"] == "tenant:acme"
    unknown = await admin.get("/admin/v1/quotas?tenant=acne", 404)
    assert 'did you mean "acme"?' in unknown["error"]["message"]
    unknown = await admin.get("/admin/v1/quotas?account=tenant:acne", 404)
    assert 'did you mean "tenant:acme"?' in unknown["error"]["message"]
    await admin.ask("DELETE", "/admin/v1/quotas/tenant:acne", 404)
    unknown = await admin.ask("DELETE", "/admin/v1/quotas/acme", 404)
    assert 'did you mean "tenant:acme"?' in unknown["error"]["message"]
    await admin.ask("DELETE", "/admin/v1/quotas/tenant:acme", 200)


async def test_the_limits_of_tenants_without_a_table_are_nobody_s(admin: Admin) -> None:
    await reload(admin, BUDGETS)
    unknown = await admin.get("/admin/v1/quotas?tenant=default", 404)
    assert "each tenant without a table" in unknown["error"]["message"]
    await admin.get("/admin/v1/quotas?account=tenant:default", 404)
    await admin.ask("DELETE", "/admin/v1/quotas/tenant:default", 404)
    await admin.post("/admin/v1/keys", {"name": "ci", "tenant": "default"}, 201)
    assert (await admin.get("/admin/v1/quotas?tenant=default"))["data"][0]["account"] == "tenant:default"


async def test_accounts_of_jwts_are_shown_and_reset(admin: Admin) -> None:
    jwt = '[jwt]\njwks = "http://127.0.0.1:1/jwks"\nissuer = "https://i.test"\naudience = ["a"]\n'
    await reload(admin, BUDGETS + jwt)
    answered(admin, 1, tenant="org", key_id="jwt:org", arrival_s=clock.wall_s())
    shown = {quota["account"]: quota for quota in (await admin.get("/admin/v1/quotas"))["data"]}
    assert (shown["jwt:org"]["plan"], shown["jwt:org"]["last_minute"]["requests"]) == ("rich", 1)
    assert [q["account"] for q in (await admin.get("/admin/v1/quotas?tenant=org"))["data"]] == ["tenant:org", "jwt:org"]
    assert (await admin.ask("DELETE", "/admin/v1/quotas/jwt:org", 200))["account"] == "jwt:org"


async def test_all_plans_of_the_jwts_of_a_tenant_are_told(admin: Admin) -> None:
    jwt = '[jwt]\njwks = "http://127.0.0.1:1/jwks"\nissuer = "https://i.test"\naudience = ["a"]\n'
    await reload(admin, BUDGETS + jwt)
    for number, plan in enumerate(("rich", "default", "rich", "gold")):
        answered(admin, number, tenant="org", key_id="jwt:org", plan=plan)
        await admin.get("/admin/v1/spending")  # the books are written
    key = await admin.post("/admin/v1/keys", {"name": "ci", "plan": "gold", "tenant": "org"}, 201)
    for query in ("", "?account=jwt:org", "?tenant=org"):
        shown = {quota["account"]: quota for quota in (await admin.get(f"/admin/v1/quotas{query}"))["data"]}
        assert shown["jwt:org"]["plans"] == ["default", "gold", "rich"]
        assert shown["jwt:org"]["plan"] in shown["jwt:org"]["plans"]
    assert (shown[key["id"]]["plans"], shown["tenant:org"]["plans"]) == (["gold"], [])


async def test_a_key_whose_plan_is_gone_has_no_limits_to_show(admin: Admin) -> None:
    before = admin.path.read_text()
    await reload(admin, BUDGETS)
    key = await admin.post("/admin/v1/keys", {"name": "ci", "plan": "rich"}, 201)
    admin.path.write_text(before)
    await admin.post("/admin/v1/config/reload")
    (quota,) = (await admin.get(f"/admin/v1/quotas?key={key['id']}"))["data"]
    assert (quota["plan_missing"], quota["plan"], quota["limits"]) == (True, "rich", [])


async def test_all_accounts_are_asked_for_at_once(admin: Admin, monkeypatch: pytest.MonkeyPatch) -> None:
    """A store is far at times: one after the other would take a round trip for each key."""
    for name in ("a", "b", "c"):
        await admin.post("/admin/v1/keys", {"name": name}, 201)
    look, asked, all_asked = admin.control.store.quota, list[str](), asyncio.Event()

    async def answers_when_all_are_asked(holder: Holder, elsewhere: Units = NOTHING) -> list[LimitState]:
        asked.append(holder.id)
        if len(asked) == 3:
            all_asked.set()
        await all_asked.wait()
        return await look(holder, elsewhere)

    monkeypatch.setattr(admin.control.store, "quota", answers_when_all_are_asked)
    async with asyncio.timeout(30):
        found = await admin.get("/admin/v1/quotas")
    assert sorted(quota["name"] for quota in found["data"]) == ["a", "b", "c"]
