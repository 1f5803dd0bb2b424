"""Limits of a tenant and prices through whole routers on one Valkey, as clients and operators meet them."""

from __future__ import annotations

import asyncio
import math
import time
from typing import Any

import aiohttp
import pytest

from tests.support.backends import ScriptedBackend
from tests.support.router import RouterProcess, Site
from tests.support.valkey import Valkey

CHAT = "/v1/chat/completions"
ASK = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
HEAD = """
[plans.default]
[plans.trial]
requests_per_minute = 1000
models = ["m", "chat"]
[tenants.acme]
requests_per_minute = 6
budget_usd_day = 100.0
[models.chat]
targets = [{ model = "m" }]
price_usd_per_mtok = [{ input = 900, output = 900 }, { from = "2020-01-01", input = 1000, output = 100_000 }]
[all]
concurrent = 100
"""
#: 7 prompt tokens and 5 output tokens
COST_USD = (7 * 1000 + 5 * 100_000) / 1e6


def auth(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def admin(router: RouterProcess, path: str, body: object = None) -> Any:
    return await asyncio.to_thread(router.ask_admin, path, body)


async def test_a_tenant_over_two_routers(http: aiohttp.ClientSession) -> None:
    with Valkey() as valkey:
        head = HEAD + f'[store]\nredis = "{valkey.url}"\non_down = "deny"\nwait = 2.0\n'
        async with ScriptedBackend() as backend:
            sites = [Site("a", "a", backend.url, models=["m", "other"])]
            async with RouterProcess(sites, head=head) as one, RouterProcess(sites, head=head) as two:
                asked = {"plan": "trial", "tenant": "acme"}
                keys = [(await admin(one, "/admin/v1/keys", asked | {"name": name}))["key"] for name in ("a", "b")]
                for key in keys:
                    await heard_of(http, two, key)
                began_s, answered, refused = time.monotonic(), 0, []
                for number in range(14):
                    url, model = (one, two)[number % 2].url, ("m", "chat")[number % 3 == 0]
                    async with http.post(url + CHAT, json=ASK | {"model": model}, headers=auth(keys[number % 2])) as r:
                        assert r.status in (200, 429), await r.text()
                        answered += r.status == 200
                        if r.status == 429:
                            refused.append((await r.json())["error"]["message"])
                refilled = math.ceil((time.monotonic() - began_s) / 10)
                assert 6 <= answered <= 6 + refilled
                assert all('The limit is requests_per_minute of tenant "acme".' in words for words in refused)
                await shown(one, answered)
                page = await asyncio.to_thread(metrics, two) + await asyncio.to_thread(metrics, one)
                assert 'router_quota_refusals_total{limit="requests",scope="tenant"}' in page
                (last,) = [r for r in await asyncio.to_thread(one.records) if r["status"] == 429][:1]
                record = await asyncio.to_thread(one.record, last["request_id"])
                assert (record["limit"], record["limit_scope"], record["limit_of"]) == ("requests", "tenant", "acme")
                async with http.post(one.url + CHAT, json=ASK | {"model": "other"}, headers=auth(keys[0])) as r:
                    assert (r.status, (await r.json())["error"]["code"]) == (403, "forbidden")
                async with http.get(one.url + "/v1/models", headers=auth(keys[0])) as r:
                    assert [entry["id"] for entry in (await r.json())["data"]] == ["chat", "m"]


async def heard_of(http: aiohttp.ClientSession, router: RouterProcess, key: str) -> None:
    async with asyncio.timeout(30):
        while True:
            async with http.get(router.url + "/v1/models", headers=auth(key)) as reply:
                if reply.status == 200:
                    return
            await asyncio.sleep(0.05)


async def shown(router: RouterProcess, answered: int) -> None:
    """Until ``quota show acme`` has the price of every answer, whatever name it was asked under."""
    async with asyncio.timeout(20):
        while True:
            tenant, *keys = (await admin(router, "/admin/v1/quotas?tenant=acme"))["data"]
            assert (tenant["account"], tenant["scope"], len(keys)) == ("tenant:acme", "tenant", 2)
            spent = {limit["limit"]: limit["used"] for limit in tenant["limits"]}["budget_day"]
            if spent == pytest.approx(answered * COST_USD, abs=1e-6):
                return
            await asyncio.sleep(0.1)


def metrics(router: RouterProcess) -> str:
    import urllib.request

    with urllib.request.urlopen(router.admin + "/metrics", timeout=30) as page:
        return str(page.read().decode())
