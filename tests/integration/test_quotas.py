"""Keys and limits through the whole router, on a real Valkey that is shared, stopped, frozen and killed."""

from __future__ import annotations

import asyncio
import math
import time

import aiohttp
import pytest

from tests.support.backends import Call, ScriptedBackend, answer, say_hello
from tests.support.router import RouterProcess, Site
from tests.support.stopwatch import Stopwatch
from tests.support.valkey import Valkey

CHAT = "/v1/chat/completions"
ASK = {"model": "m", "max_tokens": 5, "messages": [{"role": "user", "content": "hi"}]}

PLANS = """
[plans.default]
[plans.few]
requests_per_minute = 20
[plans.tokens]
tokens_per_minute = 1000
[plans.narrow]
concurrent = 3
"""


def auth(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}"}


async def knows(http: aiohttp.ClientSession, r: RouterProcess, key: str) -> None:
    """Wait until a router has heard of a key that another has made. Costs the key nothing."""
    async with asyncio.timeout(30):
        while True:
            async with http.get(r.url + "/v1/models", headers=auth(key)) as reply:
                if reply.status == 200:
                    return
                assert reply.status == 401
            await asyncio.sleep(0.05)


async def used_up(http: aiohttp.ClientSession, urls: list[str], key: str, count: int) -> None:
    """Ask ``count`` times for a key that has 20 requests a minute: it gets them, and what refills meanwhile.

    A call that meets a stall of the machine is refused with 503 and may have used up a request: such calls are made
    again, so that what is refused in the end is refused by the limit.
    """
    began_s = time.monotonic()
    granted = stalled = 0
    async with asyncio.timeout(60):
        while count:
            statuses = await many(http, urls, key, count)
            assert set(statuses) <= {200, 429, 503}
            granted += statuses.count(200)
            count = statuses.count(503)
            stalled += count
    refilled = math.ceil((time.monotonic() - began_s) / 3)
    assert 20 - stalled <= granted <= 20 + refilled, (granted, stalled, refilled)


async def many(http: aiohttp.ClientSession, urls: list[str], key: str, count: int) -> list[int]:
    async def one(i: int) -> int:
        async with http.post(urls[i % len(urls)] + CHAT, json=ASK, headers=auth(key)) as reply:
            await reply.read()
            if reply.status == 429:
                assert int(reply.headers["retry-after"]) >= 1
                assert int(reply.headers["retry-after-ms"]) >= 1
            return reply.status

    return await asyncio.gather(*[one(i) for i in range(count)])


async def test_no_key_is_locked_out_by_one_long_answer(http: aiohttp.ClientSession) -> None:
    """What an answer without a maximum may run to is guessed from the last ones. A guess above the whole limit would
    refuse every further request, and so nothing would ever be learned that makes it smaller."""

    async def answer_at_length(call: Call) -> None:
        await call.send(answer(tokens=700 if len(backend.calls) == 1 else 5))

    ask = {name: value for name, value in ASK.items() if name != "max_tokens"}
    async with ScriptedBackend(answer_at_length) as backend:
        async with RouterProcess([Site("a", "a", backend.url)], head=PLANS) as r:
            key = await asyncio.to_thread(r.create_key, "tokens", "tokens")
            for _ in range(3):
                async with http.post(r.url + CHAT, json=ask, headers=auth(key)) as reply:
                    assert reply.status == 200, await reply.text()


async def test_two_routers_share_keys_and_limits(http: aiohttp.ClientSession) -> None:
    with Valkey() as valkey:
        head = PLANS + f'[store]\nredis = "{valkey.url}"\n'
        async with ScriptedBackend() as b:
            sites = [Site("a", "a", b.url)]
            head += 'on_down = "deny"\n'  # on a machine that stalls, a share would be admitted on top
            async with RouterProcess(sites, head=head) as r1, RouterProcess(sites, head=head) as r2:
                key = await asyncio.to_thread(r1.create_key, "few", "few")
                await knows(http, r2, key)
                await used_up(http, [r1.url, r2.url], key, 60)
                keys = (await asyncio.to_thread(r2.ask_admin, "/admin/v1/keys"))["data"]
                assert [k["name"] for k in keys] == ["few"]
                await asyncio.to_thread(r2.ask_admin, f"/admin/v1/keys/{keys[0]['id']}", method="DELETE")
                async with asyncio.timeout(30):
                    while (await many(http, [r1.url], key, 1))[0] != 401:  # noqa: ASYNC110
                        await asyncio.sleep(0.1)
        assert b"mr-" not in valkey_dump(valkey), "a secret is in the store"


def valkey_dump(valkey: Valkey) -> bytes:
    """Every value of every key, as Redis would hand it to a thief."""
    import redis

    client = redis.Redis.from_url(valkey.url)
    try:
        out = b""
        for name in client.scan_iter(count=1000):
            out += name
            kind = client.type(name)
            if kind == b"hash":
                out += b"".join(k + v for k, v in client.hgetall(name).items())
            elif kind == b"string":
                out += client.get(name) or b""
        return out
    finally:
        client.close()


async def test_tokens_are_settled_to_what_was_used(http: aiohttp.ClientSession) -> None:
    with Valkey() as valkey:
        async with ScriptedBackend() as b:
            head = PLANS + f'[store]\nredis = "{valkey.url}"\n'
            async with RouterProcess([Site("a", "a", b.url)], head=head) as r:
                key = await asyncio.to_thread(r.create_key, "tokens", "tokens")
                big = {**ASK, "max_tokens": 600}
                async with asyncio.timeout(20):  # 600 reserved each, 12 used each: it would take 36 s to refill
                    answered = 0
                    while answered < 3:
                        async with http.post(r.url + CHAT, json=big, headers=auth(key)) as reply:
                            assert reply.headers["x-ratelimit-limit-tokens"] == "1000"
                            answered += reply.status == 200
                        await asyncio.sleep(0.05)
                async with http.post(
                    r.url + CHAT, json={**ASK, "max_tokens": 5000, "n": 3}, headers=auth(key)
                ) as reply:
                    pass
                quotas = (await asyncio.to_thread(r.ask_admin, "/admin/v1/quotas"))["data"]
                tokens = next(limit for limit in quotas[0]["limits"] if limit["limit"] == "tokens")
                assert tokens["used"] < 600, "three times 600 were reserved, and a slice may be held in advance"


async def test_concurrency_is_held_and_given_back(http: aiohttp.ClientSession) -> None:
    release = asyncio.Event()

    async def hold(call: Call) -> None:
        await release.wait()
        await say_hello(call)

    with Valkey() as valkey:
        async with ScriptedBackend(hold) as b:
            head = PLANS + f'[store]\nredis = "{valkey.url}"\non_down = "deny"\n'
            async with RouterProcess([Site("a", "a", b.url)], head=head) as r:
                key = await asyncio.to_thread(r.create_key, "narrow", "narrow")

                held: list[asyncio.Task[list[int]]] = []
                async with asyncio.timeout(60):
                    while len(held) < 3:  # who met a stall of the machine, and 503, asks again
                        asking = asyncio.get_running_loop().create_task(many(http, [r.url], key, 1))
                        while not asking.done() and len(b.calls) == len(held):  # noqa: ASYNC110
                            await asyncio.sleep(0.01)
                        if not asking.done():
                            held.append(asking)
                    refused = [status for _ in range(5) for status in await many(http, [r.url], key, 1)]
                    assert set(refused) <= {429, 503}
                    assert 429 in refused
                    assert len(b.calls) == 3
                    release.set()
                    assert [status for task in held for status in await task] == [200] * 3
                    while await many(http, [r.url], key, 3) != [200] * 3:  # noqa: ASYNC110 - given back beside the answers
                        await asyncio.sleep(0.1)


@pytest.mark.parametrize("how", ["pause", "kill"])
async def test_no_request_waits_for_a_dead_store(http: aiohttp.ClientSession, how: str) -> None:
    with Valkey() as valkey:
        async with ScriptedBackend() as b:
            head = PLANS.replace("= 20", "= 100000") + f'[store]\nredis = "{valkey.url}"\non_down = "share"\n'
            async with RouterProcess([Site("a", "a", b.url)], head=head) as r:
                r.errors_allowed = True
                key = await asyncio.to_thread(r.create_key, "few", "few")
                assert set(await many(http, [r.url], key, 20)) == {200}
                getattr(valkey, how)()
                slowest = 0.0
                for _ in range(60):
                    watch = Stopwatch(r.process.pid)
                    async with http.post(r.url + CHAT, json=ASK, headers=auth(key)) as reply:
                        assert reply.status == 200, await reply.text()
                        await reply.read()
                    slowest = max(slowest, watch.elapsed_s)
                    await asyncio.sleep(0.01)
                assert slowest < 2.0, "100 ms, and what a busy machine adds; a store that is away answers never"
                async with http.get(r.admin + "/admin/v1/status") as reply:
                    assert (await reply.json())["store"]["state"] == "down"
                if how == "pause":
                    valkey.resume()
                else:
                    valkey.restart()
                async with asyncio.timeout(30):
                    state = "down"
                    while state != "up":
                        async with http.get(r.admin + "/admin/v1/status") as reply:
                            state = (await reply.json())["store"]["state"]
                        await asyncio.sleep(0.1)


async def test_embedded_store(http: aiohttp.ClientSession) -> None:
    async with ScriptedBackend() as b:
        # "deny": a machine that stalls for longer than the store's deadline must not look like an oversale
        head = PLANS + '[store]\nredis = "embedded"\non_down = "deny"\n'
        async with RouterProcess([Site("a", "a", b.url)], head=head) as r:
            key = await asyncio.to_thread(r.create_key, "few", "few")
            await used_up(http, [r.url], key, 40)
            status = await asyncio.to_thread(r.ask_admin, "/admin/v1/status")
            assert status["store"]["kind"] == "embedded"


async def test_without_a_shared_store_the_same_contract_holds(http: aiohttp.ClientSession) -> None:
    async with ScriptedBackend() as b, RouterProcess([Site("a", "a", b.url)], head=PLANS) as r:
        key = await asyncio.to_thread(r.create_key, "few", "few")
        await used_up(http, [r.url], key, 40)
