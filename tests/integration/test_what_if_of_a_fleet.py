"""What if, on a router that really ran: simulated engines on sockets, recorded, played again, and asked."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import replace

import aiohttp
import pytest

from sim.profiles import PROFILES
from tests.integration.conftest import OPEN
from tests.support.cli import Done, router
from tests.support.router import RouterProcess, Site
from tests.support.sim_engine import MODEL, engine

#: Slow enough that what the machine adds is little beside it.
PROFILE = replace(PROFILES["demo"], name="plain", intake_s=0.06, prefill_token_s=0.0003, iteration_s=0.01)
RTT_MS = {"us-east": 2.0, "eu-central": 80.0}
REQUESTS = 60
WORDS = ["alpha", "beta", "gamma", "delta", "epsilon", "zeta", "eta", "theta", "iota", "kappa", "lambda", "mu"]


@asynccontextmanager
async def fleet() -> AsyncIterator[RouterProcess]:
    async with AsyncExitStack() as stack:
        sites = []
        for region, rtt_ms in RTT_MS.items():
            client = await stack.enter_async_context(engine(profile=PROFILE, rtt_ms=rtt_ms))
            url = f"http://127.0.0.1:{client.port}"
            sites.append(Site(region, "a", url, models=[MODEL], extra="cost_usd_hour = 2.0"))
        head = 'region = "us-east"\n' + OPEN
        yield await stack.enter_async_context(RouterProcess(sites, head=head))


async def ask(http: aiohttp.ClientSession, r: RouterProcess, number: int) -> int:
    rng = random.Random(number)
    text = " ".join(rng.choices(WORDS, k=rng.randrange(100, 500)))
    body = {"model": MODEL, "stream": True, "max_tokens": rng.randrange(10, 40)}
    body["messages"] = [{"role": "user", "content": text}]
    async with http.post(f"{r.url}/v1/chat/completions", json=body) as reply:
        await reply.read()
        return reply.status


async def asked(r: RouterProcess, *words: str) -> Done:
    return await asyncio.to_thread(router, *words, "--admin-url", r.admin)


async def test_what_really_ran_is_played_again_and_changed(http: aiohttp.ClientSession) -> None:
    async with fleet() as r:
        rng, going = random.Random(5), []
        for number in range(REQUESTS):
            going.append(asyncio.create_task(ask(http, r, number)))
            await asyncio.sleep(rng.expovariate(12.0))
        assert await asyncio.gather(*going) == [200] * REQUESTS

        # How busy this machine is decides how near it comes; that is not what is tested.
        done = await asked(r, "replay", "journal", "--without", "us-east", "--max-error", "5", "--json")
        assert done.code == 0, done.err
        told = json.loads(done.out)
        recorded, replayed, without = told["rows"]
        assert recorded["answered"] == replayed["answered"] == REQUESTS
        assert recorded["ttft_s_p50"] > PROFILE.intake_s
        assert without["requests_by_region"] == {"eu-central": REQUESTS}
        assert without["ttft_s_p50"] > replayed["ttft_s_p50"] + 0.04, "an ocean lies between"
        near = next(e for e in told["engines"] if e["backend"] == "us-east/a")
        assert (near["from"], near["kv_from"]) == ("fitted", "told")
        assert near["kv_tokens"] == pytest.approx(PROFILE.kv_tokens, rel=0.01)

        explained = await asked(r, "explain", "last", "--without", "us-east", "--json")
        assert explained.code == 0, explained.err
        again = json.loads(explained.out)["what_if"]["decision"]
        assert again["backend"] == "eu-central/a"
        shown = await asked(r, "explain", "last", "--without", "us-east")
        assert "without us-east" in shown.out

        plan = await asked(r, "plan", "--target-ttft", "60s", "--most", "3", "--runs", "30", "--force", "--json")
        assert plan.code == 0, plan.err
        found = json.loads(plan.out)["data"][0]
        assert found["kept"]
        assert found["usd_month"] == pytest.approx(730 * 2.0 * found["backends"])

        async with http.get(f"{r.admin}/admin/v1/regions") as reply:
            states = {region["name"]: region["state"] for region in (await reply.json())["data"]}
        assert states == {"us-east": "ok", "eu-central": "ok"}, "nothing of the fleet has changed"
