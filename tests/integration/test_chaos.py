"""Faults on purpose: they show in traffic, the client does not see what can be hidden, and they end."""

from __future__ import annotations

import asyncio
import urllib.error
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import orjson
import pytest

from tests.integration.conftest import OPEN
from tests.support.backends import ScriptedBackend
from tests.support.router import RouterProcess, Site

CHAT = "/v1/chat/completions"
STREAM = {"model": "m", "stream": True, "messages": []}
ON = 'region = "near"\nchaos = true\n' + OPEN
World = tuple[RouterProcess, ScriptedBackend, ScriptedBackend]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with ScriptedBackend() as near, ScriptedBackend() as far:
        async with RouterProcess([Site("near", "a", near.url), Site("far", "a", far.url)], head=ON) as r:
            yield r, near, far


async def chaos(r: RouterProcess, method: str = "GET", path: str = "", **body: Any) -> list[dict[str, Any]]:
    answer = await asyncio.to_thread(r.ask_admin, f"/admin/v1/chaos{path}", body or None, method=method)
    return list(answer["data"])


async def ask(r: RouterProcess, http: aiohttp.ClientSession, region: str | None = None, **more: Any) -> Any:
    headers = {"x-router-region": region} if region else {}
    async with http.post(r.url + CHAT, json=STREAM | more, headers=headers) as reply:
        try:
            text = await reply.read()
        except aiohttp.ClientPayloadError:
            text = b"cut"
    return reply.status, await asyncio.to_thread(r.record, reply.headers["x-request-id"]), text


async def test_refused_attempts_go_elsewhere_until_it_ends(world: World, http: aiohttp.ClientSession) -> None:
    r, near, _ = world
    (entry,) = await chaos(r, "POST", target="near", fault="refuse", for_s=600)
    assert entry | {"left_s": 0} == {
        "fault": "refuse",
        "target": "near",
        "backends": ["near/a"],
        "key": None,
        "share": 1.0,
        "delay_s": None,
        "after_tokens": None,
        "status": None,
        "factor": None,
        "says": "attempts at near are refused",
        "left_s": 0,
    }
    assert 590 < entry["left_s"] <= 600
    status, record, _ = await ask(r, http)
    assert status == 200
    assert [(a["backend"], a["outcome"], a["fault"]) for a in record["attempts"]] == [
        ("near/a", "unreachable", "refuse"),
        ("far/a", "ok", None),
    ]
    assert near.calls == []
    assert await chaos(r, "DELETE", "/near/a") == []
    status, record, _ = await ask(r, http, "near")
    assert (status, record["backend"]) == (200, "near/a")


async def test_a_delay_is_added_to_each_attempt(world: World, http: aiohttp.ClientSession) -> None:
    r, _, _ = world
    await chaos(r, "POST", target="near/a", fault="delay", delay_s=0.4)
    for _ in range(2):
        _, record, _ = await ask(r, http, "near")
        assert (record["cause"], len(record["attempts"])) == ("ok", 1)
        assert record["ttft_s"] > 0.4


async def test_an_answer_is_cut_after_so_many_tokens(world: World, http: aiohttp.ClientSession) -> None:
    r, near, _ = world
    near.behaviour = lambda call: call.stream("one", "two", "three", gap_s=0.1)
    await chaos(r, "POST", target="near/a", fault="cut", after_tokens=2)
    status, record, _ = await ask(r, http, "near")
    assert (status, record["cause"], record["error"]) == (200, "truncated", "stream_interrupted")
    assert record["output_tokens"] == 2
    await chaos(r, "POST", target="near/a", fault="cut", after_tokens=0)
    status, record, _ = await ask(r, http)
    assert (status, record["backend"]) == (200, "far/a"), "before the first token nobody sees it"


async def test_silence_is_noticed(world: World, http: aiohttp.ClientSession) -> None:
    r, near, _ = world
    r.head = ON + "[timeouts]\nfirst_token = 0.4\ntoken_gap = 0.4\nconnect = 0.3\n"
    r.write_config()
    await asyncio.to_thread(r.ask_admin, "/admin/v1/config/reload", {})
    near.behaviour = lambda call: call.stream("one", "two", "three")
    await chaos(r, "POST", target="near", fault="blackhole")
    _, record, text = await ask(r, http)
    assert [(a["backend"], a["outcome"]) for a in record["attempts"]] == [("near/a", "unreachable"), ("far/a", "ok")]
    assert text.endswith(b"data: [DONE]\n\n")
    await chaos(r, "DELETE")
    await chaos(r, "POST", target="near", fault="stall", after_tokens=0)
    _, record, _ = await ask(r, http, "near")
    assert (record["cause"], record["attempts"][0]["fault"]) == ("first_token_timeout", "stall")
    await chaos(r, "DELETE")
    await chaos(r, "POST", target="near", fault="stall", after_tokens=2)
    _, record, _ = await ask(r, http, "near")
    assert (record["attempts"][0]["fault"], record["output_tokens"]) == ("stall", 2)
    assert 0.4 < record["duration_s"] < 5


async def test_a_status_is_given_without_the_backend(world: World, http: aiohttp.ClientSession) -> None:
    r, near, _ = world
    await chaos(r, "POST", target="near", fault="status", status=503)
    status, record, _ = await ask(r, http)
    assert status == 200
    assert [(a["status"], a["outcome"], a["fault"]) for a in record["attempts"]] == [
        (503, "overloaded", "status"),
        (200, "ok", None),
    ]
    assert near.calls == []


async def test_slow_answers_take_so_many_times_as_long(world: World, http: aiohttp.ClientSession) -> None:
    r, near, _ = world
    near.behaviour = lambda call: call.stream("one", "two", "three", gap_s=0.05)
    _, usual, _ = await ask(r, http, "near")
    await chaos(r, "POST", target="near", fault="slow", factor=8)
    _, record, text = await ask(r, http, "near")
    assert (record["cause"], record["attempts"][0]["fault"]) == ("ok", "slow")
    assert record["duration_s"] > 0.8 > usual["duration_s"]
    assert text.endswith(b"data: [DONE]\n\n")


async def test_it_meets_a_share_of_the_attempts_or_those_of_a_key(world: World, http: aiohttp.ClientSession) -> None:
    r, _, _ = world
    await chaos(r, "POST", target="near", fault="delay", delay_s=0.001, share=0.5)
    faults = [(await ask(r, http, "near"))[1]["attempts"][0]["fault"] for _ in range(40)]
    assert 5 < faults.count("delay") < 35
    await chaos(r, "DELETE")
    key = await asyncio.to_thread(r.ask_admin, "/admin/v1/keys", {"name": "poor"})
    (entry,) = await chaos(r, "POST", fault="refuse", key=key["id"])
    assert entry["backends"] == ["near/a", "far/a"]
    _, record, _ = await ask(r, http, "near")
    assert record["attempts"][0]["fault"] is None, "another client's"


async def test_a_fault_of_a_region_goes_on_without_the_backend_that_is_let_off(world: World) -> None:
    r, _, _ = world
    await chaos(r, "POST", target="near", fault="refuse", for_s=600)
    await chaos(r, "POST", target="far/a", fault="cut")
    (entry,) = await chaos(r, "DELETE", "/near")
    assert (entry["target"], entry["after_tokens"]) == ("far/a", 10)
    assert await chaos(r, "DELETE", "/far/a") == []


async def test_it_ends_by_itself_and_with_its_permission(world: World, http: aiohttp.ClientSession) -> None:
    r, _, _ = world
    await chaos(r, "POST", target="near/a", fault="refuse", for_s=0.2)
    for _ in range(1000):
        if not await chaos(r):
            break
        await asyncio.sleep(0.02)
    assert await chaos(r) == []
    await chaos(r, "POST", target="near", fault="refuse")
    await chaos(r, "POST", target="far", fault="refuse")
    assert len(await chaos(r)) == 2
    r.head = ON.replace("chaos = true", "chaos = false")
    r.write_config()
    await asyncio.to_thread(r.ask_admin, "/admin/v1/config/reload", {})
    assert await chaos(r) == []
    assert (await ask(r, http, "near"))[0] == 200
    with pytest.raises(urllib.error.HTTPError) as caught:
        await chaos(r, "POST", target="near", fault="refuse")
    assert "[router] chaos = true" in orjson.loads(caught.value.read())["error"]["message"]
    caught.value.close()


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({"target": "mars", "fault": "refuse"}, 404, None),
        ({"fault": "refuse"}, 400, "target"),
        ({"target": "near", "fault": "explode"}, 400, "fault"),
        ({"target": "near", "fault": "delay", "delay_s": -1}, 400, "delay_s"),
        ({"target": "near", "fault": "cut", "after_tokens": True}, 400, "after_tokens"),
        ({"target": "near", "fault": "refuse", "for_s": 7200}, 400, "for_s"),
        ({"target": "near", "fault": "refuse", "share": 0}, 400, "share"),
        ({"target": "near", "fault": "refuse", "after_tokens": 1}, 400, "after_tokens"),
        ({"target": "near", "fault": "status", "status": 200}, 400, "status"),
        ({"target": "near", "fault": "slow", "factor": 0.5}, 400, "factor"),
        ({"target": "near", "fault": "stale_metrics", "share": 0.5}, 400, "share"),
        ({"target": "near", "fault": "refuse", "key": "key_of_nobody"}, 404, None),
        ({"target": "near", "fault": "refuse", "part": 1}, 400, "part"),
    ],
)
async def test_wrong_wishes(shared: RouterProcess, body: dict[str, Any], status: int, param: str | None) -> None:
    with pytest.raises(urllib.error.HTTPError) as caught:
        await chaos(shared, "POST", **body)
    assert caught.value.code == status
    assert orjson.loads(caught.value.read())["error"]["param"] == param
    caught.value.close()


@pytest.fixture(scope="module")
def shared():  # type: ignore[no-untyped-def]
    with RouterProcess([Site("near", "a", "http://127.0.0.1:1")], head=ON, wait=None) as r:
        yield r
