"""However a request ends, what it used is free at once: no reference cycle is left to the garbage collector."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import aiohttp
import orjson
import pytest

from tests.integration.conftest import OPEN
from tests.support.backends import SSE_HEAD, Call, ScriptedBackend, answer, chunk, event, say_hello, whole
from tests.support.blackhole import blackhole
from tests.support.ports import free_port
from tests.support.router import RouterProcess, Site
from tests.support.watched_router import census

WATCHED = ("-m", "tests.support.watched_router")
REQUESTS = 12


async def _never(call: Call) -> None:
    await call.until_gone(30)


async def _close(call: Call) -> None:
    call.close()


async def _reset(call: Call) -> None:
    call.reset()


async def _fail(call: Call) -> None:
    await call.send(whole(500, {"error": {"message": "out of memory"}}))


async def _refuse(call: Call) -> None:
    await call.send(whole(400, {"error": {"message": "no such thing"}}))


async def _be_busy(call: Call) -> None:
    await call.send(whole(503, {"error": {"message": "busy"}}, headers=b"retry-after: 1\r\n"))


async def _talk_nonsense(call: Call) -> None:
    await call.send(b"\x00\x01\x02 nonsense\r\n\r\n")


async def _report(call: Call) -> None:
    await call.send(SSE_HEAD, chunk(b'data: {"error":{"message":"CUDA error","code":500}}\n\n'))
    await _never(call)


async def _stop_short(call: Call) -> None:
    await call.stream("hel", "lo", finish=False)
    call.reset()


async def _fall_silent(call: Call) -> None:
    await call.send(SSE_HEAD, chunk(event("hel")))
    await _never(call)


async def _end_early(call: Call) -> None:
    await call.send(answer()[:-9])
    call.close()


#: how it ends -> the backend, how the clients ask, and the statuses that they may get; None: they leave
WAYS: dict[str, tuple[Callable[[Call], Awaitable[None]], bool, set[int | None]]] = {
    "answers": (say_hello, False, {200}),
    "streams": (say_hello, True, {200}),
    "closes": (_close, False, {502, 503}),
    "resets": (_reset, True, {502, 503}),
    "fails": (_fail, False, {502, 503}),
    "refuses": (_refuse, True, {400}),
    "is busy": (_be_busy, False, {502, 503, 429}),
    "talks nonsense": (_talk_nonsense, False, {502, 503}),
    "reports its death": (_report, True, {502, 503}),
    "stops short": (_stop_short, True, {200, 502, 503}),
    "falls silent": (_fall_silent, True, {200, 502, 503}),
    "gives no token": (_never, True, {504, 502, 503}),
    "ends early": (_end_early, False, {502, 503}),
}


async def _ask(r: RouterProcess, body: object, leave_s: float = 60.0) -> int | None:
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    try:
        async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=leave_s)) as http:
            async with http.post(f"{r.url}/v1/chat/completions", data=data) as reply:
                with contextlib.suppress(aiohttp.ClientPayloadError):
                    await reply.read()
                return reply.status
    except TimeoutError:
        return None


def _asking(*, stream: bool = False, text: str = "hi") -> dict[str, object]:
    return {"model": "m", "messages": [{"role": "user", "content": text}], "stream": stream}


@asynccontextmanager
async def _watched(sites: list[Site], head: str = "") -> AsyncIterator[RouterProcess]:
    """A router. When it is left, nothing of any request was left to the collector."""
    limits = "[timeouts]\nfirst_token = 1.0\ntoken_gap = 1.0\n" if "[timeouts]" not in head else ""
    async with RouterProcess(sites, head=OPEN + limits + head, command=WATCHED, errors_allowed=True, wait=None) as r:
        await asyncio.to_thread(census, r.file)
        yield r
        async with asyncio.timeout(30):
            while True:
                held = await asyncio.to_thread(census, r.file)
                assert held["Cyclic"] == 0, held
                if not (held["Exchange"] or held["Flow"] or held["Relay"] or held["Lease"]):
                    break
                await asyncio.sleep(0.1)


async def _many(r: RouterProcess, body: object, leave_s: float = 60.0) -> set[int | None]:
    """The statuses of a dozen requests at once and of three in turn; None: the client left."""
    got = await asyncio.gather(*(_ask(r, body, leave_s) for _ in range(REQUESTS)))
    return {*got, *[await _ask(r, body, leave_s) for _ in range(3)]}


@pytest.mark.parametrize("way", WAYS)
async def test_whatever_a_backend_does(way: str) -> None:
    behaviour, stream, statuses = WAYS[way]
    async with ScriptedBackend(behaviour) as a, ScriptedBackend(behaviour) as b:
        sites = [Site("near", "a", a.url, models=["m"]), Site("near", "b", b.url, models=["m"])]
        async with _watched(sites) as r:
            assert await _many(r, _asking(stream=stream)) <= statuses
        assert len(a.calls) + len(b.calls) > 1


async def test_a_backend_where_nobody_listens() -> None:
    async with _watched([Site("near", n, f"http://127.0.0.1:{free_port()}", models=["m"]) for n in "ab"]) as r:
        assert await _many(r, _asking()) <= {502, 503}


async def test_a_name_of_which_no_address_answers() -> None:
    async with _watched([Site("near", "a", f"http://localhost:{free_port()}", models=["m"])]) as r:
        assert await _many(r, _asking()) <= {502, 503}


async def test_a_connection_that_does_not_come_about() -> None:
    with blackhole() as port:
        sites = [Site("near", name, f"http://127.0.0.1:{port}", models=["m"]) for name in "ab"]
        async with _watched(sites, "[timeouts]\nconnect = 0.2\n") as r:
            assert await _many(r, _asking()) <= {502, 503, 504}


async def test_a_client_that_leaves_while_a_connection_is_made() -> None:
    with blackhole() as port:
        sites = [Site("near", "a", f"http://127.0.0.1:{port}", models=["m"])]
        async with _watched(sites, "[timeouts]\nconnect = 2\n") as r:
            assert None in await _many(r, _asking(), leave_s=0.5)


async def test_a_long_body_that_makes_no_sense() -> None:
    async with ScriptedBackend() as b, _watched([Site("near", "a", b.url, models=["m"])]) as r:
        long = orjson.dumps(_asking(text="a" * 600_000))
        assert await _many(r, long[:-1]) == {400}
        assert await _many(r, long) == {200}


async def test_a_second_attempt_beside_the_first() -> None:
    """Every other request meets a backend that says nothing, and is answered by its second attempt."""
    heard = Counter[str]()

    async def now_and_then(call: Call) -> None:
        heard["calls"] += 1
        await (_never(call) if heard["calls"] > 12 and heard["calls"] % 2 else say_hello(call))

    async with ScriptedBackend(now_and_then) as a, ScriptedBackend(now_and_then) as b:
        sites = [Site("near", "a", a.url, models=["m"]), Site("near", "b", b.url, models=["m"])]
        more = "[timeouts]\nfirst_token = 30\n[hedge]\nenabled = true\nbudget = 50.0\nfloor = 0.1\n"
        async with _watched(sites, more) as r:
            async with asyncio.timeout(60):
                while heard["hedges"] < 3:
                    assert await _ask(r, _asking(stream=True)) in (200, 503)
                    records = await asyncio.to_thread(r.records)
                    heard["hedges"] = sum(one["attempts"] > 1 for one in records)
