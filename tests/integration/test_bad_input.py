"""Requests that cannot be served end with OpenAI's error body, before any backend is touched."""

from __future__ import annotations

import asyncio
import io
import re
from email.utils import parsedate_to_datetime

import aiohttp
import pytest

from tests.integration.conftest import OPEN
from tests.support.backends import ScriptedBackend
from tests.support.ports import free_port
from tests.support.raw import statuses, talk
from tests.support.router import RouterProcess, Site

CHAT = "/v1/chat/completions"
JSON = {"content-type": "application/json"}
GOOD = b'{"model":"m","messages":[]}'

BAD_BODIES = {
    "empty": (b"", 400, "invalid_request", None),
    "not json": (b"hello", 400, "invalid_request", None),
    "cut": (b'{"model":"m"', 400, "invalid_request", None),
    "a list": (b"[1]", 400, "invalid_request", None),
    "a string": (b'"m"', 400, "invalid_request", None),
    "null": (b"null", 400, "invalid_request", None),
    "trailing": (GOOD + b"x", 400, "invalid_request", None),
    "bad utf-8": (b'{"model":"m","x":"\xff"}', 400, "invalid_request", None),
    "no model": (b"{}", 400, "invalid_request", "model"),
    "empty model": (b'{"model":""}', 400, "invalid_request", "model"),
    "null model": (b'{"model":null}', 400, "invalid_request", "model"),
    "model is a number": (b'{"model":3}', 400, "invalid_request", "model"),
    "stream is text": (b'{"model":"m","stream":"yes"}', 400, "invalid_request", "stream"),
    "n is text": (b'{"model":"m","n":"two"}', 400, "invalid_request", "n"),
    "deep list": (b'{"model":"m","x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", 400, "invalid_request", None),
    "deep object": (
        b'{"model":"m","x":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_000 + b"}",
        400,
        "invalid_request",
        None,
    ),
    "deep messages": (b'{"model":"m","messages":' + b"[" * 100_000, 400, "invalid_request", None),
    "unknown model": (b'{"model":"nope"}', 404, "unknown_model", "model"),
    "long unknown model": (b'{"model":"%b"}' % (b"x" * 5000), 404, "unknown_model", "model"),
    "too large": (b'{"model":"m","x":"%b"}' % (b"x" * 1_100_000), 413, "body_too_large", None),
}


@pytest.fixture(scope="module")
def world():  # type: ignore[no-untyped-def]
    """One router for the whole file: it must survive every request in it. Its backend runs on a thread of its own."""
    import threading

    backend = ScriptedBackend()
    ready, stop = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()

    async def serve() -> None:
        async with backend:
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(serve()))
    thread.start()
    ready.wait(60)
    try:
        with RouterProcess(
            [Site("near", "a", backend.url)],
            head='[auth]\nmode = "keys"\n[limits]\nbody_bytes = 1048576\n[plans.default]\n',
        ) as r:
            yield r, backend, r.create_key()
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join(60)
        loop.close()


@pytest.mark.parametrize("name", BAD_BODIES)
async def test_bad_bodies(world, http: aiohttp.ClientSession, name: str) -> None:  # type: ignore[no-untyped-def]
    r, backend, key = world
    body, status, code, param = BAD_BODIES[name]
    before = len(backend.calls)
    async with http.post(
        r.url + CHAT, data=io.BytesIO(body), headers={**JSON, "authorization": f"Bearer {key}"}
    ) as reply:
        document = await reply.json()
        assert reply.status == status, document
    error = document["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert (error["code"], error["param"]) == (code, param)
    assert len(error["message"]) < 500
    assert len(backend.calls) == before
    if code == "unknown_model":
        assert "m." in error["message"], "it names the models there are"


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer wrong"},
        {"authorization": "Bearer "},
        {"authorization": "Basic eDp5"},
        {"authorization": "Bearer ' OR '1'='1"},
        {"authorization": "Bearer " + "x" * 8000},
        {"authorization": "Bearer mr-\xe4"},
        {"x-api-key": "wrong"},
        {"api-key": "wrong"},
    ],
    ids=range(9),
)
@pytest.mark.parametrize("path", [CHAT, "/v1/models"])
async def test_one_constant_401(world, http: aiohttp.ClientSession, headers: dict[str, str], path: str) -> None:  # type: ignore[no-untyped-def]
    r, backend, _ = world
    before = len(backend.calls)
    method = "GET" if path == "/v1/models" else "POST"
    async with http.request(
        method, r.url + path, data=GOOD if method == "POST" else None, headers={**JSON, **headers}
    ) as reply:
        assert reply.status == 401
        assert await reply.read() == (
            b'{"error":{"message":"Missing or invalid API key.","type":"authentication_error","param":null,"code":"unauthorized"}}'
        )
    assert len(backend.calls) == before


@pytest.mark.parametrize("name", ["authorization", "x-api-key", "api-key"])
async def test_a_key_is_taken_from_any_of_the_usual_headers(world, http: aiohttp.ClientSession, name: str) -> None:  # type: ignore[no-untyped-def]
    r, _, key = world
    value = f"bearer {key}" if name == "authorization" else key
    async with http.post(r.url + CHAT, data=GOOD, headers={**JSON, name: value}) as reply:
        assert reply.status == 200


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/", 405, "method_not_allowed"),
        ("/v1/models", 405, "method_not_allowed"),
        ("/readyz", 405, "method_not_allowed"),
        ("/v2/chat", 404, "not_found"),
        ("/v1/../metrics", 404, "not_found"),
        ("/v1/%2e%2e/metrics", 404, "not_found"),
        ("/v1beta/chat/completions", 404, "not_found"),
        ("/v1/", 404, "not_found"),
        ("/metrics", 404, "not_found"),
        ("/admin/v1/keys", 404, "not_found"),
    ],
)
async def test_paths_that_are_not_ours(world, path: str, status: int, code: str) -> None:  # type: ignore[no-untyped-def]
    r, backend, key = world
    before = len(backend.calls)
    host, port = r.listen.split(":")
    raw = await talk(
        (host, int(port)),
        b"POST %b HTTP/1.1\r\nhost: a\r\nauthorization: Bearer %b\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
        % (path.encode(), key.encode(), len(GOOD), GOOD),
    )
    assert statuses(raw) == [status]
    assert code.encode() in raw
    assert len(backend.calls) == before


async def test_other_methods_and_encodings(world, http: aiohttp.ClientSession) -> None:  # type: ignore[no-untyped-def]
    r, _, key = world
    auth = {"authorization": f"Bearer {key}"}
    async with http.put(r.url + CHAT, data=GOOD, headers=auth) as reply:
        assert (reply.status, reply.headers["allow"]) == (405, "POST")
    for path in (CHAT, "/v1/rerank", "/tokenize"):
        async with http.get(r.url + path, headers=auth) as reply:
            assert (reply.status, reply.headers["allow"]) == (405, "POST")
            assert (await reply.json())["error"]["code"] == "method_not_allowed"
    async with http.post(r.url + CHAT, data=GOOD, headers={**auth, **JSON, "content-encoding": "gzip"}) as reply:
        assert reply.status == 415
    for header, value in (
        ("x-router-timeout-ms", "soon"),
        ("x-router-priority", "vip"),
        ("x-router-policy", "nearest"),
    ):
        async with http.post(r.url + CHAT, data=GOOD, headers={**auth, **JSON, header: value}) as reply:
            assert reply.status == 400, header


@pytest.mark.parametrize(
    ("request_line", "status"),
    [
        (b"hello\r\n\r\n", 400),
        (b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: 99999999999\r\n\r\n", 413),
        (b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nx: " + b"x" * 40_000 + b"\r\n\r\n", 431),
    ],
    ids=["garbage", "large body", "large head"],
)
async def test_what_is_refused_before_it_is_a_request_has_an_id_and_a_record(
    world,  # type: ignore[no-untyped-def]
    request_line: bytes,
    status: int,
) -> None:
    r, _, _ = world
    host, port = r.listen.split(":")
    raw = await talk((host, int(port)), request_line)
    assert statuses(raw) == [status]
    given = re.search(rb"x-request-id: (\S+)\r\n", raw)
    assert given is not None, raw
    record = await asyncio.to_thread(r.record, given[1].decode())
    assert (record["status"], record["cause"]) == (status, "refused")


async def test_where_the_client_says_it_is_is_kept_in_the_record(world, http: aiohttp.ClientSession) -> None:  # type: ignore[no-untyped-def]
    r, _, key = world
    for given, kept in (("eu-central", "eu-central"), ("a b", None), ("x" * 65, None)):
        headers = {**JSON, "authorization": f"Bearer {key}", "x-client-region": given}
        async with http.post(r.url + CHAT, data=GOOD, headers=headers) as reply:
            assert reply.status == 200
            record = await asyncio.to_thread(r.record, reply.headers["x-request-id"])
        assert record["client_region"] == kept


async def test_ids_that_would_forge_log_lines_are_replaced(world, http: aiohttp.ClientSession) -> None:  # type: ignore[no-untyped-def]
    r, _, key = world
    for given in ("a b", "x" * 200, "a\x1b[31m", "ä"):
        host, port = r.listen.split(":")
        raw = await talk(
            (host, int(port)),
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\nx-request-id: %b\r\nauthorization: Bearer %b\r\ncontent-length: %d\r\nconnection: close\r\n\r\n%b"
            % (given.encode(), key.encode(), len(GOOD), GOOD),
        )
        assert statuses(raw)[0] in (200, 400)
        assert given.encode() not in raw


async def test_every_answer_of_our_own_has_a_date(world, http: aiohttp.ClientSession) -> None:  # type: ignore[no-untyped-def]
    r, _, _ = world
    for path in ("/healthz", "/v1/models", "/nowhere"):
        async with http.get(r.url + path) as reply:
            assert parsedate_to_datetime(reply.headers["date"]).tzinfo is not None
    async with http.post(r.url + CHAT, data=b"{", headers=JSON) as reply:
        assert "date" in reply.headers


async def test_residency_and_pins(http: aiohttp.ClientSession) -> None:
    head = OPEN + '[plans.default]\nresidency = ["eu"]\n'
    async with ScriptedBackend() as us, ScriptedBackend() as eu:
        sites = [Site("us-east", "a", us.url), Site("eu-central", "a", eu.url, jurisdiction="eu")]
        async with RouterProcess(sites, head=head) as r:
            for _ in range(5):
                async with http.post(r.url + CHAT, data=GOOD, headers=JSON) as reply:
                    assert (reply.status, reply.headers["x-router-region"]) == (200, "eu-central")
            for headers in ({"x-router-residency": "us"}, {"x-router-region": "us-east"}):
                async with http.post(r.url + CHAT, data=GOOD, headers={**JSON, **headers}) as reply:
                    assert reply.status == 503
                    assert (await reply.json())["error"]["code"] == "residency_unsatisfiable"
                    assert reply.headers["x-should-retry"] == "false"
            await eu.shut()
            for _ in range(5):
                async with http.post(r.url + CHAT, data=GOOD, headers=JSON) as reply:
                    assert reply.status in (502, 503)
            assert us.calls == [], "data crossed the border"
    assert len(eu.calls) == 5


async def test_a_pin_without_a_residency_is_a_matter_of_capacity(http: aiohttp.ClientSession) -> None:
    async with ScriptedBackend() as us, ScriptedBackend() as eu:
        sites = [Site("us-east", "a", us.url), Site("eu-central", "a", eu.url)]
        async with RouterProcess(sites, head=OPEN) as r:
            await asyncio.to_thread(lambda: r.ask_admin("/admin/v1/regions/us-east/drain", {}, method="POST"))
            for region, retry in (("us-east", None), ("mars", "false")):
                async with http.post(r.url + CHAT, data=GOOD, headers={**JSON, "x-router-region": region}) as reply:
                    assert reply.status == 503
                    assert (await reply.json())["error"]["code"] == "no_backend"
                    assert reply.headers.get("x-should-retry") == retry
                    assert ("retry-after" in reply.headers) == (retry is None), "when it is worth asking again"
    assert us.calls == eu.calls == []


async def test_a_port_in_use_is_named_with_the_option(tmp_path) -> None:  # type: ignore[no-untyped-def]
    import os
    import socket
    import subprocess
    import sys

    from tests.support.router import ROOT, configuration

    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        file = tmp_path / "regions.toml"
        file.write_text(
            configuration(
                [Site("a", "a", "http://127.0.0.1:1")],
                head=OPEN,
                listen=f"127.0.0.1:{port}",
                admin=f"127.0.0.1:{free_port()}",
            )
        )
        run = await asyncio.to_thread(
            subprocess.run,
            [sys.executable, "-m", "router", str(file)],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            timeout=60,
            check=False,
        )
    assert run.returncode == 1
    assert str(port).encode() in run.stderr
    assert b"--listen" in run.stderr
