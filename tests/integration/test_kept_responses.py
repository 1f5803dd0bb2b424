"""Responses that engines keep: whoever continues, reads, cancels or deletes one comes to the backend that has it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson
import pytest

from tests.integration.conftest import OPEN
from tests.support.backends import ScriptedBackend
from tests.support.keeping import PATH, Json, KeepingEngine
from tests.support.router import RouterProcess, Site
from tests.support.valkey import Valkey

ASK = {"model": "m", "input": "hi"}


@dataclass
class World:
    router: RouterProcess
    engines: dict[str, KeepingEngine]
    http: aiohttp.ClientSession
    key: str | None = None

    async def ask(self, method: str, path: str, body: Json | None = None, key: str | None = None) -> tuple[Any, ...]:
        """Status, document and backend."""
        headers = {"authorization": f"Bearer {key or self.key}"} if key or self.key else {}
        async with self.http.request(method, self.router.url + path, json=body, headers=headers) as reply:
            data = await reply.read()
            backend = reply.headers.get("x-router-backend", "")
            return reply.status, orjson.loads(data) if data.startswith(b"{") else data, backend.partition("/")[2]

    async def make(self, **body: Any) -> tuple[str, str]:
        """The id of a new response, and its backend."""
        status, document, backend = await self.ask("POST", PATH, {**ASK, **body})
        assert status == 200
        if isinstance(document, bytes):
            line = next(line for line in document.splitlines() if line.startswith(b"data:"))
            document = orjson.loads(line[5:])["response"]
        return document["id"], backend


HEAD = "[probes]\ninterval = 0.1\ntimeout = 0.5\n"


async def _world(stack: AsyncExitStack, http: aiohttp.ClientSession, head: str, count: int = 3, **more: Any) -> World:
    engines, sites = {}, []
    for name in "abc"[:count]:
        engines[name] = engine = KeepingEngine(name)
        b = await stack.enter_async_context(ScriptedBackend(engine))
        sites.append(Site(more.get("regions", {}).get(name, "r"), name, b.url, extra=more.get("extra", "")))
    r = await stack.enter_async_context(RouterProcess(sites, head=head + HEAD))
    return World(r, engines, http)


@pytest.fixture
async def world(http: aiohttp.ClientSession) -> AsyncIterator[World]:
    async with AsyncExitStack() as stack:
        yield await _world(stack, http, f'policy = "round_robin"\n{OPEN}')


@pytest.mark.parametrize("made", [{}, {"stream": True}, {"length": 600_000}], ids=["whole", "stream", "long"])
async def test_a_conversation_stays_where_it_began(world: World, made: Json) -> None:
    backends = set()
    for _ in range(6):
        name, backend = await world.make(**made)
        backends.add(backend)
        for _ in range(3):
            status, document, again = await world.ask("POST", PATH, {**ASK, "previous_response_id": name})
            assert (status, again) == (200, backend), document
            name = document["id"]
    assert backends == {"a", "b", "c"}


async def test_what_is_kept_can_be_read_cancelled_and_deleted(world: World) -> None:
    for _ in range(4):
        name, backend = await world.make()
        seen = world.engines[backend].seen
        seen.clear()
        assert (await world.ask("GET", f"{PATH}/{name}?include=x"))[0::2] == (200, backend)
        assert (await world.ask("GET", f"/responses/{name}/"))[1]["id"] == name
        assert (await world.ask("GET", f"{PATH}/{name}/input_items?limit=5"))[1]["object"] == "list"
        assert (await world.ask("POST", f"{PATH}/{name}/cancel"))[1]["status"] == "cancelled"
        assert (await world.ask("DELETE", f"{PATH}/{name}"))[1]["deleted"] is True
        assert seen == [
            f"GET {PATH}/{name}?include=x",
            f"GET {PATH}/{name}",
            f"GET {PATH}/{name}/input_items?limit=5",
            f"POST {PATH}/{name}/cancel",
            f"DELETE {PATH}/{name}",
        ]
        for _ in range(2):  # from the engine, and then from the router alone
            status, document, _ = await world.ask("GET", f"{PATH}/{name}")
            assert (status, document["error"]["code"]) == (404, "response_not_found")
            assert document["error"]["message"] == f"Response with id '{name}' not found."


async def test_what_is_gone_is_404_in_the_words_of_openai(world: World) -> None:
    status, document, _ = await world.ask("POST", PATH, {**ASK, "previous_response_id": "resp_never"})
    assert (status, document["error"]) == (
        404,
        {
            "message": "Previous response with id 'resp_never' not found.",
            "type": "invalid_request_error",
            "param": "previous_response_id",
            "code": "previous_response_not_found",
        },
    )
    assert not any(engine.seen for engine in world.engines.values())
    name, backend = await world.make()
    world.engines[backend].kept.clear()  # the engine was started anew
    for _ in range(2):
        status, document, _ = await world.ask("POST", PATH, {**ASK, "previous_response_id": name})
        assert (status, document["error"]["code"]) == (404, "previous_response_not_found")
    assert len(world.engines[backend].seen) == 2  # it was asked once, and then no more


async def test_other_methods_are_told_which_there_are(world: World) -> None:
    for method, path, allow in (
        ("PUT", f"{PATH}/resp_x", "DELETE, GET"),
        ("DELETE", f"{PATH}/resp_x/input_items", "GET"),
        ("GET", f"{PATH}/resp_x/cancel", "POST"),
        ("DELETE", PATH, "POST"),
    ):
        async with world.http.request(method, world.router.url + path) as reply:
            assert (reply.status, reply.headers["allow"]) == (405, allow)


async def test_conversations_stay_too(world: World) -> None:
    _, backend = await world.make(conversation=None)
    for form in (f"conv_{backend}", {"id": f"conv_{backend}"}):
        for _ in range(3):
            assert (await world.make(conversation=form))[1] == backend
    assert (await world.ask("POST", PATH, {**ASK, "conversation": "conv_of_another_system"}))[0] == 200


async def test_an_explanation_says_why_the_others_were_not_asked(world: World) -> None:
    name, backend = await world.make()
    async with world.http.post(world.router.url + PATH, json={**ASK, "previous_response_id": name}) as reply:
        await reply.read()
    request_id = reply.headers["x-request-id"]
    record = await asyncio.to_thread(world.router.record, request_id)
    assert record["backend"] == f"r/{backend}"
    told = await asyncio.to_thread(world.router.ask_admin, "/admin/v1/explain", {"request_id": request_id})
    struck = {c["backend"]: c["struck"] for c in told["decision"]["candidates"]}
    assert struck == {f"r/{n}": None if n == backend else "kept" for n in "abc"}


async def test_a_backend_that_cannot_serve_now_is_503_with_the_reason(world: World) -> None:
    name, backend = await world.make()
    await asyncio.to_thread(world.router.ask_admin, f"/admin/v1/backends/r/{backend}/drain", {})
    status, document, _ = await world.ask("POST", PATH, {**ASK, "previous_response_id": name})
    assert (status, document["error"]["code"]) == (503, "no_backend")
    assert "draining" in document["error"]["message"]


async def test_a_backend_that_was_removed_is_404(world: World) -> None:
    name, backend = await world.make()
    world.router.sites = [s for s in world.router.sites if s.name != backend]
    world.router.write_config()
    await asyncio.to_thread(world.router.ask_admin, "/admin/v1/config/reload", {})
    status, document, _ = await world.ask("POST", PATH, {**ASK, "previous_response_id": name})
    assert (status, document["error"]["code"]) == (404, "previous_response_not_found")


async def test_a_full_backend_still_shows_and_cancels(http: aiohttp.ClientSession) -> None:
    async with AsyncExitStack() as stack:
        world = await _world(stack, http, OPEN, 1, extra="max_inflight = 1\n")
        name, _ = await world.make()
        running = asyncio.create_task(world.make(wait=True))
        engine = world.engines["a"]
        await engine.busy.wait()
        assert (await world.ask("GET", f"{PATH}/{name}"))[0] == 200
        assert (await world.ask("POST", f"{PATH}/{name}/cancel"))[0] == 200
        engine.go.set()
        await running


async def test_only_the_tenant_finds_it_and_lookups_cost_no_tokens(http: aiohttp.ClientSession) -> None:
    head = "[plans.default]\n[plans.small]\ntokens_per_minute = 2000\n"
    async with AsyncExitStack() as stack:
        world = await _world(stack, http, head, 2)
        world.key = await asyncio.to_thread(world.router.create_key, "one", "small")
        other = await asyncio.to_thread(world.router.create_key, "two")
        name, _ = await world.make(max_output_tokens=10)
        for _ in range(30):
            assert (await world.ask("GET", f"{PATH}/{name}"))[0] == 200
        # the usage of the response is charged once, and what is shown of it later is not
        assert (await world.ask("POST", PATH, {**ASK, "max_output_tokens": 10}))[0] == 200
        for method, path, body in (
            ("GET", f"{PATH}/{name}", None),
            ("GET", f"{PATH}/{name}/input_items", None),
            ("DELETE", f"{PATH}/{name}", None),
            ("POST", f"{PATH}/{name}/cancel", None),
            ("POST", PATH, {**ASK, "previous_response_id": name}),
        ):
            assert (await world.ask(method, path, body, key=other))[0] == 404
            assert (await world.ask(method, path, body, key="mr-nobody"))[0] == 401
        assert (await world.ask("GET", f"{PATH}/{name}"))[0] == 200


async def test_the_model_that_made_it_goes_on(http: aiohttp.ClientSession) -> None:
    alias = '[models.chat]\ntargets = [{ model = "m", weight = 1 }, { model = "n", weight = 1 }]\n'
    async with AsyncExitStack() as stack:
        engines = {name: KeepingEngine(name) for name in "mn"}
        sites = []
        for name, engine in engines.items():
            b = await stack.enter_async_context(ScriptedBackend(engine, model=name))
            sites.append(Site("r", name, b.url))
        world = World(await stack.enter_async_context(RouterProcess(sites, head=OPEN + HEAD + alias)), engines, http)
        for _ in range(8):
            name, backend = await world.make(model="chat")
            status, _, again = await world.ask("POST", PATH, {**ASK, "model": "chat", "previous_response_id": name})
            assert (status, again) == (200, backend)
            other = "n" if backend == "m" else "m"
            answer = await world.ask("POST", PATH, {**ASK, "model": other, "previous_response_id": name})
            assert (answer[0], answer[1]["error"]["code"]) == (404, "previous_response_not_found")
            answer = await world.ask("POST", PATH, {**ASK, "model": "none", "previous_response_id": name})
            assert (answer[0], answer[1]["error"]["code"]) == (404, "unknown_model")


async def test_without_notes_a_follow_up_goes_anywhere(http: aiohttp.ClientSession) -> None:
    async with AsyncExitStack() as stack:
        world = await _world(stack, http, f'policy = "round_robin"\n{OPEN}[responses]\nttl_s = 0\n', 2)
        name, _ = await world.make()
        statuses = [(await world.ask("POST", PATH, {**ASK, "previous_response_id": name}))[0] for _ in range(4)]
        assert sorted(statuses) == [200, 200, 404, 404]
        assert (await world.ask("GET", f"{PATH}/{name}"))[0] == 404


async def test_while_the_store_is_away_nobody_says_that_it_is_gone(http: aiohttp.ClientSession) -> None:
    async with AsyncExitStack() as stack:
        valkey = stack.enter_context(Valkey(unix=False))
        world = await _world(stack, http, f'{OPEN}[store]\nredis = "{valkey.url}"\n')
        name, backend = await world.make()
        valkey.pause()
        status, document, _ = await world.ask("POST", PATH, {**ASK, "previous_response_id": "resp_of_another_router"})
        assert (status, document["error"]["code"]) == (503, "store_unavailable")
        assert (await world.ask("POST", PATH, {**ASK, "previous_response_id": name}))[0::2] == (200, backend)
        valkey.resume()


async def test_another_router_finds_it(http: aiohttp.ClientSession) -> None:
    async with AsyncExitStack() as stack:
        valkey = stack.enter_context(Valkey(unix=False))
        head = f'policy = "round_robin"\n{OPEN}[store]\nredis = "{valkey.url}"\n'
        first = await _world(stack, http, head)
        second = World(
            await stack.enter_async_context(RouterProcess(first.router.sites, head=head + HEAD)), first.engines, http
        )
        found = 0
        while found < 6:  # on a machine that is held up the store is away now and then, and notes get lost
            name, backend = await first.make()
            status, document, again = await second.ask("POST", PATH, {**ASK, "previous_response_id": name})
            if status == 200:
                assert again == backend
                found += 1
            else:
                codes = {404: "previous_response_not_found", 503: "store_unavailable"}
                assert document["error"]["code"] == codes[status]
