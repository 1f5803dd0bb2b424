"""A region is taken away on notice: its streams go on elsewhere before it dies, and every answer is the same as ever."""

from __future__ import annotations

import asyncio
import time

import aiohttp
import orjson

from router.tasks import stop
from sim.fleet import SimFleet
from sim.geography import RegionPlan
from tests.conformance.conftest import MODEL, sites_of
from tests.support.router import RouterProcess

HEAD = 'region = "us-east"\n[auth]\nmode = "open"\n'
NOTICE_S = 4.0
STREAMS = 20
REGIONS = (RegionPlan("us-east", "Washington DC", "us", 1), RegionPlan("eu-central", "Frankfurt", "eu", 1))


def _text(body: bytes) -> str:
    events = [orjson.loads(line[6:]) for line in body.split(b"\n\n") if line.startswith(b"data: {")]
    return "".join(c["delta"].get("content") or "" for event in events for c in event.get("choices", ()))


async def test_every_stream_survives_and_says_what_it_would_have_said() -> None:
    async def ask(number: int, tokens: int) -> tuple[str, str, bytes]:
        """The region that began, the id, and the answer."""
        body = {"model": MODEL, "stream": True, "temperature": 0, "max_tokens": tokens}
        body["messages"] = [{"role": "user", "content": f"{number} tell me about rivers"}]
        async with http.post(f"{r.url}/v1/chat/completions", json=body) as answer:
            return answer.headers["x-router-region"], answer.headers["x-request-id"], await answer.read()

    def tokens(number: int) -> int:
        return 60 if number % 3 == 0 else 300  # a third ends by itself before its turn

    async def known() -> bool:
        regions = (await asyncio.to_thread(r.ask_admin, "/admin/v1/regions"))["data"]
        backends = [b for region in regions for b in region["backends"]]
        return all(b["continues"] is not None and b["continues"]["how"] in ("text", "ids") for b in backends)

    with SimFleet(REGIONS, model=MODEL) as fleet, RouterProcess(sites_of(fleet), head=HEAD) as r:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=60)) as http, asyncio.timeout(90):
            while not await known():  # noqa: ASYNC110
                await asyncio.sleep(0.1)
            east = fleet.backend("us-east/a")
            await asyncio.to_thread(r.ask_admin, "/admin/v1/regions/eu-central/drain", {})
            asking = [asyncio.create_task(ask(n, tokens(n))) for n in range(STREAMS)]
            try:
                while (await asyncio.to_thread(east.state))["running"] < STREAMS:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
                await asyncio.to_thread(r.ask_admin, "/admin/v1/regions/eu-central/resume", {})
                given_s = time.monotonic()
                await asyncio.to_thread(r.ask_admin, "/admin/v1/regions/us-east/notice", {"in_s": NOTICE_S})
                assert (await ask(1000, 5))[0] == "eu-central", "nothing new goes there"
                await asyncio.sleep(given_s + NOTICE_S - time.monotonic())
                await asyncio.to_thread(east.kill)
                answers = await asyncio.gather(*asking)
            finally:
                await stop(*asking)
            undisturbed = await asyncio.gather(*(ask(n, tokens(n)) for n in range(0, STREAMS, 5)))
            records = [await asyncio.to_thread(r.record, id_) for _, id_, _ in answers]
    for region, _, body in answers:
        assert region == "us-east"
        assert body.count(b"data: [DONE]\n\n") == 1
        assert b"error" not in body
    assert [_text(body) for _, _, body in answers[::5]] == [_text(body) for _, _, body in undisturbed]
    outcomes = [[attempt["outcome"] for attempt in record["attempts"]] for record in records]
    assert outcomes.count(["moved", "ok"]) >= STREAMS // 2, outcomes
    assert outcomes.count(["ok"]) >= STREAMS // 6, "those that ended before their turn"
    assert all(found in (["ok"], ["moved", "ok"]) for found in outcomes), "none was there when the region died"
