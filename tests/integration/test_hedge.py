"""A frozen engine is not waited for: its late requests are tried at a second one before its probes fail."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp

from sim.fleet import SimFleet
from sim.geography import RegionPlan
from tests.integration.conftest import OPEN
from tests.support.router import RouterProcess, Site

MODEL = "llama-3.1-8b"
HEAD = (
    'policy = "round_robin"\n' + OPEN + "[hedge]\nenabled = true\nbudget = 50.0\nfloor = 0.1\n"
    "[probes]\ninterval = 60.0\ntimeout = 30.0\n"
)
ASK: dict[str, Any] = {
    "model": MODEL,
    "messages": [{"role": "user", "content": "hi"}],
    "stream": True,
    "max_tokens": 8,
}


async def ask(r: RouterProcess, http: aiohttp.ClientSession) -> tuple[str, str]:
    """The request's id, and the backend that answered."""
    async with http.post(r.url + "/v1/chat/completions", json=ASK) as reply:
        assert reply.status == 200
        assert (await reply.read()).endswith(b"data: [DONE]\n\n")
        return reply.headers["x-request-id"], reply.headers["x-router-backend"]


async def test_requests_at_a_frozen_engine_are_answered_by_another(http: aiohttp.ClientSession) -> None:
    """Its probes, a minute apart, cannot help, and neither can a time-out of a minute."""
    region = RegionPlan("us-east", "Washington DC", "us", backends=3)
    with SimFleet([region], model=MODEL) as fleet:
        sites = [Site("us-east", b.name.split("/")[1], b.url) for b in fleet.backends]
        with RouterProcess(sites, head=HEAD) as r:
            for _ in range(9):
                await ask(r, http)
            frozen = fleet.backends[0]
            frozen.stop()
            try:
                async with asyncio.timeout(30):
                    answers = [await ask(r, http) for _ in range(9)]
            finally:
                frozen.cont()
            assert frozen.name not in {backend for _, backend in answers}
            tries = [(await asyncio.to_thread(r.record, request_id))["attempts"] for request_id, _ in answers]
            outcomes = [
                {(a["backend"] == frozen.name, a["kind"]): a["outcome"] for a in attempts} for attempts in tries
            ]
            # Another engine can be late, too, on a machine that stalls, and the hedge then goes to the frozen one.
            hedged = [of_request for of_request in outcomes if (True, "first") in of_request]
            assert hedged
            for of_request in hedged:
                assert of_request == {(True, "first"): "superseded", (False, "hedge"): "ok"}
            async with http.get(r.admin + "/metrics") as page:
                assert 'kind="hedge"}' in await page.text()
