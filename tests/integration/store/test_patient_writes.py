"""A store that stalls: what an operator writes is patient, is done once, and is answered from what was read back."""

from __future__ import annotations

import asyncio

import pytest

from router.config import Config, Plan, StoreSection
from router.store.keysync import KEYS
from router.store.open import open_store
from router.store.shared import SharedStore
from tests.support.valkey import Valkey

PLANS = {"default": Plan("default", requests_per_minute=60, budget_usd_month=1.0)}
PAUSE_MS = 600


@pytest.fixture
async def store(shared_valkey: Valkey) -> SharedStore:
    shared_valkey.command("FLUSHALL")
    made = open_store(Config(plans=PLANS, store=StoreSection(redis=shared_valkey.url)), router_name="r1")
    assert isinstance(made, SharedStore)
    return made


async def test_nothing_is_lost_or_done_twice_while_the_store_stalls(store: SharedStore, shared_valkey: Valkey) -> None:
    await store.start()
    try:
        key, _ = await store.create_key("me")

        def stall() -> None:
            shared_valkey.command("CLIENT", "PAUSE", str(PAUSE_MS), "ALL")

        await asyncio.to_thread(stall)
        made, secret = await store.create_key("new")
        assert store.keys.lookup(secret.encode()) == made
        await asyncio.to_thread(stall)
        changed = await store.change_key(key.id, {"name": "you"})
        assert changed is not None
        assert changed.name == "you"
        await asyncio.to_thread(stall)
        assert await store.revoke_key(key.id)
        assert (await store.get_key(key.id)).revoked  # type: ignore[union-attr]
        await asyncio.to_thread(stall)
        await store.reset_quota(key)
        assert await store.revoke_key(key.id), "once more does no harm"
        assert shared_valkey.command("HLEN", KEYS).strip() == b":2", "one key was made, not one for each try"
    finally:
        await store.stop()
