"""Two routers on one store are one fleet to an operator, whichever of them is asked."""

from __future__ import annotations

import asyncio
import json
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from functools import partial

import pytest

from tests.support.backends import ScriptedBackend
from tests.support.router import RouterProcess, Site
from tests.support.valkey import Valkey

V1 = "/admin/v1"


def until(there: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 30
    while not there():
        assert time.monotonic() < end, what
        time.sleep(0.05)


def send(router: RouterProcess, key: str = "") -> str:
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "hi"}], "stream": True}).encode()
    headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
    request = urllib.request.Request(f"{router.url}/v1/chat/completions", body, headers)
    with urllib.request.urlopen(request, timeout=30) as answer:
        answer.read()
        return str(answer.headers["x-request-id"])


def head(valkey: Valkey) -> str:
    return f'[store]\nredis = "{valkey.url}"\n[auth]\nmode = "open"\n'


class Named(RouterProcess):
    """A router with a name of its own."""

    def write_config(self) -> None:
        super().write_config()
        self.file.write_text(self.file.read_text().replace('name = "test"', f'name = "{self.env["NAME"]}"'))


async def test_whichever_router_is_asked_the_answer_is_about_all() -> None:
    async with ScriptedBackend() as a, ScriptedBackend() as b:
        east, west = Site("us", "a", a.url, models=["m"]), Site("eu", "b", b.url, models=["m"])
        await asyncio.to_thread(_ask_both, east, west)


def _ask_both(east: Site, west: Site) -> None:
    with Valkey() as valkey:
        one = Named([east, west], head=head(valkey), env={"NAME": "edge-1"})
        two = Named([east], head=head(valkey), env={"NAME": "edge-2"})
        with one:
            alone = one.ask_admin(f"{V1}/status")
            assert alone["fleet"] == {"scope": "all routers", "routers": ["edge-1"], "silent": []}
            with two:
                until(lambda: len(one.ask_admin(f"{V1}/routers")["data"]) == 2, "they know each other")
                until(lambda: len(two.ask_admin(f"{V1}/routers")["data"]) == 2, "both ways")
                _check(one, two)
                killed_s = time.time()
                two.process.kill()
                until(lambda: gone(one, "edge-2") is not None, "one that died is named")
                assert killed_s - 2 < (gone(one, "edge-2") or 0) <= killed_s + 1, "since it was killed"
                (event,) = one.ask_admin(f"{V1}/events?kind=router&limit=1")["data"]
                assert (event["subject"], event["from"], event["to"]) == ("edge-2", "serving", "gone")
                (line,) = one.ask_admin(f"{V1}/status")["troubles"]
                assert line.startswith("edge-2 is gone: it was last heard ")
                assert one.ask_admin(f"{V1}/status?router=edge-1")["troubles"] == []
                with urllib.request.urlopen(f"{one.admin}/metrics", timeout=30) as page:
                    assert b"\nrouter_routers_gone 1\n" in page.read()


async def test_the_last_minute_of_a_key_is_that_of_all_routers() -> None:
    """Whichever of them is asked."""
    async with ScriptedBackend() as a:
        await asyncio.to_thread(_spend_on_both, Site("us", "a", a.url, models=["m"]))


def _spend_on_both(site: Site) -> None:
    with (
        Valkey() as valkey,
        Named([site], head=head(valkey).replace("open", "keys"), env={"NAME": "edge-1"}) as one,
        Named([site], head=head(valkey).replace("open", "keys"), env={"NAME": "edge-2"}) as two,
    ):
        until(lambda: len(one.ask_admin(f"{V1}/routers")["data"]) == 2, "they know each other")
        until(lambda: len(two.ask_admin(f"{V1}/routers")["data"]) == 2, "both ways")
        key = one.create_key("me", "default")
        until(lambda: bool(two.ask_admin(f"{V1}/keys")["data"]), "both know the key")
        for router in (one, two, two):
            send(router, key)
        for asked in (one, two):
            until(partial(_used_on_both, asked, 3), "requests are counted soon after their last byte")
            for place in ("regions/us", "backends/us/a"):
                lost = asked.ask_admin(f"{V1}/{place}/losses")
                assert (lost["requests"], lost["share"]) == (3, 1.0), "a drain takes it from all routers"


def _used_on_both(asked: RouterProcess, requests: int) -> bool:
    told = asked.ask_admin(f"{V1}/quotas")
    assert sorted(told["fleet"]["routers"]) == ["edge-1", "edge-2"]
    return [quota["last_minute"]["requests"] for quota in told["data"]] == [requests]


def gone(asked: RouterProcess, name: str) -> float | None:
    """Since when a router is gone."""
    lines = {line["name"]: line for line in asked.ask_admin(f"{V1}/routers")["data"]}
    found: float | None = lines.get(name, {}).get("gone_since_s")
    return found


def _has(asked: RouterProcess, *requests: str) -> bool:
    return {r["request_id"] for r in asked.ask_admin(f"{V1}/requests")["data"]} >= set(requests)


def _check(one: RouterProcess, two: RouterProcess) -> None:
    first, second = send(one), send(two)
    for asked in (one, two):
        until(partial(_has, asked, first, second), "the requests of both")
        found = asked.ask_admin(f"{V1}/requests")["data"]
        assert {r["request_id"]: r["router"] for r in found} == {first: "edge-1", second: "edge-2"}
        assert asked.ask_admin(f"{V1}/requests/{first}")["router"] == "edge-1"
        assert asked.ask_admin(f"{V1}/requests/{second}")["router"] == "edge-2"
        for request_id, backend in ((first, None), (second, "us/a")):
            explained = asked.ask_admin(f"{V1}/explain", {"request_id": request_id})
            assert explained["request"]["request_id"] == request_id
            assert backend in (None, explained["request"]["backend"])
        assert asked.ask_admin(f"{V1}/stats?window_s=900")["requests"] == 2
        (only,) = asked.ask_admin(f"{V1}/requests?router=edge-2")["data"]
        assert only["request_id"] == second
        assert asked.ask_admin(f"{V1}/stats?window_s=900&router=edge-1")["requests"] == 1
        usage = asked.ask_admin(f"{V1}/usage?since_s=86400&by=region,backend&sort=cost")
        assert usage["total"]["requests"] == 2 == sum(row["requests"] for row in usage["data"])
        assert usage["fleet"]["scope"] == "all routers"
        status = asked.ask_admin(f"{V1}/status")
        assert sorted(status["fleet"]["routers"]) == ["edge-1", "edge-2"]
        assert status["differences"] == ["eu/b only on edge-1"]
        assert asked.ask_admin(f"{V1}/status?router=edge-2")["router"]["name"] == "edge-2"
        regions = {r["name"]: r for r in asked.ask_admin(f"{V1}/regions")["data"]}
        assert set(regions) == {"us", "eu"}
        assert sum(b["requests_total"] for r in regions.values() for b in r["backends"]) == 2
        (shared,) = regions["us"]["backends"]
        assert sorted(sight["router"] for sight in shared["routers"]) == ["edge-1", "edge-2"]
        with pytest.raises(urllib.error.HTTPError) as refused:
            asked.ask_admin(f"{V1}/status?router=edge-9")
        assert refused.value.code == 400
        refused.value.close()
    lines = {r["name"]: r for r in one.ask_admin(f"{V1}/routers")["data"]}
    assert lines["edge-1"]["this"]
    assert lines["edge-1"]["config_hash"] != lines["edge-2"]["config_hash"]
    assert 0 <= lines["edge-2"]["lag_s"] < 5
    assert lines["edge-2"]["ready"]
