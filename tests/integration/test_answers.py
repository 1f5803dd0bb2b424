"""What passes through: bytes of requests and answers, headers, models, ids; what does not: secrets and hop-by-hop."""

from __future__ import annotations

import asyncio
import itertools
import re

import aiohttp
import orjson
import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from tests.integration.conftest import OPEN
from tests.support.backends import Call, ScriptedBackend, answer, chunk, event, whole
from tests.support.effort import examples
from tests.support.raw import talk
from tests.support.router import RouterProcess, Site

CHAT = "/v1/chat/completions"
ASK = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}


def sites(*backends: ScriptedBackend) -> list[Site]:
    return [Site(f"region-{i}", "a", b.url) for i, b in enumerate(backends)]


async def test_a_whole_answer_arrives_byte_for_byte(http: aiohttp.ClientSession) -> None:
    body = b'{ "id" : "c1",\t"choices":[{"finish_reason":"stop"}], "big":123456789012345678901234567890, "usage":{"prompt_tokens":3,"completion_tokens":2}, "x":"\\u0000\\ud83d\\ude00" }\n'

    async def odd(call: Call) -> None:
        await call.send(whole(200, body))

    async with ScriptedBackend(odd) as b, RouterProcess(sites(b), head=OPEN) as r:
        async with http.post(r.url + CHAT, json=ASK) as reply:
            assert reply.status == 200
            assert await reply.read() == body
            assert reply.headers["x-router-backend"] == "region-0/a"
            assert reply.headers["x-router-region"] == "region-0"
            assert reply.headers["x-router-attempts"] == "1"
            assert "server-timing" in reply.headers
            record = r.record(reply.headers["x-request-id"])
    assert (record["prompt_tokens"], record["output_tokens"], record["usage_reported"]) == (3, 2, True)
    assert record["cause"] == "ok"


async def test_the_request_arrives_byte_for_byte_and_secrets_stay(http: aiohttp.ClientSession) -> None:
    body = b'{"z":1e400,"messages":[{"role":"user","content":"\\u00e4 \\ud83d\\ude00 \xc3\xa4"}],  "model" : "m","seed":98765432109876543210,"stream":false}'
    async with (
        ScriptedBackend() as b,
        RouterProcess(
            [Site("here", "a", b.url, extra='key_env = "A_KEY"')], head=OPEN, env={"A_KEY": "upstream-secret"}
        ) as r,
    ):
        headers = {
            "content-type": "application/json; charset=utf-8",
            "authorization": "Bearer client-secret",
            "x-api-key": "client-secret",
            "cookie": "client-secret",
            "proxy-authorization": "client-secret",
            "x-forwarded-for": "1.2.3.4",
            "connection": "x-custom",
            "x-custom": "dropped",
            "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "x-request-id": "my-id.1",
        }
        async with http.post(r.url + CHAT + "?a=b", data=body, headers=headers) as reply:
            assert reply.status == 200
            assert reply.headers["x-request-id"] == "my-id.1"
        record = r.record("my-id.1")
    (call,) = b.calls
    assert call.body == body
    assert call.head.startswith(b"POST /v1/chat/completions?a=b HTTP/1.1\r\n")
    assert b"client-secret" not in call.head
    assert b"authorization: Bearer upstream-secret\r\n" in call.head
    assert b"content-type: application/json; charset=utf-8\r\n" in call.head
    assert b"x-request-id: my-id.1\r\n" in call.head
    assert b"traceparent: 00-0af7" in call.head
    assert b"x-custom" not in call.head
    assert b"x-forwarded" not in call.head
    assert record["trace_id"] == "0af7651916cd43dd8448eb211c80319c"


async def test_a_stream_arrives_byte_for_byte_as_it_comes(http: aiohttp.ClientSession) -> None:
    async with ScriptedBackend() as b:
        sent = asyncio.Event()

        async def slowly(call: Call) -> None:
            await call.stream("one", finish=False)
            await sent.wait()
            await call.send(chunk(event("two")), chunk(event(None, "stop")), chunk(b"data: [DONE]\n\n"), b"0\r\n\r\n")

        b.behaviour = slowly
        async with RouterProcess(sites(b), head=OPEN) as r:
            async with http.post(r.url + CHAT, json={**ASK, "stream": True}) as reply:
                assert reply.headers["content-type"] == "text/event-stream; charset=utf-8"
                first = await reply.content.readuntil(b"one")
                sent.set()
                rest = await reply.content.read()
                record_id = reply.headers["x-request-id"]
            record = r.record(record_id)
    got = first + rest
    assert got.endswith(event("two") + event(None, "stop") + b"data: [DONE]\n\n")
    assert record["stream"] is True
    assert record["ttft_s"] is not None
    assert record["output_tokens"] == 3  # counted: two texts and the end, nobody reported


@examples(0.5, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    texts=st.lists(st.text(max_size=20), min_size=1, max_size=6),
    cuts=st.lists(st.integers(1, 2000), max_size=12),
    ending=st.sampled_from([b"\n\n", b"\r\n\r\n"]),
    extra=st.dictionaries(st.text(max_size=5), st.integers(-(10**30), 10**30), max_size=3),
)
async def test_any_split_of_any_stream_and_any_body(
    world: tuple[RouterProcess, ScriptedBackend],
    http: aiohttp.ClientSession,
    texts: list[str],
    cuts: list[int],
    ending: bytes,
    extra: dict[str, int],
) -> None:
    r, b = world
    events = [event(t) for t in texts] + [event(None, "stop"), b": ping\n\n", b"data: [DONE]\n\n"]
    body = b"".join(e[:-2] + ending for e in events)
    edges = sorted({0, len(body), *(c % len(body) for c in cuts)})

    async def split(call: Call) -> None:
        await call.send(b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        for start, end in itertools.pairwise(edges):
            await call.send(chunk(body[start:end]))
            await asyncio.sleep(0)
        await call.send(b"0\r\n\r\n")

    b.behaviour = split
    import json

    document = json.dumps({"stream": True, **ASK, **{f"x{k}": v for k, v in extra.items()}}).encode()
    async with http.post(r.url + CHAT, data=document, headers={"content-type": "application/json"}) as reply:
        assert await reply.read() == body
    asked = b'{"stream_options":{"include_usage":true},' + document[1:]
    assert b.calls[-1].body == asked


@pytest.fixture
async def world():  # type: ignore[no-untyped-def]
    async with ScriptedBackend() as b, RouterProcess(sites(b), head=OPEN) as r:
        yield r, b


async def test_any_path_below_v1_that_names_a_model(
    world: tuple[RouterProcess, ScriptedBackend], http: aiohttp.ClientSession
) -> None:
    r, b = world
    for path in ("/v1/images/variations", "/v1/rerank", "/v1/audio/speech", "/v1/some/new-thing", "/tokenize"):
        async with http.post(r.url + path, json={"model": "m", "input": "x"}) as reply:
            assert reply.status == 200, path
        assert b.calls[-1].head.startswith(b"POST " + path.encode() + b" ")
    form = aiohttp.FormData()
    form.add_field("file", b"RIFF", filename="a.wav")
    form.add_field("model", "m")
    async with http.post(r.url + "/v1/audio/transcriptions", data=form) as reply:
        assert reply.status == 200


async def test_models_and_health(world: tuple[RouterProcess, ScriptedBackend], http: aiohttp.ClientSession) -> None:
    r, _ = world
    async with http.get(r.url + "/v1/models") as reply:
        document = await reply.json()
        assert [m["id"] for m in document["data"]] == ["m"]
    async with http.get(r.url + "/v1/models/m") as reply:
        assert (await reply.json())["id"] == "m"
    async with http.get(r.url + "/v1/models/none") as reply:
        assert reply.status == 404
        assert (await reply.json())["error"]["code"] == "unknown_model"
    async with http.head(r.url + "/healthz") as reply:
        assert (reply.status, await reply.read()) == (200, b"")
    async with http.get(r.url + "/readyz") as reply:
        assert reply.status == 200
    async with http.options(r.url + CHAT) as reply:
        assert (reply.status, reply.headers["allow"]) == (200, "GET, HEAD, POST, DELETE, OPTIONS")


async def test_an_alias_is_rewritten_and_nothing_else(http: aiohttp.ClientSession) -> None:
    alias = OPEN + '[models.chat]\ntargets = [{ model = "m", weight = 1 }]\n'
    body = b'{"messages":[{"role":"user","content":"the \\"model\\": \\"chat\\" {"}],"meta":{"model":"chat"}, "model" :\t"chat","n":1}'
    async with ScriptedBackend() as b, RouterProcess(sites(b), head=alias) as r:
        async with http.post(r.url + CHAT, data=body, headers={"content-type": "application/json"}) as reply:
            assert reply.status == 200
            assert reply.headers["x-router-model"] == "m"
        async with http.get(r.url + "/v1/models") as reply:
            assert [m["id"] for m in (await reply.json())["data"]] == ["chat", "m"]
    assert b.calls[0].body == body.replace(b'"model" :\t"chat"', b'"model" :\t"m"')


async def test_fallback_model_when_the_first_has_no_backend(http: aiohttp.ClientSession) -> None:
    alias = OPEN + '[models.chat]\ntargets = [{ model = "gone", weight = 1 }]\nfallbacks = ["m"]\n'
    async with ScriptedBackend() as b, RouterProcess(sites(b), head=alias) as r:
        async with http.post(r.url + CHAT, json={**ASK, "model": "chat"}) as reply:
            assert reply.status == 200
            assert reply.headers["x-router-model"] == "m"


async def test_http_10_clients_get_an_unchunked_stream(world: tuple[RouterProcess, ScriptedBackend]) -> None:
    r, _ = world
    host, port = r.listen.split(":")
    body = orjson.dumps({**ASK, "stream": True})
    raw = await talk(
        (host, int(port)),
        b"POST %b HTTP/1.0\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
        % (CHAT.encode(), len(body), body),
        timeout_s=1,
    )
    head, _, rest = raw.partition(b"\r\n\r\n")
    assert b"transfer-encoding" not in head.lower()
    assert rest.endswith(b"data: [DONE]\n\n")
    assert re.match(rb"HTTP/1.1 200 ", head)


async def test_pipelined_requests_are_answered_in_order(world: tuple[RouterProcess, ScriptedBackend]) -> None:
    r, b = world
    order = iter([0.2, 0.0, 0.1])

    async def varied(call: Call) -> None:
        await asyncio.sleep(next(order))
        await call.send(answer(orjson.loads(call.body)["messages"][0]["content"]))

    b.behaviour = varied
    host, port = r.listen.split(":")
    asks = b""
    for text in ("first", "second", "third"):
        body = orjson.dumps({"model": "m", "messages": [{"role": "user", "content": text}]})
        asks += (
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b"
            % (len(body), body)
        )
    raw = await talk((host, int(port)), asks, timeout_s=1)
    assert re.findall(rb"first|second|third", raw) == [b"first", b"second", b"third"]
