"""A model that was woken once, slept and is woken again, though calls fail and the engine dies while it comes up."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

import aiohttp
from aiohttp import web

from tests.integration.conftest import OPEN
from tests.integration.test_waking import admin, ask, until, until_async
from tests.support.backends import Call, ScriptedBackend, answer, whole
from tests.support.ports import free_port
from tests.support.router import RouterProcess, Site

SCALE = "/apis/apps/v1/namespaces/prod/deployments/vllm/scale"
_STARTS_S = 0.4


class Pod:
    """An engine, and what starts it again when it has died: the kubelet of a Deployment whose replicas the router sets,
    or of one that always runs and whose engine takes /sleep and /wake_up."""

    def __init__(self, *, sleeps: bool) -> None:
        self.engine = ScriptedBackend(self.serve)
        self.engine.port = free_port()
        self.engine.sleeps = lambda: self.asleep if self.sleeps else None
        self.sleeps = sleeps
        self.asleep = False
        self.replicas = 0
        #: what was asked of it, in order
        self.said: list[str] = []
        #: what the next wake calls meet: a status of 500, or the death of the engine
        self.mishaps: list[str] = []
        #: the next request finds an engine that dies
        self.dies_at_work = False
        self.api = ""
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self, call: Call) -> None:
        path = call.head.split(b" ")[1].decode()
        if path.startswith(("/sleep", "/wake_up")):
            await self._lull(call, path)
        elif self.dies_at_work:
            self.dies_at_work = False
            self._soon(self.restart())
            await asyncio.sleep(5)
        else:
            await call.send(whole(503, {"error": {"message": "asleep"}}) if self.asleep else answer())

    async def _lull(self, call: Call, path: str) -> None:
        if not self.sleeps:
            await call.send(whole(404, {"detail": "Not Found"}))
            return
        self.said.append(path.partition("?")[0])
        mishap = self.mishaps.pop(0) if self.mishaps and path == "/wake_up" else ""
        if mishap == "dies":
            self._soon(self.restart())
            await asyncio.sleep(5)
        elif mishap:
            await call.send(whole(500, {"detail": "out of memory"}))
        else:
            self.asleep = path != "/wake_up"
            await call.send(whole(200, {}))

    async def restart(self, takes_s: float = _STARTS_S) -> None:
        await self.engine.shut()
        await asyncio.sleep(takes_s)
        self.asleep = False
        await self.engine.open()

    async def scale(self, request: web.Request) -> web.Response:
        if request.method == "PATCH":
            wanted = (await request.json())["spec"]["replicas"]
            self.said.append(f"scale {wanted}")
            if wanted and self.mishaps:
                self.mishaps.pop(0)
                return web.json_response({"message": "etcd has no leader"}, status=500)
            if wanted and not self.replicas:
                self._soon(self.start())
            elif self.replicas and not wanted:
                await self.engine.shut()
            self.replicas = wanted
        return web.json_response({"kind": "Scale", "spec": {"replicas": self.replicas}})

    async def start(self) -> None:
        await asyncio.sleep(_STARTS_S)
        await self.engine.open()

    def _soon(self, work: object) -> None:
        task = asyncio.ensure_future(work)  # type: ignore[arg-type]
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)


@contextlib.asynccontextmanager
async def pod(*, sleeps: bool) -> AsyncIterator[Pod]:
    made = Pod(sleeps=sleeps)
    app = web.Application()
    app.router.add_route("GET", SCALE, made.scale)
    app.router.add_route("PATCH", SCALE, made.scale)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    made.api = f"http://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield made
    finally:
        for task in list(made._tasks):
            task.cancel()
        if made.engine._server is not None:
            await made.engine.shut()
        await runner.cleanup()


def head(wake: str = "") -> str:
    return f"{OPEN}\n[probes]\ninterval = 0.2\n[models.m]\nmin = 0\nidle_s = 0.5\ncold_start_s = 1\n{wake}"


def sites(made: Pod) -> list[Site]:
    return [Site("us", "a", made.engine.url, models=["m"])]


async def state_of_model(r: RouterProcess) -> str:
    return str((await admin(r, "status"))["dormant"][0]["state"])


async def story(r: RouterProcess) -> list[str]:
    """The states that the model came to, the oldest first."""
    events = (await admin(r, "events?kind=wake,sleep"))["data"]
    return [event["to"] for event in reversed(events)]


async def test_an_engine_that_dies_as_it_wakes_up_and_one_whose_first_call_fails(http: aiohttp.ClientSession) -> None:
    async with pod(sleeps=True) as made:
        await made.engine.open()
        async with RouterProcess(sites(made), head=head()) as r:
            assert (await ask(http, r))[0] == 200
            for mishap in ("dies", "500"):
                made.said.clear()
                await until(lambda: made.said == ["/sleep"] and made.asleep)
                made.mishaps = [mishap]
                answers = await asyncio.gather(*(ask(http, r) for _ in range(5)))
                assert [status for status, _, _ in answers] == [200] * 5, mishap
                if mishap == "dies" and len(made.said) == 2:
                    made.said.append("/wake_up")  # it was seen to have started again before it was called again
                assert made.said == ["/sleep", "/wake_up", "/wake_up"], "one call, and one more after it failed"
                assert not made.asleep
            told = await story(r)
            assert told[:4] == ["asleep", "waking", "failed", "running"]
            assert told[4:8] == ["asleep", "waking", "failed", "running"]
            assert (await admin(r, "status"))["dormant"][0]["problem"] is None


async def test_a_deployment_that_cannot_be_scaled_at_first_and_whose_pod_dies_at_its_first_request(
    http: aiohttp.ClientSession,
) -> None:
    async with pod(sleeps=False) as made:
        wake = f'[models.m.wake]\nscale = "prod/deployments/vllm"\napi = "{made.api}"\n'
        async with RouterProcess(sites(made), head=head(wake)) as r:
            for _ in range(2):
                made.said.clear()
                made.mishaps, made.dies_at_work = ["500"], True
                answers = await asyncio.gather(*(ask(http, r) for _ in range(5)))
                assert [status for status, _, _ in answers] == [200] * 5
                assert made.said == ["scale 1", "scale 1"], "nobody sets it again while it is 1: the kubelet restarts"
                await until(lambda: made.replicas == 0)
            assert await state_of_model(r) == "asleep"


async def test_an_engine_that_slept_and_was_replaced_by_one_that_cannot(http: aiohttp.ClientSession) -> None:
    """It runs, though it was told to sleep: nobody calls for another one."""
    async with pod(sleeps=True) as made:
        await made.engine.open()
        async with RouterProcess(sites(made), head=head()) as r:
            assert (await ask(http, r))[0] == 200
            await until(lambda: made.asleep)
            made.sleeps = False
            await made.restart()
            assert (await ask(http, r))[0] == 200
            await until_async(lambda: state_of_model(r), "running")


async def test_an_engine_that_restarts_while_it_sleeps_is_put_to_sleep_again(http: aiohttp.ClientSession) -> None:
    """A process that was just started holds all the memory that its sleep was to free."""
    async with pod(sleeps=True) as made:
        await made.engine.open()
        async with RouterProcess(sites(made), head=head()) as r:
            assert (await ask(http, r))[0] == 200
            await until(lambda: made.said == ["/sleep"] and made.asleep)
            made.engine.sick_turns = 2
            await until(lambda: not made.engine.sick_turns)
            await asyncio.sleep(1.5)
            assert made.said == ["/sleep"], "it has missed probes and sleeps on"
            await made.restart(2.0)
            await until(lambda: made.said == ["/sleep", "/sleep"] and made.asleep)
            assert (await ask(http, r))[0] == 200
            assert made.said[:3] == ["/sleep", "/sleep", "/wake_up"]
