"""A new backend proves itself to a router of two processes, before it gets requests; and an operator asks for it."""

from __future__ import annotations

import asyncio
import json
from typing import Any

from tests.support.cli import router as program
from tests.support.router import RouterProcess, Site
from tests.support.sim_engine import MODEL, Client, until
from tests.support.sim_engine import engine as simulated

TWO = 'workers = 2\n[auth]\nmode = "open"\n[store]\nredis = "embedded"\n'


def answers_of(sim: Client) -> int:
    return sum(sim.server.finished_by_reason.values())


async def test_a_new_backend_proves_itself_once_to_all_workers() -> None:
    async with simulated() as old, simulated() as new:

        def site(name: str, sim: Client, extra: str = "") -> Site:
            return Site("us", name, f"http://127.0.0.1:{sim.server.port}", extra=extra, continues="auto")

        sites = [site("old", old), site("new", new, 'probation = "burn-in"')]
        async with RouterProcess(sites, head=TWO) as r:

            async def backend(name: str) -> Any:
                answer = await asyncio.to_thread(r.ask_admin, "/admin/v1/backends")
                return next(b for b in answer["data"] if b["name"] == name)

            async def proved() -> bool:
                return all([(await backend(name))["continues"]["how"] == "ids" for name in ("us/old", "us/new")])

            async def let_in() -> bool:
                return (await backend("us/new"))["burning_in_s"] is None

            await until(let_in)
            assert (await backend("us/new"))["usable"]
            await until(proved)
            asked = answers_of(new)
            assert asked <= 36 + 2 * 3 + 3, "one worker measured, each asked whether it continues answers"
            assert (await backend("us/new"))["requests_total"] == 0

            done = await asyncio.to_thread(
                program, "regions", "burn-in", "us/new", "--json", env={"ROUTER_ADMIN_URL": r.admin}
            )
            result = json.loads(done.out)
            assert result["report"] is not None, result
            assert done.code == (0 if result["report"]["passed"] else 1), done.err
            assert result["report"]["model"] == MODEL
            assert result["report"]["beside"] == "us/old"
            assert answers_of(new) > asked
