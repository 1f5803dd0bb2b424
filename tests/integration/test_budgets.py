"""Budgets through whole routers on one Valkey: thresholds told once to a webhook, who spends, and the CSV of a month."""

from __future__ import annotations

import asyncio
import csv
import io
import time
from collections.abc import Callable
from typing import Any

import aiohttp

from tests.support import cli
from tests.support.backends import ScriptedBackend
from tests.support.receiver import SECRET, Receiver
from tests.support.router import RouterProcess, Site
from tests.support.valkey import Valkey

CHAT = "/v1/chat/completions"
ASK = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}
#: 7 prompt tokens and 5 output tokens: one millicent each
COST_USD = 12 * 10 / 1e6
LIMIT_USD = 30.5 * COST_USD
#: of all but half an answer: does not fit once two are paid
LARGE = ASK | {"max_tokens": 350}
HEAD = """
[plans.default]
[plans.trial]
budget_usd_month = {limit}
show_cost = true
[prices]
default = {{ input = 10, output = 10 }}
[alerts]
webhook = "{hook}"
secret_env = "MERIDIAN_HOOK"
[store]
redis = "{redis}"
wait = 2.0
"""


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def admin(router: RouterProcess, path: str, body: object = None) -> Any:
    return await asyncio.to_thread(router.ask_admin, path, body)


async def test_two_routers_tell_each_threshold_once(http: aiohttp.ClientSession) -> None:
    with Valkey() as valkey, Receiver() as receiver:
        head = HEAD.format(limit=LIMIT_USD, hook=receiver.url, redis=valkey.url)
        env = {"MERIDIAN_HOOK": SECRET}
        async with ScriptedBackend() as backend:
            sites = [Site("a", "a", backend.url, models=["m"])]
            async with (
                RouterProcess(sites, head=head, env=env) as one,
                RouterProcess(sites, head=head, env=env) as two,
            ):
                key = await admin(one, "/admin/v1/keys", {"name": "alice", "plan": "trial", "tenant": "acme"})
                headers = {"authorization": f"Bearer {key['key']}"}
                await heard_of(http, two, headers)
                statuses = []
                for number in range(34):
                    url = (one, two)[number % 2].url + CHAT
                    async with http.post(url, json=LARGE if number in (2, 3) else ASK, headers=headers) as reply:
                        statuses.append(reply.status)
                        if reply.status == 200:
                            assert reply.headers["x-router-cost"] == f"{COST_USD:.6f}"
                answered = statuses.count(200)
                assert 28 <= answered <= 30, statuses  # above 90 %, so the refusals announce 100 %
                assert statuses[2:4] == [429, 429]
                assert statuses[-1] == 429
                await until(lambda: len(receiver.got) >= 3)
                await shows_who_spends(one, answered)
                await shows_the_history(two)
                pages = [await asyncio.to_thread(metrics, router) for router in (one, two)]
                for percent in (50, 80, 100):
                    series = f'router_budget_thresholds_total{{scope="key",period="month",percent="{percent}"}} 1\n'
                    assert sum(series in page for page in pages) == 1
                assert any('router_cost_usd_total{model="m",region="' in page for page in pages)
            assert sorted(document["data"]["percent"] for document in receiver.got) == [50, 80, 100]
            for data in (document["data"] for document in receiver.got):
                assert data["spent_usd"] >= LIMIT_USD * min(data["percent"], 90) / 100
            assert {document["data"]["name"] for document in receiver.got} == {"alice"}
            assert not receiver.bad


async def heard_of(http: aiohttp.ClientSession, router: RouterProcess, headers: dict[str, str]) -> None:
    async with asyncio.timeout(30):
        while True:
            async with http.get(router.url + "/v1/models", headers=headers) as reply:
                if reply.status == 200:
                    return
            await asyncio.sleep(0.05)


async def shows_who_spends(router: RouterProcess, answered: int) -> None:
    """When the other router has written its part."""
    spent = answered * COST_USD
    async with asyncio.timeout(30):
        while True:
            found = await admin(router, "/admin/v1/spending?by=tenant,key")
            if abs(found["total"]["cost_usd"] - spent) < 1e-9:
                break
            await asyncio.sleep(0.1)
    assert [(row["tenant"], row["key_name"], row["requests"]) for row in found["data"]] == [("acme", "alice", answered)]
    env = {"ROUTER_ADMIN_URL": router.admin}
    top = await asyncio.to_thread(cli.router, "quota", "top", env=env)
    assert "alice" in top.out
    assert "acme" in top.out
    month = time.strftime("%Y-%m", time.gmtime())
    done = await asyncio.to_thread(cli.router, "quota", "export", "--month", month, "--csv", env=env)
    head, row = csv.reader(io.StringIO(done.out))
    assert head == ["month", "tenant", "model", "requests", "prompt_tokens", "output_tokens", "cost_usd"]
    assert row == [month, "acme", "m", str(answered), str(7 * answered), str(5 * answered), f"{spent:.6f}"]
    unknown = await asyncio.to_thread(cli.router, "quota", "show", "acne", env=env)
    assert unknown.code == 2
    assert 'did you mean "acme"?' in unknown.err
    (record,) = [r for r in await asyncio.to_thread(router.records) if r["status"] == 200][:1]
    assert (await asyncio.to_thread(router.record, record["request_id"]))["cost_usd"] == COST_USD
    (quota,) = (await admin(router, "/admin/v1/quotas?key=" + found["data"][0]["key"]))["data"]
    assert quota["limits"][0]["forecast"] > quota["limits"][0]["used"] > 0


async def shows_the_history(router: RouterProcess) -> None:
    async with asyncio.timeout(30):
        while True:
            events = (await admin(router, "/admin/v1/events?kind=budget"))["data"]
            if len(events) >= 3:
                break
            await asyncio.sleep(0.1)
    assert sorted(event["to"] for event in events) == ["100 %", "50 %", "80 %"]


def metrics(router: RouterProcess) -> str:
    import urllib.request

    with urllib.request.urlopen(router.admin + "/metrics", timeout=30) as page:
        return str(page.read().decode())
