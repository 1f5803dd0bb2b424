"""Paths, keys and origins as SDKs, browsers, load balancers and tools send them."""

from __future__ import annotations

from collections.abc import AsyncIterator

import aiohttp
import pytest

from router import __version__
from tests.integration.conftest import OPEN
from tests.support.backends import ScriptedBackend
from tests.support.router import RouterProcess, Site

MODEL = "org/name:7b"
ASK = {"model": MODEL, "messages": [{"role": "user", "content": "hi"}]}
CHAT = "/v1/chat/completions"
PAGE = "https://chat.example.com"
QUICK = "[probes]\ninterval = 0.05\ntimeout = 0.5\n"
World = tuple[RouterProcess, ScriptedBackend]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with ScriptedBackend(model=MODEL) as b, RouterProcess([Site("a", "a", b.url)], head=OPEN + QUICK) as r:
        yield r, b


@pytest.fixture
async def keyed() -> AsyncIterator[tuple[RouterProcess, str]]:
    async with ScriptedBackend(model=MODEL) as b, RouterProcess([Site("a", "a", b.url)], head="[plans.default]\n") as r:
        yield r, r.create_key()


@pytest.mark.parametrize(
    "path",
    [
        CHAT + "/",
        "/chat/completions",
        "/v1/v1/chat/completions",
        "//v1//chat/completions",
        "/openai/v1/chat/completions",
        "/openai/deployments/whatever/chat/completions?api-version=2024-10-21",
    ],
)
async def test_the_backend_is_asked_by_the_one_spelling(world: World, http: aiohttp.ClientSession, path: str) -> None:
    r, b = world
    async with http.post(r.url + path, json=ASK) as reply:
        assert reply.status == 200
    query = path.partition("?")[2]
    assert b.calls[-1].head.split(b" ")[1].decode() == (f"{CHAT}?{query}" if query else CHAT)
    assert r.record(reply.headers["x-request-id"])["path"] == CHAT


@pytest.mark.parametrize("path", ["/health", "/ping", "/v1/health", "/readyz", "/health/readiness"])
async def test_ready_until_nobody_can_serve(world: World, http: aiohttp.ClientSession, path: str) -> None:
    r, b = world
    async with http.get(r.url + path) as reply:
        assert (reply.status, await reply.json()) == (200, {"status": "ready"})
    async with http.head(r.url + path) as reply:
        assert (reply.status, await reply.read()) == (200, b"")
    await b.shut()
    await r.until(path, status=503)
    async with http.get(r.url + path) as reply:
        assert (await reply.json())["reason"] == "no usable backend: 1 ejected"
    async with http.head(r.url + path) as reply:
        assert (reply.status, await reply.read()) == (503, b"")
    async with http.get(r.url + "/") as reply:
        assert (reply.status, await reply.json()) == (200, {"status": "ok"})
    await b.open()


async def test_pages_that_need_no_key(keyed: tuple[RouterProcess, str], http: aiohttp.ClientSession) -> None:
    r, key = keyed
    for path in ("/", "/healthz", "/livez", "/health/liveliness", "/health", "/ping"):
        async with http.get(r.url + path) as reply:
            assert reply.status == 200, path
    async with http.get(r.url + "/version") as reply:
        assert await reply.json() == {"version": __version__}
    async with http.post(r.url + "/ping") as reply:
        assert reply.status == 200
    async with http.post(r.url + "/health") as reply:
        assert (reply.status, reply.headers["allow"]) == (405, "GET, HEAD")
    for path in ("/v1/models", "/models", f"/v1/models/{MODEL}"):
        async with http.get(r.url + path) as reply:
            assert reply.status == 401, path
        async with http.get(r.url + path, headers={"x-api-key": key}) as reply:
            assert reply.status == 200, path


async def test_a_model_suits_both_sdks(world: World, http: aiohttp.ClientSession) -> None:
    r, _ = world
    async with http.get(r.url + "/v1/models", headers={"anthropic-version": "2023-06-01"}) as reply:
        document = await reply.json()
    entry = document["data"][0]
    assert (document["object"], document["has_more"]) == ("list", False)
    assert document["first_id"] == document["last_id"] == entry["id"] == entry["display_name"] == MODEL
    assert (entry["object"], entry["type"], entry["owned_by"]) == ("model", "model", "meridian")
    assert isinstance(entry["created"], int)
    assert entry["created_at"].endswith("Z")


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({"authorization": "Basic dXNlcjpwYXNz", "x-api-key": "KEY"}, 200),
        ({"authorization": "Bearer ", "x-api-key": "KEY"}, 200),
        ({"authorization": "Bearer", "api-key": "KEY"}, 200),
        ({"authorization": "Bearer " + "x" * 600, "x-api-key": "KEY"}, 200),
        ({"authorization": "Bearer KEY", "x-api-key": "nonsense"}, 200),
        ({"authorization": "Bearer nonsense", "x-api-key": "KEY"}, 200),  # only one of them can be a key of ours
        ({"authorization": "Bearer mr-nonsense", "x-api-key": "KEY"}, 401),  # one credential counts
        ({"authorization": "Basic dXNlcjpwYXNz"}, 401),
        ({"authorization": "KEY"}, 401),
        ({"x-api-key": "", "api-key": "KEY"}, 200),
    ],
)
async def test_which_header_has_the_key(
    keyed: tuple[RouterProcess, str], http: aiohttp.ClientSession, headers: dict[str, str], status: int
) -> None:
    r, key = keyed
    sent = {name: value.replace("KEY", key) for name, value in headers.items()}
    async with http.post(r.url + CHAT, json=ASK, headers=sent) as reply:
        assert reply.status == status


def allowed(reply: aiohttp.ClientResponse) -> dict[str, str]:
    return {n.lower(): v for n, v in reply.headers.items() if n.lower().startswith("access-control-")}


PREFLIGHT = {
    "origin": PAGE,
    "access-control-request-method": "POST",
    "access-control-request-headers": "authorization,content-type,x-stainless-os",
}


async def test_no_page_may_read_answers_by_default(world: World, http: aiohttp.ClientSession) -> None:
    r, _ = world
    async with http.options(r.url + CHAT, headers=PREFLIGHT) as reply:
        assert (reply.status, allowed(reply)) == (200, {})
    async with http.post(r.url + CHAT, json=ASK, headers={"origin": PAGE}) as reply:
        assert (reply.status, allowed(reply)) == (200, {})


async def test_pages_of_named_origins_may(http: aiohttp.ClientSession) -> None:
    head = f'{OPEN}[cors]\norigins = ["{PAGE}", "http://localhost:3000"]\n'
    async with ScriptedBackend(model=MODEL) as b, RouterProcess([Site("a", "a", b.url)], head=head) as r:
        async with http.options(r.url + CHAT, headers=PREFLIGHT) as reply:
            told = allowed(reply)
            assert reply.status == 200
            assert told["access-control-allow-origin"] == PAGE
            assert told["access-control-allow-headers"] == PREFLIGHT["access-control-request-headers"]
            assert "POST" in told["access-control-allow-methods"]
        answers = [
            ("POST", CHAT, ASK, 200),
            ("POST", CHAT, {**ASK, "stream": True}, 200),
            ("POST", CHAT, {**ASK, "model": "none"}, 404),
            ("POST", "/nowhere", ASK, 404),
            ("GET", "/v1/models", None, 200),
            ("GET", "/v1/models/none", None, 404),
        ]
        for method, path, body, status in answers:
            async with http.request(method, r.url + path, json=body, headers={"origin": PAGE}) as reply:
                assert reply.status == status
                told = allowed(reply)
            assert told["access-control-allow-origin"] == PAGE
            assert told["access-control-allow-credentials"] == "true"
            assert "x-request-id" in told["access-control-expose-headers"]
            assert reply.headers["vary"].lower() == "origin"
            for stranger in ("https://evil.example", "null", f"{PAGE}.evil.example", f"{PAGE}:8443"):
                async with http.request(method, r.url + path, json=body, headers={"origin": stranger}) as reply:
                    assert (reply.status, allowed(reply)) == (status, {})
        async with http.options(r.url + CHAT, headers={**PREFLIGHT, "origin": "https://evil.example"}) as reply:
            assert allowed(reply) == {}


async def test_any_origin_never_has_credentials(http: aiohttp.ClientSession) -> None:
    head = f'{OPEN}[cors]\norigins = ["*", "{PAGE}"]\n'
    async with ScriptedBackend(model=MODEL) as b, RouterProcess([Site("a", "a", b.url)], head=head) as r:
        for method, body in (("OPTIONS", None), ("POST", ASK)):
            async with http.request(method, r.url + CHAT, json=body, headers=PREFLIGHT) as reply:
                told = allowed(reply)
                assert (reply.status, told["access-control-allow-origin"]) == (200, "*")
                assert "access-control-allow-credentials" not in told
