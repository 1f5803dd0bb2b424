"""Two routers on one store: what one sees and is told, both know; and it outlives the router that saw it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from tests.support.backends import ScriptedBackend
from tests.support.router import RouterProcess, Site
from tests.support.valkey import Valkey

NOBODY = Site("us", "a", "http://127.0.0.1:1", models=["m"])
KINDS = {"drain", "key", "config"}
PROBES = "[probes]\ninterval = 0.1\ntimeout = 0.5\n"


def head(valkey: Valkey) -> str:
    return f'[store]\nredis = "{valkey.url}"\n{PROBES}'


def events(router: RouterProcess, query: str = "") -> list[dict[str, Any]]:
    return list(router.ask_admin(f"/admin/v1/events?limit=1000{query}")["data"])


def until(there: Callable[[], bool], what: str) -> None:
    end = time.monotonic() + 30
    while not there():
        assert time.monotonic() < end, what
        time.sleep(0.05)


async def test_the_history_is_one_for_all_routers_and_survives_them() -> None:
    async with ScriptedBackend() as a, ScriptedBackend() as b:
        sites = [Site("us", "a", a.url, models=["m"]), Site("eu", "b", b.url, models=["m"])]
        await asyncio.to_thread(_two_routers, sites, a)


def _two_routers(sites: list[Site], dying: ScriptedBackend) -> None:
    with Valkey() as valkey, RouterProcess(sites, head=head(valkey)) as one:
        with RouterProcess(sites, head=head(valkey), errors_allowed=True) as two:
            two.ask_admin("/admin/v1/regions/eu/drain", {"reason": "new kernel"})
            key = two.ask_admin("/admin/v1/keys", {"name": "alice"})["id"]
            good = two.file.read_text()
            two.file.write_text(good.replace("interval = 0.1", "interval = -1"))
            until(lambda: any(e["to"] == "refused" for e in events(two)), "the refusal is noted")
            two.file.write_text(good)
            until(lambda: _kinds(events(one)) >= KINDS and bool(events(one, "&kind=operator")), "one hears of it")
            by_two = {e["kind"]: e for e in events(one) if e["kind"] in ("drain", "key", "config")}
            assert (by_two["drain"]["subject"], by_two["drain"]["why"]) == ("eu", "new kernel")
            assert (by_two["key"]["subject"], by_two["key"]["to"]) == (key, "created")
            assert "interval" in by_two["config"]["why"]
            (region,) = [r for r in one.ask_admin("/admin/v1/regions")["data"] if r["name"] == "eu"]
            assert (region["state"], region["why"]) == ("draining", "new kernel")
        late = RouterProcess(sites, head=head(valkey))
        with late:
            until(lambda: _kinds(events(late)) >= KINDS and bool(events(late, "&kind=operator")), "a later one too")
            assert {e["id"] for e in events(one, "&kind=key,drain")} == {
                e["id"] for e in events(late, "&kind=key,drain")
            }
            stopped = [e for e in events(late, "&kind=router") if e["to"] == "stopped"]
            assert len(stopped) == 1, "the second router said that it stops"


def _kinds(found: list[dict[str, Any]]) -> set[str]:
    return {e["kind"] for e in found}


async def test_a_backend_that_dies_says_when_and_why_and_so_does_its_return() -> None:
    async with ScriptedBackend() as stays, ScriptedBackend() as dies:
        sites = [Site("us", "a", stays.url, models=["m"]), Site("eu", "b", dies.url, models=["m"])]
        with Valkey() as valkey:
            async with RouterProcess(sites, head=head(valkey)) as r:
                began_s = time.time()
                await dies.shut()
                await asyncio.to_thread(until, lambda: _health(r) == ["ejected"], "it is ejected")
                (event,) = await asyncio.to_thread(events, r, "&kind=health&backend=eu/b")
                assert (event["from"], event["region"]) == ("healthy", "eu")
                assert event["why"].startswith("nobody answers: ")
                assert began_s - 1 < event["at_s"] < time.time() + 1
                regions = (await asyncio.to_thread(r.ask_admin, "/admin/v1/regions"))["data"]
                (region,) = [one for one in regions if one["name"] == "eu"]
                assert (region["state"], region["since_s"], region["why"]) == ("down", event["at_s"], event["why"])


def _health(router: RouterProcess) -> list[str]:
    return [e["to"] for e in events(router, "&kind=health&backend=eu/b")]


def test_an_outage_of_the_store_is_an_event_and_nothing_is_lost_meanwhile() -> None:
    with Valkey() as valkey, RouterProcess([NOBODY], head=head(valkey), wait=None) as one:
        with RouterProcess([NOBODY], head=head(valkey), wait=None) as two:
            until(lambda: len(_starts(one)) == 2, "they know each other")
            valkey.kill()
            until(lambda: _store(one) == ["down"], "the outage is noted")
            valkey.start()
            until(lambda: _store(one)[-1] == "up", "the end of it, too")
            (down, *_) = [e for e in events(one, "&kind=store") if e["to"] == "down" and e["router"] == "test"][-1:]
            assert down["why"]
            until(
                lambda: {e["id"] for e in events(one, "&kind=store")} <= {e["id"] for e in events(two)},
                "two hears of it",
            )


def _starts(router: RouterProcess) -> list[dict[str, Any]]:
    return [e for e in events(router, "&kind=router") if e["to"] == "started"]


def _store(router: RouterProcess) -> list[str]:
    return [e["to"] for e in reversed(events(router, "&kind=store"))]
