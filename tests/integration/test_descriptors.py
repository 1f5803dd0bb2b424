"""A router with few file descriptors: clients wait, nobody is refused, and no backend is blamed."""

from __future__ import annotations

import asyncio

import orjson

from tests.integration.conftest import OPEN
from tests.support.backends import Call, ScriptedBackend, answer
from tests.support.router import RouterProcess, Site

LIMIT = 128
FEW = f"import resource, runpy; resource.setrlimit(resource.RLIMIT_NOFILE, ({LIMIT}, {LIMIT})); "
BODY = orjson.dumps({"model": "m", "messages": []})
REQUEST = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY)


async def slow(call: Call) -> None:
    await asyncio.sleep(0.2)
    await call.send(answer())


async def test_more_clients_than_descriptors_are_all_served_in_time() -> None:
    command = ("-c", FEW + "runpy.run_module('router', run_name='__main__')")
    async with ScriptedBackend(slow) as b, ScriptedBackend(slow) as c:
        sites = [Site("near", "a", b.url), Site("far", "a", c.url)]
        async with RouterProcess(sites, head=OPEN, command=command) as r:
            everybody, answered = asyncio.Event(), 0

            async def count() -> bytes:
                nonlocal answered
                reader, writer = await asyncio.open_connection(*r.listen.split(":"))
                writer.write(REQUEST)
                head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 60)
                answered += 1
                await everybody.wait()
                writer.close()
                return head.partition(b"\r\n")[0]

            running = [asyncio.create_task(count()) for _ in range(LIMIT * 2)]
            for _ in range(600):
                if answered == len(running) or any(task.done() for task in running):
                    break
                await asyncio.sleep(0.05)
            everybody.set()
            statuses = await asyncio.gather(*running)
            assert all(b" 200 " in status for status in statuses), statuses
            log = r.log.read_text()
            assert "clients have to wait" in log
            assert log.count("clients have to wait") == 1, "said once"
            regions = r.ask_admin("/admin/v1/regions")["data"]
            assert {backend["state"] for region in regions for backend in region["backends"]} == {"healthy"}
