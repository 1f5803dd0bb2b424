"""A model of which nothing runs: requests are held, one call wakes it, and it sleeps again when nobody asks."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import aiohttp
from aiohttp import web

from tests.integration.conftest import OPEN
from tests.support.backends import Call, ScriptedBackend, answer, say_hello, whole
from tests.support.ports import free_port
from tests.support.router import RouterProcess, Site
from tests.support.valkey import Valkey

CHAT = "/v1/chat/completions"
Hook = Callable[[dict[str, Any]], Awaitable[int]]


class Starter:
    """Whoever starts engines: a webhook, and the engine that it starts after a while."""

    def __init__(self, starts_in_s: float) -> None:
        self.engine = ScriptedBackend(self.serve)
        self.engine.port = free_port()
        self.starts_in_s = starts_in_s
        self.calls: list[dict[str, Any]] = []
        self.failures = 0  # calls to be answered with 503
        self.most = self.running = 0
        self.waking: asyncio.Task[None] | None = None
        self.url = ""

    async def serve(self, call: Call) -> None:
        if call.head.startswith(b"POST /sleep"):  # it was not started with that path
            await call.send(whole(404, {"detail": "Not Found"}))
            return
        self.running += 1
        self.most = max(self.most, self.running)
        await asyncio.sleep(0.05)
        self.running -= 1
        await say_hello(call)

    async def hook(self, request: web.Request) -> web.Response:
        self.calls.append(await request.json())
        if self.failures:
            self.failures -= 1
            return web.Response(status=503, text="not now")
        if self.calls[-1]["action"] == "wake":
            self.waking = asyncio.create_task(self.start())
        else:
            await self.engine.shut()
        return web.json_response({})

    async def start(self) -> None:
        await asyncio.sleep(self.starts_in_s)
        await self.engine.open()

    def did(self, action: str) -> int:
        return sum(call["action"] == action for call in self.calls)


@contextlib.asynccontextmanager
async def starting(starts_in_s: float) -> AsyncIterator[Starter]:
    starter = Starter(starts_in_s)
    app = web.Application()
    app.router.add_post("/hook", starter.hook)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    starter.url = f"http://127.0.0.1:{runner.addresses[0][1]}/hook"
    try:
        yield starter
    finally:
        if starter.waking is not None:
            starter.waking.cancel()
        if starter.engine._server is not None:
            await starter.engine.shut()
        await runner.cleanup()


def model(starter: Starter, **keys: Any) -> str:
    """[models.m] that the starter wakes."""
    own = {k: v for k, v in keys.items() if k in ("idle_s", "cold_start_s")}
    wake = {"url": starter.url, **{k: v for k, v in keys.items() if k not in own}}
    lines = [f"{k} = {json.dumps(v)}" for k, v in own.items()]
    return "\n".join(
        [OPEN, "[probes]\ninterval = 0.2\n[models.m]\nmin = 0", *lines, "[models.m.wake]"]
        + [f"{k} = {json.dumps(v)}" for k, v in wake.items()]
    )


def site(starter: Starter) -> Site:
    return Site("us", "a", starter.engine.url, models=["m"])


async def ask(http: aiohttp.ClientSession, r: RouterProcess, *, stream: bool = False, content: str = "x") -> Any:
    body = {"model": "m", "stream": stream, "messages": [{"role": "user", "content": content}]}
    async with http.post(r.url + CHAT, json=body) as reply:
        return reply.status, reply.headers, await reply.read()


async def until(what: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while not what():  # noqa: ASYNC110
            await asyncio.sleep(0.05)


async def until_async(what: Callable[[], Awaitable[Any]], value: Any) -> None:
    async with asyncio.timeout(20):
        while await what() != value:  # noqa: ASYNC110
            await asyncio.sleep(0.1)


async def admin(r: RouterProcess, path: str) -> Any:
    return await asyncio.to_thread(lambda: r.ask_admin(f"/admin/v1/{path}"))


async def page_of(r: RouterProcess) -> str:
    async with aiohttp.ClientSession() as http, http.get(f"{r.admin}/metrics") as reply:
        return await reply.text()


async def state_of(r: RouterProcess) -> str:
    return str((await admin(r, "regions"))["data"][0]["state"])


async def held_by(r: RouterProcess) -> int:
    return int((await admin(r, "status"))["dormant"][0]["held"])


async def test_three_hundred_requests_and_one_call() -> None:
    async with (
        starting(3.0) as starter,
        RouterProcess([site(starter)], head=model(starter, cold_start_s=3)) as r,
        aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
    ):
        answers = await asyncio.gather(*(ask(http, r, stream=i % 2 == 0) for i in range(300)))
        assert [status for status, _, _ in answers] == [200] * 300
        assert all(b"hel" in body for _, _, body in answers)
        assert starter.calls == [{"action": "wake", "model": "m", "region": "us", "backends": 1}]
        assert starter.most < 256, "it began with a few of them"
        page = await asyncio.to_thread(lambda: r.ask_admin("/admin/v1/capacity"))
        assert page["data"][0]["there"] == 1


async def test_the_router_is_ready_though_nothing_runs(http: aiohttp.ClientSession) -> None:
    async with starting(0.5) as starter, RouterProcess([site(starter)], head=model(starter)) as r:
        async with http.get(r.url + "/v1/models") as reply:
            assert [m["id"] for m in (await reply.json())["data"]] == ["m"]
        assert (await ask(http, r))[0] == 200


async def test_a_full_room_says_when_to_come_back(http: aiohttp.ClientSession) -> None:
    keys: dict[str, Any] = {"held": 4, "held_bytes": 2000, "cold_start_s": 40}
    async with starting(5.0) as starter, RouterProcess([site(starter)], head=model(starter, **keys)) as r:
        began_s = time.monotonic()
        held = [asyncio.create_task(ask(http, r)) for _ in range(4)]
        await until_async(lambda: held_by(r), 4)
        status, headers, body = await ask(http, r)
        passed_s = time.monotonic() - began_s
        assert (status, json.loads(body)["error"]["code"]) == (429, "admission_full")
        retry_s = int(headers["retry-after"])
        assert 39 - passed_s <= retry_s <= 40, "the time that a start takes, less the time that has passed"
        assert {(await task)[0] for task in held} == {200}
        assert (await ask(http, r, content="y" * 3000))[0] == 200, "it runs: nothing is held any more"


async def test_bytes_are_bounded_too_and_nobody_waits_for_ever(http: aiohttp.ClientSession) -> None:
    keys: dict[str, Any] = {"held_bytes": 2000, "wait_s": 1.0}
    async with starting(30.0) as starter, RouterProcess([site(starter)], head=model(starter, **keys)) as r:
        waiting = asyncio.create_task(ask(http, r))
        await asyncio.sleep(0.3)
        assert (await ask(http, r, content="y" * 3000))[0] == 429
        status, headers, body = await waiting
        assert (status, json.loads(body)["error"]["code"]) == (429, "wait_expired")
        assert int(headers["retry-after"]) > 60
        assert len(starter.calls) == 1


async def test_a_call_that_fails_is_made_again(http: aiohttp.ClientSession) -> None:
    async with (
        starting(0.3) as starter,
        RouterProcess([site(starter)], head=model(starter)) as r,
    ):
        starter.failures = 1
        assert (await ask(http, r))[0] == 200
        assert starter.did("wake") == 2


async def test_routers_of_one_store_call_once() -> None:
    with Valkey() as valkey:
        async with starting(2.0) as starter:
            head = model(starter) + f'\n[store]\nredis = "{valkey.url}"\n'
            async with (
                RouterProcess([site(starter)], head=head) as one,
                RouterProcess([site(starter)], head=head) as other,
                aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as http,
            ):
                answers = await asyncio.gather(*(ask(http, r) for r in (one, other) for _ in range(20)))
                assert {status for status, _, _ in answers} == {200}
                assert starter.did("wake") == 1


async def test_a_second_router_does_not_call_again_while_the_engine_comes_up() -> None:
    """The client that had it woken has left, so nobody waits at the first router any more."""
    with Valkey() as valkey:
        async with starting(3.0) as starter:
            head = model(starter) + f'\n[store]\nredis = "{valkey.url}"\n'
            sites = [site(starter), Site("eu", "a", f"http://127.0.0.1:{free_port()}", models=["other"])]
            async with (
                RouterProcess(sites, head=f'region = "us"\n{head}') as one,
                RouterProcess(sites, head=f'region = "eu"\n{head}') as other,
                aiohttp.ClientSession() as http,
            ):
                first = asyncio.create_task(ask(http, one))
                await until(lambda: starter.calls)
                first.cancel()
                assert (await ask(http, other))[0] == 200
                assert [call["region"] for call in starter.calls] == ["us"], "where it runs, not where it was asked for"


async def test_that_it_cannot_be_woken_is_told_to_everybody(http: aiohttp.ClientSession) -> None:
    async with starting(0.3) as starter, RouterProcess([site(starter)], head=model(starter, wait_s=2.0)) as r:
        page = await admin(r, "status")
        assert (page["router"]["ready"], page["dormant"][0]["state"]) == (True, "asleep")
        await until_async(lambda: state_of(r), "asleep")
        starter.failures = 10**6
        status, headers, body = await ask(http, r)
        error = json.loads(body)["error"]
        assert (status, error["code"]) == (429, "wait_expired")
        assert error["message"].startswith(
            "No backend of the model `m` runs, and none could be started: the webhook ans"
        )
        assert "503" in error["message"]
        assert "not now" not in error["message"], "the words of the webhook are for operators"
        assert int(headers["retry-after"]) > 60
        (told,) = (await admin(r, "status"))["dormant"]
        assert (told["state"], told["held"]) == ("failing", 0)
        assert "the webhook answered 503: not now" in told["problem"]
        assert (await admin(r, "capacity"))["dormant"][0]["state"] == "failing"
        assert await state_of(r) == "down", "one that nothing wakes is broken, not asleep"
        events = (await admin(r, "events?kind=wake"))["data"]
        assert [(e["subject"], e["to"]) for e in reversed(events)] == [("m", "waking"), ("m", "failed")]
        assert "503" in events[0]["why"]
        assert events[0]["who"].startswith("router ")
        metrics = await page_of(r)
        assert 'router_wake_failing{model="m"} 1' in metrics
        assert 'router_wake_failures_total{model="m",action="wake"}' in metrics
        starter.failures = 0
        r.head = model(starter, wait_s=60.0)  # that of the first request is short, so that it ends
        r.write_config()
        await asyncio.to_thread(r.ask_admin, "/admin/v1/config/reload", {})
        assert (await admin(r, "status"))["dormant"][0]["state"] == "failing"
        assert (await ask(http, r))[0] == 200
        assert (await admin(r, "status"))["dormant"][0]["state"] == "running"
        assert (await admin(r, "requests?limit=1"))["data"][0]["held_s"] > 0.1


async def test_it_sleeps_when_nobody_asks_and_wakes_again(http: aiohttp.ClientSession) -> None:
    async with starting(0.3) as starter, RouterProcess([site(starter)], head=model(starter, idle_s=1.0)) as r:
        assert (await ask(http, r))[0] == 200
        await until(lambda: starter.did("sleep"))
        await until_async(lambda: state_of(r), "asleep")
        (region,) = (await admin(r, "regions"))["data"]
        assert (region["backends"][0]["asleep"], region["why"]) == (True, "it sleeps until a request comes")
        status = await admin(r, "status")
        assert (status["backends"]["asleep"], status["regions"]["asleep"]) == (1, 1)
        metrics = await page_of(r)
        assert 'router_backend_asleep{region="us",backend="us/a"} 1' in metrics
        kinds = {(e["kind"], e["to"]) for e in (await admin(r, "events"))["data"]}
        assert {("wake", "waking"), ("wake", "running"), ("sleep", "asleep")} <= kinds
        assert (await ask(http, r))[0] == 200
        assert (starter.did("wake"), starter.did("sleep")) == (2, 1)


async def test_an_engine_that_can_sleep_is_asked_itself(http: aiohttp.ClientSession) -> None:
    said: list[str] = []

    async def engine(call: Call) -> None:
        path = call.head.split(b" ")[1].decode()
        if path.startswith(("/sleep", "/wake_up")):
            said.append(path)
            await call.send(whole(200, {}))
        elif said and said[-1].startswith("/sleep"):
            await call.send(whole(500, {"error": {"message": "asleep"}}))
        else:
            await call.send(answer())

    head = OPEN + "[probes]\ninterval = 0.2\n[models.m]\nmin = 0\nidle_s = 1\n"
    async with ScriptedBackend(engine) as b, RouterProcess([Site("us", "a", b.url, models=["m"])], head=head) as r:
        assert (await ask(http, r))[0] == 200
        async with asyncio.timeout(15):
            while not said:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        assert said == ["/sleep?level=1"]
        shown = (await asyncio.to_thread(lambda: r.ask_admin("/admin/v1/capacity")))["data"][0]
        assert (shown["there"], shown["engines"][0]["reason"]) == (0, "it sleeps")
        answers = await asyncio.gather(*(ask(http, r) for _ in range(20)))
        assert {status for status, _, _ in answers} == {200}
        assert said == ["/sleep?level=1", "/wake_up"]


async def test_workers_of_one_router_call_once() -> None:
    async with starting(2.0) as starter:
        text = model(starter) + '\n[store]\nredis = "embedded"\n'
        head = "workers = 2\n" + text
        async with (
            RouterProcess([site(starter)], head=head) as r,
            aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0, force_close=True)) as http,
        ):
            answers = await asyncio.gather(*(ask(http, r) for _ in range(40)))
            assert {status for status, _, _ in answers} == {200}
            assert starter.did("wake") == 1
            shown = (await asyncio.to_thread(lambda: r.ask_admin("/admin/v1/capacity")))["data"]
            assert [(g["model"], g["there"]) for g in shown] == [("m", 1)]
