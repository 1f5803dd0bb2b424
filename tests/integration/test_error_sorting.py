"""Whose fault an error is, end to end: who is asked next, what the client reads, whose health suffers."""

from __future__ import annotations

import asyncio
import json
import resource
import ssl
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import aiohttp
import pytest

from tests.integration.conftest import OPEN
from tests.support.backends import DONE, SSE_HEAD, Call, ScriptedBackend, chunk, say_hello, whole
from tests.support.certificates import certificate
from tests.support.router import RouterProcess, Site

CHAT, MESSAGES = "/v1/chat/completions", "/v1/messages"
ASK = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
TURNS = 'policy = "round_robin"\n' + OPEN
TRACEBACK = (
    "n must be 1\n\n"
    '  File "/models/venv/lib/python3.11/site-packages/sglang/srt/entrypoints/http_server.py", line 1870, in chat\n'
    "    POST /v1/chat/completions [secret]"
)

Behaviour = Callable[[Call], Awaitable[None]]


def saying(status: int, document: object, headers: bytes = b"") -> Behaviour:
    async def answer(call: Call) -> None:
        await call.send(whole(status, document, headers=headers))

    return answer


def in_band(document: object) -> Behaviour:
    async def answer(call: Call) -> None:
        await call.send(SSE_HEAD, chunk(b"data: " + json.dumps(document).encode() + b"\n\n"), chunk(DONE), b"0\r\n\r\n")

    return answer


def states(r: RouterProcess) -> set[str]:
    return {b["state"] for b in r.ask_admin("/admin/v1/backends")["data"]}


CLIENTS = [
    (in_band({"error": {"message": "maximum context length", "code": "context_length_exceeded"}}), 400, "context_length_exceeded"),
    (in_band({"error": {"message": "x", "type": "invalid_request_error"}}), 400, None),
    (saying(500, {"error": {"code": 500, "message": "image input is not supported", "type": "server_error"}}), 400, "unsupported_value"),
    (saying(501, {"error": {"code": 501, "message": "no", "type": "not_supported_error"}}), 400, "unsupported_value"),
    (saying(404, {"object": "error", "message": "The model `m` does not exist.", "param": "model", "code": 404}), 404, "model_not_found"),
    (saying(409, {"error": {"message": "x", "code": "conflict"}}), 409, "conflict"),
]  # fmt: skip


async def test_the_clients_fault_costs_nobody_else_anything(http: aiohttp.ClientSession) -> None:
    async with ScriptedBackend() as a, ScriptedBackend() as b:
        async with RouterProcess([Site("x", "a", a.url), Site("y", "b", b.url)], head=TURNS) as r:
            for behaviour, status, code in CLIENTS:
                a.behaviour = b.behaviour = behaviour
                for _ in range(12):
                    async with http.post(r.url + CHAT, json={**ASK, "stream": True}) as reply:
                        assert reply.status == status
                        assert (await reply.json())["error"]["code"] == code
                assert states(r) == {"healthy"}
            a.behaviour = b.behaviour = say_hello
            async with http.post(r.url + CHAT, json=ASK) as reply:
                assert reply.status == 200


ELSEWHERE = [
    saying(404, {"detail": "Not Found"}),
    saying(405, {"detail": "Method Not Allowed"}),
    saying(500, {"error": {"code": 500, "message": "image input is not supported", "type": "server_error"}}),
    saying(529, {"error": {"message": "overloaded", "type": "overloaded_error"}}),
    saying(402, {"error": {"message": "no credit"}}),
    saying(424, {"error": "failed", "error_type": "generation"}),
    saying(499, b""),
    saying(400, {"error": {"message": "x", "code": "model_not_found"}}),
]


async def test_what_another_backend_may_do_better_it_is_asked(http: aiohttp.ClientSession) -> None:
    async with ScriptedBackend() as bad, ScriptedBackend() as good:
        async with RouterProcess([Site("x", "bad", bad.url), Site("y", "good", good.url)], head=TURNS) as r:
            for behaviour in ELSEWHERE:
                bad.behaviour = say_hello  # who fails again and again comes last: it answers well in between
                async with http.post(r.url + CHAT, json=ASK, headers={"x-router-region": "x"}) as reply:
                    assert reply.status == 200, await reply.text()
                bad.behaviour, asked = behaviour, len(bad.calls)
                for _ in range(4):
                    async with http.post(r.url + CHAT, json=ASK) as reply:
                        assert reply.status == 200, await reply.text()
                    if len(bad.calls) > asked:
                        break
                assert len(bad.calls) > asked


async def test_a_backend_that_denies_a_model_is_asked_for_its_models_at_once(http: aiohttp.ClientSession) -> None:
    deny = saying(404, {"error": {"message": "The model `m` does not exist.", "code": 404}})
    async with ScriptedBackend(deny) as bad, ScriptedBackend() as good:
        async with RouterProcess([Site("x", "bad", bad.url), Site("y", "good", good.url)], head=TURNS) as r:
            bad.model = "other"  # it has changed its mind since it was asked
            for _ in range(4):
                async with http.post(r.url + CHAT, json=ASK) as reply:
                    assert reply.status == 200
            assert len(bad.calls) == 1, "once it has denied the model, the others get it"
            end_s = time.monotonic() + 5
            while "other" not in r.ask_admin("/admin/v1/backends")["data"][0]["models"]:
                assert time.monotonic() < end_s, "its list is asked for each 30 s without that"
                await asyncio.sleep(0.05)


async def test_no_traceback_path_or_address_reaches_a_client(http: aiohttp.ClientSession) -> None:
    blame = saying(400, {"object": "error", "message": TRACEBACK, "type": "Bad Request", "param": None, "code": 400})
    async with ScriptedBackend(blame) as b, RouterProcess([Site("x", "a", b.url)], head=TURNS) as r:
        async with http.post(r.url + CHAT, json=ASK) as reply:
            assert reply.status == 400
            assert (await reply.json())["error"] == {
                "message": "n must be 1",
                "type": "Bad Request",
                "param": None,
                "code": None,
            }


async def test_anthropics_routes_speak_anthropics_dialect(http: aiohttp.ClientSession) -> None:
    async def begin_and_break(call: Call) -> None:
        await call.send(SSE_HEAD)
        for kind, rest in (
            ("message_start", '"message":{"usage":{"input_tokens":1,"output_tokens":0}}'),
            ("content_block_delta", '"index":0,"delta":{"type":"text_delta","text":"hi"}'),
        ):
            await call.send(chunk(f'event: {kind}\ndata: {{"type":"{kind}",{rest}}}\n\n'.encode()))
        await asyncio.sleep(0.1)
        call.reset()

    async with ScriptedBackend(begin_and_break) as b:
        async with RouterProcess([Site("x", "a", b.url)], head=TURNS + "[limits]\nbody_bytes = 1024\n") as r:
            for body, status, kind in (
                ({**ASK, "model": "nope"}, 404, "not_found_error"),
                ({"messages": []}, 400, "invalid_request_error"),
                ({**ASK, "x": "x" * 2000}, 413, "request_too_large"),
            ):
                async with http.post(r.url + MESSAGES, json=body) as reply:
                    document = await reply.json()
                    assert (reply.status, document["type"], document["error"]["type"]) == (status, "error", kind)
                    assert document["request_id"] == reply.headers["x-request-id"]
            async with http.get(r.url + MESSAGES) as reply:
                assert (reply.status, (await reply.json())["type"]) == (405, "error")
            text = b""
            with pytest.raises(aiohttp.ClientPayloadError):
                async with http.post(r.url + MESSAGES, json={**ASK, "stream": True}) as reply:
                    async for piece in reply.content.iter_any():
                        text += piece
            last = text.rstrip().rpartition(b"\n\n")[2]
            event, _, data = last.partition(b"\n")
            assert event == b"event: error"
            assert json.loads(data.removeprefix(b"data: "))["error"]["type"] == "api_error"
            b.behaviour = saying(400, {"type": "error", "error": {"type": "BadRequestError", "message": "no"}})
            async with http.post(r.url + MESSAGES, json=ASK) as reply:
                document = await reply.json()
                assert (document["type"], document["error"]["type"]) == ("error", "invalid_request_error")


async def test_a_body_that_was_there_when_backends_were_restarted_is_served_when_they_are_back(
    http: aiohttp.ClientSession,
) -> None:
    async def reset(call: Call) -> None:
        call.reset()

    async with ScriptedBackend(reset) as a, ScriptedBackend(reset) as b:
        async with RouterProcess([Site("x", "a", a.url), Site("y", "b", b.url)], head=TURNS) as r:
            async with http.post(r.url + CHAT, json=ASK) as reply:
                assert reply.status == 502
            async with http.post(r.url + CHAT, json=ASK) as reply:
                assert reply.status in (502, 503)
            assert len(a.calls) + len(b.calls) == 2, "not while they may be away"
            a.behaviour = b.behaviour = say_hello
            end_s = time.monotonic() + 10
            while True:
                async with http.post(r.url + CHAT, json=ASK) as reply:
                    if reply.status == 200:
                        break
                assert time.monotonic() < end_s
                await asyncio.sleep(0.2)
            for _ in range(5):
                async with http.post(r.url + CHAT, json=ASK) as reply:
                    assert reply.status == 200


async def test_a_router_without_descriptors_blames_no_backend(http: aiohttp.ClientSession) -> None:
    async with ScriptedBackend() as a, ScriptedBackend() as b:
        async with RouterProcess([Site("x", "a", a.url), Site("y", "b", b.url)], head=TURNS) as r:
            limits = resource.prlimit(r.process.pid, resource.RLIMIT_NOFILE)
            async with http.get(r.url + "/healthz") as reply:  # this connection is kept
                assert reply.status == 200
            await asyncio.sleep(4.5)  # no warm connection to a backend is left
            resource.prlimit(r.process.pid, resource.RLIMIT_NOFILE, (8, limits[1]))
            for _ in range(6):
                async with http.post(r.url + CHAT, json=ASK) as reply:
                    document = await reply.json()
                    assert reply.status == 503
                    assert document["error"]["code"] == "router_exhausted"
                    assert reply.headers["x-should-retry"] == "true"
            resource.prlimit(r.process.pid, resource.RLIMIT_NOFILE, limits)
            async with http.post(r.url + CHAT, json=ASK) as reply:
                assert reply.status == 200, await reply.text()
            assert states(r) == {"healthy"}


@pytest.mark.parametrize(
    ("host", "trusted", "words"), [("localhost", False, "self-signed"), ("other", True, "another name")]
)
async def test_a_certificate_that_is_refused_is_named_with_its_fault(
    http: aiohttp.ClientSession, tmp_path: Path, host: str, trusted: bool, words: str
) -> None:
    made = certificate(tmp_path, "engine", host=host)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made.cert, made.key)
    server = await asyncio.start_server(lambda _, writer: writer.close(), "127.0.0.1", 0, ssl=context)
    url = f"https://localhost:{server.sockets[0].getsockname()[1]}"
    env = {"SSL_CERT_FILE": str(made.cert)} if trusted else {}
    async with server, RouterProcess([Site("x", "a", url, models=["m"])], head=TURNS, env=env, wait=None) as r:
        async with http.post(r.url + CHAT, json=ASK) as reply:
            assert words in (await reply.json())["error"]["message"]
        probed = await asyncio.to_thread(r.ask_admin, "/admin/v1/backends/x/a/probe", {})
        assert words in probed["probe"]["error"]
