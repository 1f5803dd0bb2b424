"""Keys that expire and secrets that replace each other, at a real router that is never restarted."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from typing import Any

import aiohttp
import pytest

from tests.support.backends import ScriptedBackend
from tests.support.router import RouterProcess, Site
from tests.support.valkey import Valkey

PLANS = '[auth]\nmode = "keys"\n[plans.few]\nrequests_per_minute = 6\n'
HEADS = {"memory": PLANS, "workers": f'workers = 2\n[store]\nredis = "embedded"\n{PLANS}'}
ASK = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


async def ask(r: RouterProcess, secret: str) -> tuple[int, str]:
    """Over a connection of its own, which any worker may get. The status, and why it is refused."""
    async with aiohttp.ClientSession() as fresh:
        async with fresh.post(
            f"{r.url}/v1/chat/completions", json=ASK, headers={"authorization": f"Bearer {secret}"}
        ) as reply:
            document = await reply.json()
            return reply.status, document["error"]["message"] if reply.status >= 400 else ""


async def admin(r: RouterProcess, path: str, body: object = None, method: str | None = None) -> Any:
    return await asyncio.to_thread(r.ask_admin, f"/admin/v1/keys{path}", body, method=method)


async def until_refused(r: RouterProcess, secret: str, why: str) -> None:
    async with asyncio.timeout(20):
        while (answer := await ask(r, secret))[0] != 401:
            assert answer[0] in (200, 429)
            await asyncio.sleep(0.05)
    assert why in answer[1]


@pytest.mark.parametrize("head", HEADS.values(), ids=HEADS)
async def test_keys_expire_and_change_their_secrets_while_requests_come(head: str) -> None:
    async with ScriptedBackend() as b, RouterProcess([Site("a", "a", b.url, models=["m"])], head=head) as r:
        short = await admin(r, "", {"name": "short", "expires": "3s"})
        long = await admin(r, "", {"name": "long", "plan": "few", "expires": "30d"})
        assert (await ask(r, short["key"]))[0] == 200

        rotated = await admin(r, f"/{long['id']}/rotate", {"overlap": "1h"})
        began = time.monotonic()
        secrets = (long["key"], rotated["key"])
        statuses = Counter([(await ask(r, secrets[n % 2]))[0] for n in range(24)])
        refilled = int((time.monotonic() - began) / 10)
        assert set(statuses) <= {200, 429}
        assert 6 <= statuses[200] <= 7 + refilled, "two secrets have one limit"

        await until_refused(r, short["key"], "This API key expired at 20")
        assert {k["name"]: k["expired"] for k in (await admin(r, ""))["data"]} == {"short": True, "long": False}
        await admin(r, f"/{short['id']}", {"expires": "1h"}, method="PATCH")
        assert {(await ask(r, short["key"]))[0] for _ in range(6)} == {200}, "and it may come back"

        ended = await admin(r, f"/{long['id']}/rotate", {"overlap": "1s"})
        await until_refused(r, rotated["key"], "was given a new secret; the old one ended at 20")
        assert (await ask(r, ended["key"]))[0] in (200, 429)
        await admin(r, f"/{long['id']}/rotate", {"overlap": 0})
        for secret in (long["key"], rotated["key"], ended["key"]):
            assert {(await ask(r, secret))[0] for _ in range(4)} == {401}


async def test_a_key_works_at_every_router_as_soon_as_it_is_made() -> None:
    """Also a new secret: a request may overtake the news of them."""
    with Valkey() as valkey:
        head = f'[store]\nredis = "{valkey.url}"\n{PLANS}'
        async with ScriptedBackend() as b:
            sites = [Site("a", "a", b.url, models=["m"])]
            async with RouterProcess(sites, head=head) as one, RouterProcess(sites, head=head) as two:
                for number in range(20):
                    made = await admin(one, "", {"name": f"k{number}"})
                    asked = [await models(two, made["key"]), (await ask(two, made["key"]))[0]]
                    rotated = await admin(one, f"/{made['id']}/rotate", {"overlap": 0})
                    assert [*asked, (await ask(two, rotated["key"]))[0]] == [200] * 3, number
                assert await models(two, "mr-wrong") == (await ask(two, "mr-wrong"))[0] == 401


async def models(r: RouterProcess, secret: str) -> int:
    async with aiohttp.ClientSession() as fresh:
        async with fresh.get(f"{r.url}/v1/models", headers={"authorization": f"Bearer {secret}"}) as reply:
            return reply.status
