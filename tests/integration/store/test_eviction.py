"""A store that throws away what it was given: what the routers know of it is put back, and an operator is warned."""

from __future__ import annotations

import itertools

import pytest

from router.store.shared import SharedStore
from tests.integration.store.routers import beats, eventually, router
from tests.support.valkey import Valkey

KEYS = ("{mr}:keys", "{mr}:version", "{mr}:pepper", "{mr}:mark", "{mr}:runtime", "{mr}:routers", "{mr}:marks")


async def knows(store: SharedStore, secrets: list[str]) -> None:
    def all_known() -> bool:
        return all(store.keys.lookup(secret.encode()) is not None for secret in secrets)

    await eventually(all_known)


@pytest.mark.parametrize("lost", [*((key,) for key in KEYS), *itertools.combinations(KEYS[:5], 2)], ids="+".join)
async def test_no_key_and_no_drain_is_lost_whatever_is_evicted(shared_valkey: Valkey, lost: tuple[str, ...]) -> None:
    shared_valkey.command("FLUSHALL")
    url = shared_valkey.url
    async with router(url, name="a") as a, router(url, name="b") as b:
        secrets = [(await a.create_key(f"k{n}"))[1] for n in range(3)]
        gone, gone_secret = await a.create_key("gone")
        await a.revoke_key(gone.id)
        await a.set_runtime("drain:eu", "1")
        await knows(b, secrets)
        await b.get_runtime()
        shared_valkey.command("DEL", *lost)
        secrets.append((await b.create_key("new"))[1])  # before anybody has noticed
        await knows(a, secrets)
        await beats(a, b)
        assert await a.get_runtime() == {"drain:eu": "1"}
        async with router(url, name="c") as c:
            for store in (a, b, c):
                await knows(store, secrets)
                found = store.keys.lookup(gone_secret.encode())
                assert found is not None
                assert found.revoked, "a revocation is not forgotten either"
            assert await c.get_runtime() == {"drain:eu": "1"}


async def test_the_last_drain_that_is_taken_back_stays_so(shared_valkey: Valkey) -> None:
    shared_valkey.command("FLUSHALL")
    async with router(shared_valkey.url, name="a") as a, router(shared_valkey.url, name="b") as b:
        await a.set_runtime("drain:eu", "1")
        assert await b.get_runtime() == {"drain:eu": "1"}
        await a.set_runtime("drain:eu", None)
        assert await b.get_runtime() == {}
        assert await a.get_runtime() == {}


@pytest.mark.parametrize(
    ("policy", "loses"),
    [("allkeys-lru", "API keys, drains and quotas"), ("volatile-ttl", "quotas"), ("noeviction", None)],
)
async def test_a_policy_that_may_throw_away_is_said_once_and_shown(
    policy: str, loses: str | None, caplog: pytest.LogCaptureFixture
) -> None:
    with Valkey(args=("--maxmemory-policy", policy)) as valkey:
        async with router(valkey.url) as store:
            if loses is None:
                assert store.notice is None
                assert "maxmemory" not in caplog.text
                return
            assert store.notice is not None
            assert f"deletes {loses}." in store.notice
            valkey.kill()
            await eventually(lambda: store.state == "down")
            valkey.start()
            await eventually(lambda: store.state == "up")
            assert sum(policy in r.getMessage() for r in caplog.records) == 1
            valkey.command("CONFIG", "SET", "maxmemory-policy", "noeviction")
            valkey.pause()
            await eventually(lambda: store.state == "down")
            valkey.resume()
            await eventually(lambda: store.state == "up" and store.notice is None)


async def test_a_store_that_really_evicts_costs_no_key(caplog: pytest.LogCaptureFixture) -> None:
    args = ("--maxmemory", "3mb", "--maxmemory-policy", "allkeys-random", "--maxmemory-samples", "1")
    with Valkey(unix=False, args=args) as valkey:
        async with router(valkey.url, name="a") as a, router(valkey.url, name="b") as b:
            secrets = []
            for n in range(40):
                valkey.command("SET", f"filler:{n}", "x" * 100_000)
                if n % 8 == 0 and a.state == "up":
                    secrets.append((await a.create_key(f"k{n}"))[1])
            valkey.command("CONFIG", "SET", "maxmemory", "0")
            await eventually(lambda: a.state == b.state == "up")
            assert secrets
            for store in (a, b):
                await knows(store, secrets)
