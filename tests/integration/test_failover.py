"""Backends that fail in every way before and after the first content token."""

from __future__ import annotations

import asyncio
import time

import aiohttp
import orjson
import pytest

from tests.integration.conftest import OPEN
from tests.support.backends import DONE, ROLE, SSE_HEAD, Call, ScriptedBackend, chunk, event, say_hello, whole
from tests.support.router import RouterProcess, Site
from tests.support.stopwatch import Stopwatch

CHAT = "/v1/chat/completions"
ASK = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
STREAM = {**ASK, "stream": True}
QUICK = OPEN + "[timeouts]\nfirst_token = 0.5\ntoken_gap = 0.5\nconnect = 0.3\nanswer = 0.7\n"


def two(bad: ScriptedBackend, good: ScriptedBackend) -> list[Site]:
    """The bad one is where the router stands, so it is asked first."""
    return [Site("near", "bad", bad.url), Site("far", "good", good.url)]


NEAR_FIRST = 'region = "near"\npolicy = "round_robin"\n' + QUICK


async def refuse_500(call: Call) -> None:
    await call.send(whole(500, {"error": {"message": "boom", "type": "x", "code": 500}}))


async def refuse_503(call: Call) -> None:
    await call.send(whole(503, {"error": {"message": "full", "code": 503}}))


async def refuse_429(call: Call) -> None:
    await call.send(whole(429, {"error": {"message": "full", "code": 429}}, headers=b"retry-after: 2\r\n"))


async def nothing_at_all(call: Call) -> None:
    await call.send(whole(200, b""))


async def busy_for_a_second(call: Call) -> None:
    await call.send(whole(503, {"error": {"message": "full", "code": 503}}, headers=b"retry-after: 1\r\n"))


async def wrong_key(call: Call) -> None:
    await call.send(whole(401, {"error": "Unauthorized"}))


async def redirect(call: Call) -> None:
    await call.send(whole(307, {}, headers=b"location: http://127.0.0.1:1/\r\n"))


async def close_at_once(call: Call) -> None:
    call.close()


async def reset_at_once(call: Call) -> None:
    call.reset()


async def not_http(call: Call) -> None:
    await call.send(b"220 smtp ready\r\n")


async def say_nothing(call: Call) -> None:
    await call.until_gone()


async def head_only(call: Call) -> None:
    await call.send(SSE_HEAD)
    await call.until_gone()


async def role_only_then_silence(call: Call) -> None:
    await call.send(SSE_HEAD, chunk(ROLE))
    await call.until_gone()


async def only_comments(call: Call) -> None:
    await call.send(SSE_HEAD, chunk(ROLE))
    for _ in range(60):
        await call.send(chunk(b": keep-alive\n\n"))
        await asyncio.sleep(0.1)


async def role_then_cut(call: Call) -> None:
    await call.send(SSE_HEAD, chunk(ROLE))
    call.close()


async def role_then_reset(call: Call) -> None:
    await call.send(SSE_HEAD, chunk(ROLE))
    await asyncio.sleep(0.05)
    call.reset()


async def role_then_done(call: Call) -> None:
    await call.send(SSE_HEAD, chunk(ROLE), b"0\r\n\r\n")


async def in_band_503(call: Call) -> None:
    await call.send(
        SSE_HEAD, chunk(b'data: {"error":{"message":"queue full","code":503}}\n\n'), chunk(DONE), b"0\r\n\r\n"
    )


async def in_band_500_after_role(call: Call) -> None:
    await call.send(SSE_HEAD, chunk(ROLE), chunk(b'data: {"error":{"message":"died","code":500}}\n\n'), chunk(DONE))
    await call.send(b"0\r\n\r\n")


async def half_a_whole_answer(call: Call) -> None:
    await call.send(b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: 500\r\n\r\n{"id":')
    call.close()


async def half_without_length(call: Call) -> None:
    await call.send(b'HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n{"id":')
    call.close()


STREAM_FAULTS = [
    refuse_500,
    refuse_503,
    refuse_429,
    wrong_key,
    redirect,
    close_at_once,
    reset_at_once,
    not_http,
    say_nothing,
    head_only,
    role_only_then_silence,
    only_comments,
    role_then_cut,
    role_then_reset,
    role_then_done,
    in_band_503,
    in_band_500_after_role,
]
WHOLE_FAULTS = [
    refuse_500,
    refuse_503,
    refuse_429,
    wrong_key,
    close_at_once,
    reset_at_once,
    not_http,
    say_nothing,
    half_a_whole_answer,
    half_without_length,
    nothing_at_all,
]


@pytest.mark.parametrize("fault", STREAM_FAULTS, ids=lambda f: f.__name__)
async def test_no_failure_before_the_first_token_is_seen_by_a_stream(http: aiohttp.ClientSession, fault) -> None:  # type: ignore[no-untyped-def]
    async with ScriptedBackend(fault) as bad, ScriptedBackend() as good:
        async with RouterProcess(two(bad, good), head=NEAR_FIRST) as r:
            seen_bad = 0
            for _ in range(4):
                watch = Stopwatch(r.process.pid)
                async with http.post(r.url + CHAT, json=STREAM) as reply:
                    text = await reply.read()
                    assert reply.status == 200
                    assert reply.headers["x-router-backend"] == "far/good"
                    assert text.endswith(DONE)
                    seen_bad += reply.headers["x-router-attempts"] == "2"
                    record = r.record(reply.headers["x-request-id"])
                    assert len(record["attempts"]) == int(reply.headers["x-router-attempts"])
                    assert {a["backend"] for a in record["attempts"][:-1]} <= {"near/bad"}
                assert watch.elapsed_s < 1.5
    assert seen_bad >= 1, "the bad backend was never tried: the test shows nothing"
    assert len(bad.calls) >= 1


@pytest.mark.parametrize("fault", WHOLE_FAULTS, ids=lambda f: f.__name__)
async def test_no_failure_before_the_answer_is_seen_by_a_plain_request(http: aiohttp.ClientSession, fault) -> None:  # type: ignore[no-untyped-def]
    async with ScriptedBackend(fault) as bad, ScriptedBackend() as good:
        async with RouterProcess(two(bad, good), head=NEAR_FIRST) as r:
            for _ in range(4):
                async with http.post(r.url + CHAT, json=ASK) as reply:
                    document = await reply.json()
                    assert reply.status == 200
                    assert document["choices"][0]["message"]["content"] == "hello"
    assert len(bad.calls) >= 1


#: The router, but each new connection to near/bad is closed before it can be used.
CLOSED_AT_ONCE = """
import asyncio, runpy
from router.upstream.pool import Pool
connect = Pool.connect
async def closed(pool, *how):
    outbound = await connect(pool, *how)
    if pool.spec.name == "near/bad":
        outbound.transport.abort()
        while outbound.usable:
            await asyncio.sleep(0)
    return outbound
Pool.connect = closed
runpy.run_module("router", run_name="__main__")
"""


async def test_a_connection_that_is_closed_before_it_is_used(http: aiohttp.ClientSession) -> None:
    async with ScriptedBackend() as bad, ScriptedBackend() as good:
        command = ("-X", "dev", "-c", CLOSED_AT_ONCE)
        async with RouterProcess(two(bad, good), head=NEAR_FIRST, command=command) as r:
            async with http.post(r.url + CHAT, json=ASK) as reply:
                assert reply.status == 200, await reply.text()
                assert reply.headers["x-router-backend"] == "far/good"
                assert reply.headers["x-router-attempts"] == "2"
        assert bad.calls == []


async def test_nobody_listens(http: aiohttp.ClientSession) -> None:
    async with ScriptedBackend() as bad, ScriptedBackend() as good:
        async with RouterProcess(two(bad, good), head=NEAR_FIRST) as r:
            await bad.shut()
            for _ in range(5):
                async with http.post(r.url + CHAT, json=STREAM) as reply:
                    assert reply.status == 200
                    await reply.read()
            await bad.open()
            end = time.monotonic() + 8
            while time.monotonic() < end and not bad.calls:
                async with http.post(r.url + CHAT, json=STREAM) as reply:
                    assert reply.status == 200
                    await reply.read()
                await asyncio.sleep(0.05)
            assert bad.calls, "the backend that came back was never used again"


@pytest.mark.parametrize("fault", ["refused", "500"])
async def test_a_failure_is_not_seen_while_another_backend_only_asked_for_a_moment(
    http: aiohttp.ClientSession, fault: str
) -> None:
    async with ScriptedBackend(refuse_500) as bad, ScriptedBackend() as good:
        async with RouterProcess(two(bad, good), head=NEAR_FIRST) as r:
            good.behaviour = busy_for_a_second
            async with http.post(r.url + CHAT, json=ASK, headers={"x-router-region": "far"}) as reply:
                assert reply.status == 503
            good.behaviour = say_hello
            if fault == "refused":
                await bad.shut()
            async with http.post(r.url + CHAT, json=ASK) as reply:
                assert reply.status == 200, await reply.text()
                assert reply.headers["x-router-backend"] == "far/good"
                assert reply.headers["x-router-attempts"] == "2"
                record = r.record(reply.headers["x-request-id"])
                assert 0.1 < record["wait_s"] < 2
            if fault == "refused":
                await bad.open()


async def test_one_dead_backend_answers_with_what_is_known(http: aiohttp.ClientSession) -> None:
    async with ScriptedBackend(refuse_500) as only:
        async with RouterProcess([Site("near", "only", only.url)], head=QUICK) as r:
            async with http.post(r.url + CHAT, json=STREAM) as reply:
                document = await reply.json()
                assert reply.status == 502
                assert document["error"]["code"] == "upstream_error"
                assert document["error"]["type"] == "server_error"


async def test_no_healthy_backend_is_503_with_retry_after(http: aiohttp.ClientSession) -> None:
    async with ScriptedBackend() as only, RouterProcess([Site("near", "only", only.url)], head=QUICK) as r:
        await only.shut()
        await r.until("/readyz", status=503)
        for _ in range(10):
            async with http.post(r.url + CHAT, json=STREAM) as reply:
                document = await reply.json()
                if reply.status == 503:
                    break
                assert reply.status == 502
        assert document["error"]["code"] == "no_backend"
        assert int(reply.headers["retry-after"]) >= 1
        await only.open()
        await r.until("/readyz")
        async with http.post(r.url + CHAT, json=STREAM) as reply:
            assert reply.status == 200


@pytest.mark.parametrize("status", [400, 404, 409, 413, 422])
async def test_a_client_error_is_the_clients(http: aiohttp.ClientSession, status: int) -> None:
    body = orjson.dumps({"error": {"message": "no", "type": "t", "param": "p", "code": status}})

    async def blame(call: Call) -> None:
        await call.send(whole(status, body))

    async with ScriptedBackend(blame) as bad, ScriptedBackend() as good:
        async with RouterProcess(two(bad, good), head=NEAR_FIRST) as r:
            statuses = set()
            for _ in range(12):
                async with http.post(r.url + CHAT, json=STREAM) as reply:
                    statuses.add(reply.status)
                    if reply.status == status:
                        assert (await reply.json())["error"] == {
                            "message": "no",
                            "type": "t",
                            "param": "p",
                            "code": None,
                        }
                        assert reply.headers["x-router-attempts"] == "1"
            assert statuses == {200, status}
            states = {b["name"]: b["state"] for b in r.ask_admin("/admin/v1/backends")["data"]}
            assert states["near/bad"] == "healthy"


@pytest.mark.parametrize(
    ("sent", "message"),
    [
        ({"object": "error", "message": "flat", "type": "BadRequestError", "param": None, "code": 400}, "flat"),
        ({"detail": "nope"}, "nope"),
        ({"error": "text", "error_type": "validation"}, "text"),
        (b"Internal", "Internal"),
    ],
)
async def test_errors_get_openais_shape(http: aiohttp.ClientSession, sent: object, message: str) -> None:
    async def blame(call: Call) -> None:
        await call.send(whole(400, sent))

    async with ScriptedBackend(blame) as b, RouterProcess([Site("near", "a", b.url)], head=QUICK) as r:
        async with http.post(r.url + CHAT, json=ASK) as reply:
            assert reply.status == 400
            assert (await reply.json())["error"]["message"] == message


CUTS = {
    "fin": lambda c: c.close(),
    "rst": lambda c: c.reset(),
}


async def cut_fin(call: Call) -> None:
    await call.stream("one", "two", finish=False)
    call.close()


async def cut_rst(call: Call) -> None:
    await call.stream("one", "two", finish=False)
    await asyncio.sleep(0.05)
    call.reset()


async def clean_end_without_finish(call: Call) -> None:
    await call.stream("one", "two", finish=False)
    await call.send(b"0\r\n\r\n")


async def cut_inside_an_event(call: Call) -> None:
    await call.stream("one", "two", finish=False)
    await call.send(chunk(event("three")[:40]))
    call.close()


async def error_then_done(call: Call) -> None:
    await call.stream("one", "two", finish=False)
    await call.send(chunk(b'data: {"error":{"message":"EngineCore died","code":500}}\n\n'), chunk(DONE), b"0\r\n\r\n")


async def stall(call: Call) -> None:
    await call.stream("one", "two", finish=False)
    await call.until_gone()


async def close_delimited(call: Call) -> None:
    await call.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n", ROLE, event("one"), event("two"))
    call.close()


@pytest.mark.parametrize(
    "cut",
    [cut_fin, cut_rst, clean_end_without_finish, cut_inside_an_event, error_then_done, stall, close_delimited],
    ids=lambda f: f.__name__,
)
async def test_a_broken_stream_is_never_reported_as_whole(http: aiohttp.ClientSession, cut) -> None:  # type: ignore[no-untyped-def]
    async with ScriptedBackend(cut) as b, RouterProcess([Site("near", "a", b.url)], head=QUICK) as r:
        async with http.post(r.url + CHAT, json=STREAM) as reply:
            assert reply.status == 200
            got = b""
            with pytest.raises(aiohttp.ClientPayloadError):
                async for data in reply.content.iter_any():
                    got += data
            record_id = reply.headers["x-request-id"]
        record = r.record(record_id)
    events = [e for e in got.split(b"\n\n") if e]
    assert event("two")[:-2] in events
    assert orjson.loads(events[-1][6:])["error"]["code"] == "stream_interrupted"
    assert b"[DONE]" not in got
    assert (record["cause"], record["error"]) == ("truncated", "stream_interrupted")
    assert record["output_tokens"] == 2


async def test_a_slow_but_living_stream_is_left_alone(http: aiohttp.ClientSession) -> None:
    """It takes longer than any limit, and no gap comes near one."""

    async def slow(call: Call) -> None:
        await call.stream("one", "two", "three", "four", "five", "six", "seven", gap_s=0.5)

    head = OPEN + "[timeouts]\nfirst_token = 3\ntoken_gap = 3\nanswer = 3\n"
    async with ScriptedBackend(slow) as b, RouterProcess([Site("near", "a", b.url)], head=head) as r:
        async with http.post(r.url + CHAT, json=STREAM) as reply:
            assert (await reply.read()).endswith(DONE)


async def test_what_follows_an_answer_is_not_taken_for_the_next(http: aiohttp.ClientSession) -> None:
    """Garbage behind an answer may arrive when the next request is on its way: that request is sent again."""
    seen: set[asyncio.StreamWriter] = set()

    async def behaviour(call: Call) -> None:
        if call.writer in seen:
            await call.send(b"evil")
            await call.until_gone()
        else:
            seen.add(call.writer)
            await say_hello(call)

    async with ScriptedBackend(behaviour) as b, RouterProcess([Site("near", "a", b.url)], head=OPEN) as r:
        for calls in (1, 3, 5):
            async with http.post(r.url + CHAT, json={"model": "m"}) as reply:
                assert reply.status == 200, await reply.text()
                assert reply.headers["x-router-attempts"] == "1"
            assert len(b.calls) == calls


async def test_a_stale_pooled_connection_costs_nothing(http: aiohttp.ClientSession) -> None:
    """Engines close idle connections after five seconds, now and then just as a request is on its way."""

    async def once(call: Call) -> None:
        await say_hello(call)
        if len(b.calls) % 2:
            call.writer.get_extra_info("socket")  # the next request on this connection meets a closed door
            b.behaviour = shut_door
        else:
            b.behaviour = once

    async def shut_door(call: Call) -> None:
        b.behaviour = once
        call.close()

    async with ScriptedBackend() as b:
        b.behaviour = once
        async with RouterProcess([Site("near", "a", b.url)], head=QUICK) as r:
            for _ in range(6):
                async with http.post(r.url + CHAT, json=STREAM) as reply:
                    assert reply.status == 200
                    assert reply.headers["x-router-attempts"] == "1"
                    await reply.read()


async def test_a_request_that_kills_backends_is_not_passed_on_for_ever(http: aiohttp.ClientSession) -> None:
    async def die_of_poison(call: Call) -> None:
        if b"poison" in call.body:
            call.close()
        else:
            await say_hello(call)

    async with (
        ScriptedBackend(die_of_poison) as a,
        ScriptedBackend(die_of_poison) as b,
        ScriptedBackend(die_of_poison) as c,
    ):
        backends = [a, b, c]
        async with RouterProcess([Site(f"r{i}", "x", x.url) for i, x in enumerate(backends)], head=QUICK) as r:
            poison = {"model": "m", "messages": [{"role": "user", "content": "poison"}]}
            async with http.post(r.url + CHAT, json=poison) as reply:
                assert reply.status == 502
            killed = sum(len(x.calls) for x in backends)
            assert killed == 2
            async with http.post(r.url + CHAT, json=poison) as reply:
                assert reply.status == 502
                assert reply.headers["retry-after"] == "2"
            assert sum(len(x.calls) for x in backends) == killed
            end = time.monotonic() + 10
            while reply.headers.get("x-should-retry") != "false":  # its trial comes when they are well again
                assert time.monotonic() < end
                await asyncio.sleep(0.2)
                async with http.post(r.url + CHAT, json=poison) as reply:
                    assert reply.status == 502
            for _ in range(3):
                async with http.post(r.url + CHAT, json=poison) as reply:
                    assert reply.headers["x-should-retry"] == "false"
            assert sum(len(x.calls) for x in backends) == killed + 1, "one trial is all it gets"
            async with http.post(r.url + CHAT, json=ASK) as reply:
                assert reply.status == 200
