"""Half an hour far from the store: it stays up, the router stays ready, and no request is refused (``make soak``)."""

from __future__ import annotations

import asyncio
import time

import aiohttp
import pytest

from sim.distance import Distance
from tests.support.backends import ScriptedBackend
from tests.support.router import RouterProcess, Site
from tests.support.valkey import Valkey

SECONDS = 1800
PLAN = "requests_per_minute = 6000\ntokens_per_minute = 600000\nconcurrent = 50\nbudget_usd_month = 1000.0"
CHAT = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


@pytest.mark.soak
@pytest.mark.timeout(2 * SECONDS)
@pytest.mark.parametrize(("rtt_s", "jitter_s"), [(0.166, 0.05), (0.3, 0.09)])
async def test_a_far_store_stays_up(rtt_s: float, jitter_s: float) -> None:
    with Valkey(unix=False) as valkey:
        async with ScriptedBackend() as b, Distance(valkey.port, rtt_s, jitter_s) as line:
            head = f'[store]\nredis = "{line.url}"\n[auth]\nmode = "keys"\n[plans.default]\n{PLAN}\n'
            async with RouterProcess([Site("us", "a", b.url, models=["m"])], head=head) as r:
                key = await asyncio.to_thread(r.create_key)
                auth, end_s = {"authorization": f"Bearer {key}"}, time.monotonic() + SECONDS
                async with aiohttp.ClientSession(headers=auth) as client:
                    while time.monotonic() < end_s:
                        async with client.get(f"{r.url}/readyz") as ready:
                            assert ready.status == 200, await ready.text()
                        async with client.post(f"{r.url}/v1/chat/completions", json=CHAT) as answer:
                            assert answer.status == 200, await answer.text()
                        status = await asyncio.to_thread(r.ask_admin, "/admin/v1/status")
                        assert status["store"]["state"] == "up"
                        await asyncio.sleep(1.0)
                assert "is away" not in r.log.read_text()
