"""Backends that come and go under load: from a cluster's API, from a name server, and by their own word."""

from __future__ import annotations

import asyncio
import itertools
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp

from tests.integration.conftest import OPEN
from tests.support.backends import DONE, Call, ScriptedBackend, chunk, event
from tests.support.cluster_api import ClusterApi, cluster_api, pod, slice_of
from tests.support.name_server import name_server
from tests.support.router import RouterProcess

CHAT = {"model": "m", "messages": [{"role": "user", "content": "count"}], "max_tokens": 50, "stream": True}
REGION = '\n[[regions]]\nname = "us-east"\njurisdiction = "us"\ncontinues = "text"\nbackends = []\n'


class FromSources(RouterProcess):
    """A router whose file names no backend."""

    def write_config(self) -> None:
        head = f'[router]\nname = "test"\nlisten = "{self.listen}"\nadmin = "{self.admin_address}"\n{self.head}\n'
        self.file.write_text(head)


def pods_of(api: ClusterApi) -> str:
    return (
        OPEN
        + REGION
        + f'''
[[sources]]
name = "pods"
kind = "kubernetes"
region = "us-east"
api = "{api.url}"
namespace = "ml"
selector = "app=vllm"
engine = "vllm"
models = ["m"]
leaves_in = 2
nodes = true
'''
    )


def at(backend: ScriptedBackend, name: str, **more: Any) -> dict[str, Any]:
    """The slice of one pod, at the port of a backend of this test."""
    ports = [{"name": "http", "port": backend.port, "protocol": "TCP"}]
    return slice_of(f"slice-{name}", pod(name, backend.host, **more), ports=ports)


class Load:
    """Streams all the time, ``at_once`` of them. ``failures``: those that did not end well."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self._http, self._url = http, url
        self.failures: list[str] = []
        self.served: Counter[str] = Counter()
        self.going = True

    async def client(self) -> None:
        while self.going:
            async with self._http.post(f"{self._url}/v1/chat/completions", json=CHAT) as answer:
                body = (await answer.read()).decode()
                if answer.status != 200 or not body.endswith("data: [DONE]\n\n") or '"error"' in body:
                    self.failures.append(f"{answer.status} {body[-300:]}")
                else:
                    self.served[answer.headers["x-router-backend"]] += 1


@asynccontextmanager
async def load(http: aiohttp.ClientSession, url: str, at_once: int) -> AsyncIterator[Load]:
    made = Load(http, url)
    clients = [asyncio.create_task(made.client()) for _ in range(at_once)]
    try:
        yield made
    finally:
        made.going = False
        await asyncio.gather(*clients)


async def until(what: Callable[[], object], timeout_s: float = 20.0) -> None:
    async with asyncio.timeout(timeout_s):
        while not what():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def admin(r: RouterProcess, path: str, body: object = None, method: str | None = None) -> Any:
    return await asyncio.to_thread(r.ask_admin, f"/admin/v1/{path}", body, method=method)


async def eventually(ask: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(20):
        while not await ask():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def slowly(call: Call) -> None:
    await call.stream("hel", "lo", gap_s=0.02)


async def test_two_hundred_changes_of_slices_under_load(http: aiohttp.ClientSession) -> None:
    """Pods are replaced one by one, become unready and ready again. None of the requests may fail, and each new pod must
    get its first one soon."""
    async with AsyncExitStack() as stack:
        api = await stack.enter_async_context(cluster_api())
        engines = [await stack.enter_async_context(ScriptedBackend(slowly)) for _ in range(3)]
        for n, engine in enumerate(engines):
            api.put("endpointslices", at(engine, f"pod-{n}"))
        r = await stack.enter_async_context(FromSources([], head=pods_of(api)))
        traffic = await stack.enter_async_context(load(http, r.url, 8))
        await until(lambda: sum(traffic.served.values()) > 20)
        changes, numbers, waits_s = 0, itertools.count(3), list[float]()
        names = ["pod-0", "pod-1", "pod-2"]
        for turn in itertools.count():
            if changes >= 200:
                break
            n = turn // 2 % 3
            engine, old = engines[n], names[n]
            if turn % 2:
                api.put("endpointslices", at(engine, old, ready=False))
                await asyncio.sleep(0.01)
                api.put("endpointslices", at(engine, old))
                changes += 2
                continue
            new = f"pod-{next(numbers)}"
            fresh = await stack.enter_async_context(ScriptedBackend(slowly))
            api.put("endpointslices", at(fresh, new))
            began_s = asyncio.get_running_loop().time()
            await fresh.called(1)
            waits_s.append(asyncio.get_running_loop().time() - began_s)
            api.put("endpointslices", at(engine, old, ready=False, terminating=True))
            await asyncio.sleep(0.02)
            api.delete("endpointslices", f"slice-{old}")
            engines[n], names[n] = fresh, new
            changes += 3
        traffic.going = False
        await asyncio.sleep(0.3)
        backends = (await admin(r, "backends"))["data"]
    assert not traffic.failures, traffic.failures[:3]
    assert len(traffic.served) > 30, "every new pod has served"
    assert sorted(waits_s)[len(waits_s) // 2] < 1.0
    assert {b["name"] for b in backends if b["usable"]} == {f"us-east/{name}" for name in names}


async def test_a_terminating_pod_hands_its_streams_over(http: aiohttp.ClientSession) -> None:
    held = asyncio.Event()

    async def old(call: Call) -> None:
        await call.stream("one", finish=False)
        await held.wait()

    async def new(call: Call) -> None:
        await call.send(
            b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
            chunk(event(" two")),
            chunk(event(None, "stop")),
            chunk(DONE),
            b"0\r\n\r\n",
        )

    async with cluster_api() as api, ScriptedBackend(old) as a, ScriptedBackend(new) as b:
        api.put("endpointslices", at(a, "old"))
        async with FromSources([], head=pods_of(api)) as r:
            asking = asyncio.create_task(_ask(http, r.url))
            await a.called(1)
            api.put("endpointslices", at(b, "new"))

            async def both() -> bool:
                return len((await admin(r, "backends"))["data"]) == 2

            await eventually(both)
            api.put("endpointslices", at(a, "old", ready=False, terminating=True))
            headers, body = await asyncio.wait_for(asking, 20)
            shown = await admin(r, "backends")
            held.set()
    assert headers["x-router-backend"] == "us-east/old"
    assert '"one"' in body
    assert '" two"' in body
    assert body.endswith("data: [DONE]\n\n")
    told = {b["name"]: b for b in shown["data"]}["us-east/old"]
    assert told["source"]["says"] == "leaving"
    assert told["leaving"]["by"] == "its pod is terminating"
    assert told["state"] == "healthy", "what is measured stands apart from what is said"


async def _ask(http: aiohttp.ClientSession, url: str) -> tuple[Any, str]:
    async with http.post(f"{url}/v1/chat/completions", json=CHAT) as answer:
        return answer.headers, (await answer.read()).decode()


async def test_a_taint_of_the_node_gives_notice(http: aiohttp.ClientSession) -> None:
    async with cluster_api() as api, ScriptedBackend() as a, ScriptedBackend() as b:
        api.put("nodes", {"metadata": {"name": "n1"}, "spec": {}})
        api.put("endpointslices", at(a, "a", node="n1"))
        api.put("endpointslices", at(b, "b", node="n2"))
        async with FromSources([], head=pods_of(api)) as r:
            taint = {"key": "cloud.google.com/impending-node-termination", "effect": "NoSchedule"}
            api.put("nodes", {"metadata": {"name": "n1"}, "spec": {"taints": [taint]}})

            async def leaving() -> bool:
                return (await admin(r, "backends"))["data"][0]["leaving"] is not None

            await eventually(leaving)
            for _ in range(10):
                headers, _ = await _ask(http, r.url)
                assert headers["x-router-backend"] == "us-east/b"


async def test_an_api_that_is_away_or_refuses_changes_nothing(http: aiohttp.ClientSession) -> None:
    async with cluster_api() as api, ScriptedBackend() as a:
        api.put("endpointslices", at(a, "a"))
        async with FromSources([], head=pods_of(api)) as r:
            api.forbidden.add("endpointslices")
            api.cut()

            async def away() -> bool:
                return "403" in ((await admin(r, "sources"))["data"][2]["problem"] or "")

            await eventually(away)
            source = (await admin(r, "sources"))["data"][2]
            assert source["state"] == "away"
            assert source["problem"].startswith("403: the service account may not read endpointslices")
            assert (source["backends"], source["in_use"]) == (1, 1)
            assert (await _ask(http, r.url))[0]["x-router-backend"] == "us-east/a"
            api.forbidden.clear()

            async def back() -> bool:
                return not await away()

            await eventually(back)
            assert "may not read endpointslices" in r.log.read_text()


async def test_a_router_that_has_just_started_has_nobody_stopped(http: aiohttp.ClientSession) -> None:
    """It asks for what runs, as soon as it knows that, and before for nothing: autoscalers stop pods at once."""
    goal = 'region = "us-east"\n' + OPEN + "[models.m]\ntarget_ttft_s = 2\nmin = 0\nmax = 8\n"
    async with cluster_api(down=True) as api, ScriptedBackend() as a, ScriptedBackend() as b, ScriptedBackend() as c:
        for name, backend in (("a", a), ("b", b), ("c", c)):
            api.put("endpointslices", at(backend, name))
        async with FromSources([], head=goal + pods_of(api).removeprefix(OPEN), wait=None) as r:
            path = "/apis/external.metrics.k8s.io/v1beta1/namespaces/ml/router_backends_needed"

            async def told() -> list[str]:
                return [i["value"] for i in (await asyncio.to_thread(r.ask_admin, path))["items"]]

            async def away() -> bool:
                assert await told() == []
                return (await admin(r, "sources"))["data"][2]["problem"] is not None

            await eventually(away)
            assert await told() == []
            shown = (await admin(r, "capacity"))["data"][0]
            assert (shown["needed"], shown["reason"]) == (None, "unheard")
            api.down = False
            seen = set()

            async def known() -> bool:
                seen.update(found := await told())
                return bool(found)

            await eventually(known)
            await asyncio.sleep(1.0)
            await known()
            assert seen == {"3"}


async def test_names_are_followed_and_one_that_empties_is_doubted(http: aiohttp.ClientSession) -> None:
    async with name_server(ttl_s=1) as names, ScriptedBackend() as a:
        b = ScriptedBackend()
        b.host, b.port = "127.0.0.2", a.port
        async with b:
            names.put("vllm.internal", "A", "127.0.0.1")
            source = f'''
[[sources]]
name = "names"
kind = "dns"
region = "us-east"
host = "vllm.internal:{a.port}"
nameserver = "{names.address}"
engine = "vllm"
models = ["m"]
grace = 1.5
leaves_in = 1
'''
            async with FromSources([], head=OPEN + REGION + source) as r:
                assert (await _ask(http, r.url))[0]["x-router-backend"] == f"us-east/127.0.0.1-{a.port}"
                names.put("vllm.internal", "A", "127.0.0.1", "127.0.0.2")

                async def both() -> bool:
                    return len((await admin(r, "backends"))["data"]) == 2

                await eventually(both)
                names.put("vllm.internal", "A", "127.0.0.2")

                async def moved() -> bool:
                    found = (await admin(r, "backends"))["data"]
                    return [x["name"] for x in found] == [f"us-east/127.0.0.2-{a.port}"]

                await eventually(moved)
                names.put("vllm.internal", "A")

                async def doubted() -> bool:
                    return (await admin(r, "sources"))["data"][2]["state"] == "doubted"

                await eventually(doubted)
                assert (await _ask(http, r.url))[0]["x-router-backend"] == f"us-east/127.0.0.2-{a.port}"

                async def empty() -> bool:
                    return not (await admin(r, "backends"))["data"]

                await eventually(empty)


async def test_a_backend_registers_itself_renews_and_leaves(http: aiohttp.ClientSession) -> None:
    async with ScriptedBackend() as a, ScriptedBackend() as b:
        async with FromSources([], head=OPEN + REGION, wait=None) as r:
            body = {"name": "us-east/a", "url": a.url, "engine": "vllm", "models": ["m"], "lease_s": 1}
            await admin(r, "backends", body)
            assert (await _ask(http, r.url))[0]["x-router-backend"] == "us-east/a", "at once"
            await admin(r, "backends", body | {"name": "us-east/b", "url": b.url})

            async def alone() -> bool:
                await admin(r, "backends", body)
                return [x["name"] for x in (await admin(r, "backends"))["data"]] == ["us-east/a"]

            await eventually(alone)
            gone = await admin(r, "backends/us-east/a?in_s=0", method="DELETE")
            assert gone["source"]["says"] == "leaving"

            async def nobody() -> bool:
                return not (await admin(r, "backends"))["data"]

            await eventually(nobody)


async def test_a_restart_without_a_store_loses_nobody_for_longer_than_a_renewal(http: aiohttp.ClientSession) -> None:
    async with ScriptedBackend() as a:
        body = {"name": "us-east/a", "url": a.url, "engine": "vllm", "models": ["m"], "lease_s": 60}
        async with FromSources([], head=OPEN + REGION, wait=None) as r:
            told = (await admin(r, "backends", body))["source"]
            assert told["renew_s"] == 20
        async with FromSources([], head=OPEN + REGION, wait=None) as r:
            assert (await admin(r, "backends"))["data"] == []
            assert (await admin(r, "backends", body))["source"]["renew_s"] == 20
            assert (await _ask(http, r.url))[0]["x-router-backend"] == "us-east/a", "with the next renewal"


async def test_what_the_machine_of_a_backend_says_of_its_end(http: aiohttp.ClientSession) -> None:
    from aiohttp import web

    said = {"status": 404}

    async def metadata(_: web.Request) -> web.Response:
        return web.Response(status=said["status"], text='{"in_s": 60}')

    app = web.Application()
    app.router.add_get("/spot", metadata)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        async with ScriptedBackend() as a, FromSources([], head=OPEN + REGION, wait=None) as r:
            url = f"http://127.0.0.1:{runner.addresses[0][1]}/spot"
            body = {"name": "us-east/a", "url": a.url, "models": ["m"], "notice_url": url}
            made = await admin(r, "backends", body)
            assert made["leaving"] is None
            said["status"] = 200

            async def leaving() -> bool:
                found = (await admin(r, "backends"))["data"][0]["leaving"]
                return found is not None and found["by"] == "its machine"

            await eventually(leaving)
    finally:
        await runner.cleanup()
