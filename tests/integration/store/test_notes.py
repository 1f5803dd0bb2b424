"""Notes and marks among routers: told, bounded, kept over an outage."""

from __future__ import annotations

import pytest

from router.errors import RouterError
from router.store.notes import MARKS_MAX
from router.store.shared import SharedStore
from tests.integration.store.routers import beats, eventually, router
from tests.support.stopwatch import Stopwatch
from tests.support.valkey import Valkey


async def recalls(store: SharedStore, digest: str, value: str | None) -> None:
    async def so() -> bool:
        return await store.recall("response", digest) == value

    await eventually(so)


async def test_another_router_recalls_a_note_until_it_is_forgotten(shared_valkey: Valkey) -> None:
    shared_valkey.command("FLUSHALL")
    async with router(shared_valkey.url, name="a") as a, router(shared_valkey.url, name="b") as b:
        a.remember("response", "d", "us/a", 60.0)
        await recalls(b, "d", "us/a")
        a.forget("response", "d")
        await recalls(b, "d", None)
        a.remember("response", "short", "us/a", 0.3)
        await recalls(b, "short", "us/a")
        await recalls(b, "short", None)


async def test_a_store_that_is_away_costs_a_recall_no_time(valkey: Valkey) -> None:
    async with router(valkey.url, name="a") as a:
        valkey.pause()
        a.remember("response", "mine", "us/a", 60.0)
        assert await a.recall("response", "mine") == "us/a", "what it remembered itself it knows"
        watch = Stopwatch()
        with pytest.raises(RouterError, match="store"):
            await a.recall("response", "other")
        assert watch.elapsed_s < 0.2, "a deadline of 100 ms, and what a busy machine adds"
        valkey.resume()


async def test_every_router_knows_a_mark_soon_also_one_that_starts_later(shared_valkey: Valkey) -> None:
    shared_valkey.command("FLUSHALL")
    async with router(shared_valkey.url, name="a") as a, router(shared_valkey.url, name="b") as b:
        a.mark("poison", "d", 600.0)
        await eventually(lambda: b.marked("poison", "d"))
        async with router(shared_valkey.url, name="c") as c:
            assert c.marked("poison", "d")
        b.mark("poison", "short", 1.5)
        await eventually(lambda: a.marked("poison", "short"))
        await eventually(lambda: not a.marked("poison", "short"))
        assert a.marked("poison", "d")


async def test_marks_survive_an_outage_and_the_loss_of_all_data(valkey: Valkey) -> None:
    async with router(valkey.url, name="a") as a, router(valkey.url, name="b") as b:
        a.mark("poison", "before", 600.0)
        await eventually(lambda: b.marked("poison", "before"))
        valkey.kill()
        await eventually(lambda: a.state == "down")
        a.mark("poison", "meanwhile", 600.0)
        valkey.restart()
        await eventually(lambda: b.marked("poison", "meanwhile"))
        async with router(valkey.url, name="c") as c:
            await eventually(lambda: c.marked("poison", "before"))


async def test_marks_are_bounded_and_the_longest_lived_stay(shared_valkey: Valkey) -> None:
    shared_valkey.command("FLUSHALL")
    async with router(shared_valkey.url, name="a") as a, router(shared_valkey.url, name="b") as b:
        for n in range(MARKS_MAX + 50):
            a.mark("poison", str(n), 300.0 + n)
        await eventually(lambda: b.marked("poison", str(MARKS_MAX + 49)))
        await beats(a, b)
        for store in (a, b):
            known = [n for n in range(MARKS_MAX + 50) if store.marked("poison", str(n))]
            assert known == list(range(50, MARKS_MAX + 50))
