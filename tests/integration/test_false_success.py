"""What engines pass off as success: a 200 without an answer, streams that end or do not end, forms that do not say so."""

from __future__ import annotations

import asyncio
import http.client
import time
from collections.abc import Iterator

import aiohttp
import orjson
import pytest

from tests.integration.conftest import OPEN
from tests.support.backends import DONE, ROLE, SSE_HEAD, Call, ScriptedBackend, chunk, event, say_hello, whole
from tests.support.router import RouterProcess, Site
from tests.support.threads import backend_on_a_thread

CHAT = "/v1/chat/completions"
TIMES = OPEN + "[timeouts]\nfirst_token = 3\ntoken_gap = 1\nanswer = 8\n"
USAGE = b'data: {"id":"c1","choices":[],"usage":{"prompt_tokens":7,"completion_tokens":20}}\n\n'
BODIES = {
    CHAT: {"messages": [{"role": "user", "content": "hi"}]},
    "/v1/completions": {"prompt": "hi"},
    "/v1/responses": {"input": "hi"},
    "/v1/messages": {"messages": [], "max_tokens": 5},
    "/v1/embeddings": {"input": "hi"},
    "/v1/audio/speech": {"input": "hi", "voice": "v"},
}


class Script:
    """What the backend does next."""

    def __init__(self) -> None:
        self.behaviour = say_hello

    async def __call__(self, call: Call) -> None:
        await self.behaviour(call)


@pytest.fixture(scope="module")
def world() -> Iterator[tuple[RouterProcess, Script, ScriptedBackend]]:
    script = Script()
    with backend_on_a_thread(ScriptedBackend(script)) as backend:
        with RouterProcess([Site("near", "a", backend.url)], head=TIMES) as r:
            yield r, script, backend


World = tuple[RouterProcess, Script, ScriptedBackend]


def post(r: RouterProcess, path: str, **members: object) -> tuple[int, bytes, dict[str, str]]:
    host, port = r.listen.split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=20)
    document = orjson.dumps({"model": "m", **BODIES[path], **members})
    connection.request("POST", path, document, {"content-type": "application/json"})
    answer = connection.getresponse()
    try:
        body = answer.read()
    except http.client.IncompleteRead as cut:
        body = cut.partial + b"<cut>"
    headers = {name.lower(): value for name, value in answer.getheaders()}
    connection.close()
    return answer.status, body, headers


ENDS = b"0\r\n\r\n"
STREAMS = {
    "done": [DONE],
    "role": [ROLE, DONE],
    "usage": [USAGE, DONE],
    "detail": [b'data: {"detail":"boom"}\n\n', DONE],
    "flat": [b'data: {"object":"error","message":"boom","type":"InternalServerError","code":500}\n\n', DONE],
    "named": [b'event: error\ndata: {"message":"boom"}\n\n', DONE],
    "field": [b'error: {"code":500,"message":"boom"}\n\n', DONE],
    "abort": [ROLE, event(None, "abort"), DONE],
    "nothing": [],
    "html": [b"<html><body>Bad gateway</body></html>"],
}
WHOLES = {
    "error": b'{"error":{"message":"boom"}}',
    "text": b'{"error":"boom"}',
    "detail": b'{"detail":"boom"}',
    "flat": b'{"object":"error","message":"boom","code":500}',
    "empty": b"",
    "html": b"<!doctype html><html>502</html>",
}


@pytest.mark.parametrize("path", [path for path in BODIES if path != "/v1/embeddings"])
@pytest.mark.parametrize("name", STREAMS)
def test_a_stream_without_content_is_the_engines_failure(world: World, name: str, path: str) -> None:
    r, script, _ = world

    async def fail(call: Call) -> None:
        await call.send(SSE_HEAD, *map(chunk, STREAMS[name]), ENDS)

    script.behaviour = fail
    status, body, headers = post(r, path, stream=True)
    assert status == 502, body
    assert r.record(headers["x-request-id"])["attempts"][0]["outcome"] == "server_error"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("path", BODIES)
@pytest.mark.parametrize("name", WHOLES)
def test_a_whole_answer_without_what_was_asked_for_is_the_engines_failure(
    world: World, name: str, path: str, stream: bool
) -> None:
    r, script, _ = world
    script.behaviour = lambda call: call.send(whole(200, WHOLES[name]))
    status, body, headers = post(r, path, stream=stream)
    assert status == 502, body
    assert r.record(headers["x-request-id"])["attempts"][0]["outcome"] == "server_error"


def test_a_client_error_inside_a_200_is_the_clients(world: World) -> None:
    r, script, _ = world
    script.behaviour = lambda call: call.send(whole(200, {"object": "error", "message": "too long", "code": 400}))
    status, body, _ = post(r, CHAT)
    assert (status, orjson.loads(body)["error"]["message"]) == (400, "too long")


@pytest.mark.parametrize(
    "media", [b"text/plain", b"Text/Event-Stream", b"application/json", b"application/octet-stream"]
)
def test_a_stream_of_events_is_known_whatever_it_calls_itself(world: World, media: bytes) -> None:
    r, script, _ = world

    async def cut(call: Call) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\n\r\n" % media
        await call.send(head, chunk(event("one")))
        await asyncio.sleep(0.3)
        await call.send(ENDS)

    script.behaviour = cut
    status, body, headers = post(r, CHAT, stream=True)
    assert status == 200
    assert body.startswith(event("one"))
    assert b"stream_interrupted" in body  # so it was watched as a stream
    assert headers["x-accel-buffering"] == "no"


@pytest.mark.parametrize(
    ("path", "media", "first"),
    [
        ("/v1/audio/speech", b"audio/pcm", b"\x00\x01"),
        ("/v1/audio/speech", b"application/x-ndjson", b'{"audio":"AA=="}\n'),
        ("/v1/audio/speech", b"application/json", b'{"audio":"AA=="}\n'),
        ("/v1/audio/speech", b"text/plain", b"hello"),
        (CHAT, b"application/x-ndjson", b'{"message":{"content":"x"},"done":false}\n'),
    ],
)
async def test_what_streams_in_another_form_is_passed_on_as_it_comes(
    http: aiohttp.ClientSession, world: World, path: str, media: bytes, first: bytes
) -> None:
    r, script, _ = world

    async def slowly(call: Call) -> None:
        head = b"HTTP/1.1 200 OK\r\ncontent-type: %b\r\ntransfer-encoding: chunked\r\n\r\n" % media
        await call.send(head, chunk(first))
        await asyncio.sleep(0.8)
        await call.send(chunk(b"end"), ENDS)

    script.behaviour = slowly
    began_s = time.monotonic()
    async with http.post(r.url + path, json={"model": "m", **BODIES[path], "stream": True}) as reply:
        assert await reply.content.readexactly(len(first)) == first
        first_s = time.monotonic() - began_s
        assert await reply.read() == b"end"
        assert reply.headers["x-accel-buffering"] == "no"
        assert "no-cache" in reply.headers["cache-control"]
    assert time.monotonic() - began_s - first_s > 0.3


@pytest.mark.parametrize("left_open", [False, True])
def test_an_answer_ends_soon_after_done(world: World, left_open: bool) -> None:
    r, script, _ = world

    async def hold(call: Call) -> None:
        await call.send(SSE_HEAD, chunk(event("one")), chunk(event(None, "stop")), chunk(DONE))
        if left_open:
            for _ in range(40):
                await asyncio.sleep(0.1)
                await call.send(chunk(b": ping\n\n"))
        await call.send(ENDS)

    script.behaviour = hold
    began_s = time.monotonic()
    status, body, headers = post(r, CHAT, stream=True)
    assert status == 200
    assert DONE in body
    assert b"error" not in body
    assert b"<cut>" not in body
    assert time.monotonic() - began_s < 3
    assert r.record(headers["x-request-id"])["cause"] == "ok"


def test_comments_are_a_sign_of_life_after_the_first_token(world: World) -> None:
    r, script, _ = world

    async def hold_back(call: Call) -> None:
        await call.send(SSE_HEAD, chunk(event("one")))
        for _ in range(10):
            await asyncio.sleep(0.25)
            await call.send(chunk(b": keep-alive\n\n"))
        await call.send(chunk(event(None, "stop")), chunk(DONE), ENDS)

    script.behaviour = hold_back
    status, body, _ = post(r, CHAT, stream=True)
    assert status == 200
    assert body.endswith(DONE)
    assert body.count(b": keep-alive") == 10


def test_the_usage_is_asked_for_and_hidden(world: World) -> None:
    r, script, backend = world

    async def report(call: Call) -> None:
        events = [event("a"), event(None, "stop"), *([USAGE] if b"include_usage" in call.body else []), DONE]
        await call.send(SSE_HEAD, *map(chunk, events), ENDS)

    script.behaviour = report
    _, body, headers = post(r, CHAT, stream=True)
    assert body == event("a") + event(None, "stop") + DONE
    assert orjson.loads(backend.calls[-1].body)["stream_options"] == {"include_usage": True}
    record = r.record(headers["x-request-id"])
    assert (record["prompt_tokens"], record["output_tokens"], record["usage_reported"]) == (7, 20, True)
    _, body, _ = post(r, CHAT, stream=True, stream_options={"include_usage": True})
    assert body == event("a") + event(None, "stop") + USAGE + DONE


def test_an_engine_that_does_not_take_the_option_gets_the_clients_body() -> None:
    script = Script()

    async def strict(call: Call) -> None:
        if b"stream_options" in call.body:
            await call.send(whole(422, {"detail": "Unexpected keys: stream_options"}))
        else:
            await say_hello(call)

    script.behaviour = strict
    with (
        backend_on_a_thread(ScriptedBackend(script)) as backend,
        RouterProcess([Site("near", "a", backend.url)], head=TIMES) as r,
    ):
        for calls in (2, 3):  # once refused, it is not tried again
            status, body, _ = post(r, CHAT, stream=True)
            assert (status, body.endswith(DONE)) == (200, True)
            assert len(backend.calls) == calls


def test_a_204_with_a_body_leaves_nobody_waiting(world: World) -> None:
    r, script, _ = world
    script.behaviour = lambda call: call.send(b"HTTP/1.1 204 No Content\r\ncontent-length: 5\r\n\r\nhello")
    began_s = time.monotonic()
    assert post(r, CHAT)[0] == 502
    assert time.monotonic() - began_s < 3


def test_an_engine_that_fails_fast_draws_no_traffic() -> None:
    """Three engines; one answers every stream with [DONE] at once: it is the fastest."""

    async def fail(call: Call) -> None:
        await call.send(SSE_HEAD, chunk(DONE), ENDS)

    with (
        backend_on_a_thread(ScriptedBackend(fail)) as bad,
        backend_on_a_thread(ScriptedBackend()) as good,
        backend_on_a_thread(ScriptedBackend()) as other,
        RouterProcess([Site("near", n, b.url) for n, b in (("a", bad), ("b", good), ("c", other))], head=TIMES) as r,
    ):
        for _ in range(30):
            status, body, _ = post(r, CHAT, stream=True)
            assert (status, body.endswith(DONE)) == (200, True)
        assert len(bad.calls) < 10


LONG = "x" * 400_000  # an engine repeats instructions of as much before it says anything


def test_a_whole_answer_that_first_repeats_the_request_is_good(world: World) -> None:
    r, script, _ = world
    document = {"id": "r1", "instructions": LONG, "output": [{"type": "message"}], "status": "completed"}
    script.behaviour = lambda call: call.send(whole(200, document))
    status, body, _ = post(r, "/v1/responses", instructions=LONG)
    assert (status, orjson.loads(body)) == (200, document)


def test_a_stream_that_first_repeats_the_request_has_not_begun(world: World) -> None:
    r, script, _ = world
    created = orjson.dumps({"type": "response.created", "response": {"id": "r1", "instructions": LONG}})

    async def die(call: Call) -> None:
        await call.send(SSE_HEAD, chunk(b"event: response.created\ndata: %b\n\n" % created))
        await asyncio.sleep(0.1)
        call.reset()

    script.behaviour = die
    status, body, headers = post(r, "/v1/responses", stream=True, instructions=LONG)
    assert status in (502, 503), body[-200:]
    assert r.record(headers["x-request-id"])["attempts"][0]["outcome"] == "unreachable"


@pytest.mark.parametrize("status", [204, 205])
def test_a_success_without_a_body_is_the_engines_failure(world: World, status: int) -> None:
    r, script, _ = world
    script.behaviour = lambda call: call.send(b"HTTP/1.1 %d X\r\ncontent-length: 0\r\n\r\n" % status)
    assert post(r, CHAT)[0] == 502
