"""Redis frozen, killed, blackholed, emptied, read-only: no request waits, none is refused for it, and all comes right."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator

import pytest

from router.config import Plan
from router.core.limits import Amounts
from router.errors import RouterError
from router.store.base import Key, Refusal, Reservation
from router.store.shared import SharedStore
from tests.integration.store.routers import acquainted, beats, eventually, key_of, router
from tests.support.blackhole import blackhole
from tests.support.ports import free_port
from tests.support.stopwatch import Stopwatch
from tests.support.valkey import Valkey

#: The deadline of 100 ms, and what a busy machine adds.
PATIENCE_S = 0.16
PLAN = Plan("default", requests_per_minute=600, tokens_per_minute=60_000, concurrent=1000)


async def ask(store: SharedStore, key: Key, tokens: int = 10) -> tuple[Reservation | Refusal, float]:
    """As the request path asks; also how long it waited: not at all if this router may answer by itself."""
    taken = store.reserve_now(key, Amounts(1, tokens), "r", time.monotonic())
    if taken is not None:
        return taken, 0.0
    watch = Stopwatch()
    return await store.reserve(key, Amounts(1, tokens), "r"), watch.elapsed_s


async def until(store: SharedStore, state: str) -> None:
    await eventually(lambda: store.state == state)


async def settles(store: SharedStore, key: Key, limit: str, units: float) -> None:
    """Until the store shows that much in use."""

    async def shown() -> bool:
        return (await used(store, key))[limit] == units

    await eventually(shown)


async def used(store: SharedStore, key: Key) -> dict[str, float]:
    return {s.limit: s.used + s.held for s in await store.quota(key)}


@pytest.mark.parametrize("fault", ["frozen", "killed"])
async def test_no_request_waits_longer_than_the_deadline_and_soon_none_waits(valkey: Valkey, fault: str) -> None:
    key = key_of(PLAN)
    async with router(valkey.url, PLAN) as store:
        assert (await ask(store, key))[0].shown[0].most == 600
        (valkey.pause if fault == "frozen" else valkey.kill)()
        waits = []
        while store.state == "up" or len(waits) < 20:  # several at once, as they come under load
            answers = await asyncio.gather(*(ask(store, key) for _ in range(5)))
            assert {a.source for a, _ in answers if isinstance(a, Reservation)} == {"share"}
            waits += [wait_s for _, wait_s in answers]
        assert max(waits) <= PATIENCE_S
        taken, wait_s = await ask(store, key)
        assert isinstance(taken, Reservation)
        assert wait_s == 0
        (valkey.resume if fault == "frozen" else valkey.restart)()
        await until(store, "up")
        assert isinstance((await ask(store, key))[0], Reservation)


async def test_one_line_is_logged_per_change(valkey: Valkey, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    key = key_of(PLAN)
    async with router(valkey.url, PLAN) as store:
        await ask(store, key)
        valkey.kill()
        for _ in range(200):
            await ask(store, key, 1)
        await asyncio.sleep(1.0)
        valkey.restart()
        await until(store, "up")
        await asyncio.sleep(0.3)
    texts = [r.getMessage() for r in caplog.records]
    assert sum("is away" in t for t in texts) == 1
    assert sum("is back after" in t for t in texts) == 1
    assert len(texts) <= 3  # the third: the server came back empty


async def test_a_blackhole_is_like_a_frozen_server() -> None:
    """Connections are neither accepted nor refused: the backlog of a listener that nobody serves is full."""
    with blackhole() as port:
        watch = Stopwatch()
        async with router(f"redis://127.0.0.1:{port}/0", PLAN) as store:
            assert watch.elapsed_s < 1.5
            assert store.state == "down"
            taken, wait_s = await ask(store, key_of(PLAN))
            assert isinstance(taken, Reservation)
            assert wait_s == 0


@pytest.mark.parametrize("on_down", ["share", "deny", "allow"])
async def test_the_declared_policy_holds_while_it_is_away(valkey: Valkey, on_down: str) -> None:
    plan = Plan("default", requests_per_minute=40)
    key = key_of(plan)
    async with router(valkey.url, plan, on_down=on_down) as store, router(valkey.url, plan, name="other") as other:
        await acquainted(store, other)
        valkey.kill()
        answers = [(await ask(store, key))[0] for _ in range(60)]
        let_in = sum(isinstance(a, Reservation) for a in answers)
        refusals = {a.limit for a in answers if isinstance(a, Refusal)}
        if on_down == "share":
            assert let_in == 20  # two routers share 40
            assert refusals == {"requests"}
        elif on_down == "deny":
            assert let_in == 0
            assert refusals == {"store"}
        else:
            assert let_in == 60


async def test_held_allowances_are_spent_before_the_share(valkey: Valkey) -> None:
    plan = Plan("default", requests_per_minute=60_000)
    key = key_of(plan)
    async with router(valkey.url, plan) as store:

        async def allowed() -> bool:
            taken, _ = await ask(store, key)
            return isinstance(taken, Reservation) and taken.source == "allowance"

        await eventually(allowed)
        valkey.pause()
        answers = await asyncio.gather(*(ask(store, key) for _ in range(200)))
        sources = [a.source for a, _ in answers if isinstance(a, Reservation)]
        assert "allowance" in sources
        assert len(sources) == 200
        valkey.resume()


async def test_what_was_given_out_alone_is_owed_afterwards(valkey: Valkey) -> None:
    plan = Plan("default", requests_per_minute=600, tokens_per_minute=60_000, concurrent=100, budget_usd_month=1.0)
    key = key_of(plan)
    async with router(valkey.url, plan) as store:
        await ask(store, key, 0)
        valkey.pause()
        held = []
        began_s = time.monotonic()
        for _ in range(50):
            taken = await store.reserve(key, Amounts(1, 1000, 0, 1000), "r")
            assert isinstance(taken, Reservation)
            held.append(taken)
        valkey.resume()
        await until(store, "up")
        await settles(store, key, "concurrent", 51)
        then = await used(store, key)
        given_back = 1000 * (time.monotonic() - began_s)  # 60 000 a minute
        assert 45_000 - given_back <= then["tokens"] <= 53_000
        assert then["budget"] == pytest.approx(0.05, abs=0.003)  # calls under way when it froze may be there twice
        for taken in held:
            store.settle(taken, Amounts())
        await settles(store, key, "concurrent", 1)
        then = await used(store, key)
        assert then["tokens"] <= 2000
        assert then["budget"] <= 0.003


async def test_keys_work_while_it_is_away_and_are_unknown_only_before_the_first_snapshot(valkey: Valkey) -> None:
    async with router(valkey.url) as store:
        key, secret = await store.create_key("a")
        valkey.kill()
        await ask(store, key_of(PLAN))
        await ask(store, key_of(PLAN))
        await until(store, "down")
        assert store.keys.lookup(secret.encode()) == key
        assert store.keys.lookup(b"mr-wrong") is None
        with pytest.raises(RouterError) as caught:
            await store.create_key("b")
        assert caught.value.code == "store_unavailable"
        async with router(valkey.url, name="late") as late:  # starts, though there is no store
            with pytest.raises(RouterError) as caught:
                late.keys.lookup(secret.encode())
            assert caught.value.code == "store_unavailable"  # 503, not 401
            valkey.restart()
            await until(late, "up")
            await until(store, "up")
            # the server came back empty; the first router remembers
            await eventually(lambda: late.keys.lookup(secret.encode()) is not None)


async def test_flushall_loses_no_key_no_drain_and_no_slot(shared_valkey: Valkey) -> None:
    shared_valkey.command("FLUSHALL")
    plan = Plan("default", concurrent=10)
    async with router(shared_valkey.url, plan) as store, router(shared_valkey.url, plan, name="other") as other:
        key, secret = await store.create_key("a")
        revoked, revoked_secret = await store.create_key("b")
        await store.revoke_key(revoked.id)
        await store.set_runtime("drain:us-east", "1")
        taken = await store.reserve(key, Amounts(1, 1), "r")
        assert isinstance(taken, Reservation)
        await asyncio.sleep(0.2)
        shared_valkey.command("FLUSHALL")
        await beats(store, other)
        await settles(other, key, "concurrent", 1)
        assert await other.get_runtime() == {"drain:us-east": "1"}
        async with router(shared_valkey.url, plan, name="new") as new:
            assert new.keys.lookup(secret.encode()) == key
            found = new.keys.lookup(revoked_secret.encode())
            assert found is not None
            assert found.revoked
        store.settle(taken, Amounts(1, 1))


async def test_script_flush_costs_nothing(shared_valkey: Valkey) -> None:
    shared_valkey.command("FLUSHALL")
    key = key_of(PLAN)
    async with router(shared_valkey.url, PLAN) as store:
        for i in range(3):
            shared_valkey.command("SCRIPT", "FLUSH")
            taken = await store.reserve(key, Amounts(1, 10), "r")
            assert isinstance(taken, Reservation)
            assert taken.source == "store", i
            store.settle(taken, None)
            await settles(store, key, "concurrent", 0)
        assert store.state == "up"


async def test_operators_do_not_wait_for_a_store_that_is_known_to_be_away(valkey: Valkey) -> None:
    """Each would wait until a connection is given up, and those behind it for as long again."""
    async with router(valkey.url) as store:
        await store.set_runtime("drain:us-east", "1")
        valkey.pause()
        try:
            await until(store, "down")
            for call in (store.get_runtime(), store.set_runtime("drain:us-east", None)):
                with pytest.raises(RouterError) as caught:
                    call.send(None)  # as far as it goes without waiting
                assert caught.value.code == "store_unavailable"
        finally:
            valkey.resume()
        await until(store, "up")
        assert await store.get_runtime() == {"drain:us-east": "1"}


@contextlib.asynccontextmanager
async def replica(primary: Valkey) -> AsyncIterator[Valkey]:
    with Valkey(unix=False, port=free_port()) as server:
        server.command("REPLICAOF", "127.0.0.1", str(primary.port))
        yield server


async def test_a_read_only_replica_is_no_store() -> None:
    with Valkey(unix=False) as primary:
        async with replica(primary) as server, router(server.url, PLAN) as store:
            assert store.state == "down"
            assert isinstance((await ask(store, key_of(PLAN)))[0], Reservation)
            server.command("REPLICAOF", "NO", "ONE")  # it is promoted
            await until(store, "up")


async def test_a_store_out_of_memory_counts_as_away() -> None:
    plan = Plan("default", requests_per_minute=600)
    key = key_of(plan)
    with Valkey(args=("--maxmemory-policy", "noeviction")) as valkey:
        async with router(valkey.url, plan) as store:
            assert store.state == "up"
            valkey.command("CONFIG", "SET", "maxmemory", "1")

            async def served_and_down() -> bool:
                assert isinstance((await ask(store, key))[0], Reservation)
                return store.state == "down"

            await eventually(served_and_down)
            valkey.command("CONFIG", "SET", "maxmemory", "0")
            await until(store, "up")


async def test_the_same_keys_after_a_restart_of_everything() -> None:
    with Valkey(persist=True) as valkey:
        async with router(valkey.url) as store:
            key, secret = await store.create_key("a", tenant="acme")
        valkey.restart()
        async with router(valkey.url) as store:
            found = store.keys.lookup(secret.encode())
            assert found == key
            assert found.tenant == "acme"
