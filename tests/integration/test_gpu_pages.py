"""A page of GPUs beside a backend: what operators are told of it."""

from __future__ import annotations

import asyncio
import urllib.request

from aiohttp import web

from tests.integration.conftest import OPEN
from tests.shell.test_gpus import DCGM
from tests.support.backends import ScriptedBackend
from tests.support.router import RouterProcess, Site


async def test_regions_show_and_metrics_tell_of_gpus() -> None:
    async def page(request: web.Request) -> web.Response:
        return web.Response(body=DCGM)

    app = web.Application()
    app.router.add_get("/metrics", page)
    runner = web.AppRunner(app)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    port = runner.addresses[0][1]
    extra = f'gpu_metrics = "http://{{host}}:{port}/metrics"\ncost_usd_hour = 10.0'
    try:
        async with ScriptedBackend() as b, RouterProcess([Site("us", "a", b.url, extra=extra)], head=OPEN) as r:

            def backend() -> dict[str, object]:
                return dict(r.ask_admin("/admin/v1/regions")["data"][0]["backends"][0]["gpu"])

            async with asyncio.timeout(30):
                while (await asyncio.to_thread(backend))["gpus"] is None:  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
            told = await asyncio.to_thread(backend)

            def metrics() -> str:
                with urllib.request.urlopen(r.admin + "/metrics", timeout=10) as answer:
                    return str(answer.read().decode())

            text = await asyncio.to_thread(metrics)
    finally:
        await runner.cleanup()
    assert (told["gpus"], told["memory_ratio"], told["state"]) == (2, 0.75, "working")
    assert told["idle_usd_hour"] == 4.0
    labels = 'region="us",backend="us/a"'
    assert f"router_backend_gpu_busy_ratio{{{labels}}} 0.6" in text
    assert f"router_backend_gpu_idle_usd_per_hour{{{labels}}} 4.0" in text
    assert f'router_backend_gpu_state{{{labels},state="working"}} 1' in text
