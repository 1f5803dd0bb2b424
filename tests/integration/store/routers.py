"""Stores for tests: what a router process would have, in this process."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable

from router.config import Plan
from router.store.base import Key
from router.store.courier import Link
from router.store.redis import RedisLink
from router.store.shared import SharedStore


@contextlib.asynccontextmanager
async def router(
    url: str,
    plan: Plan | None = None,
    *,
    name: str = "r",
    on_down: str = "share",
    lease_s: float = 15.0,
    snapshot: str | None = None,
) -> AsyncIterator[SharedStore]:
    """One router's store on the server at ``url``."""
    store = store_on(RedisLink(url), plan, name=name, on_down=on_down, lease_s=lease_s, snapshot=snapshot)
    await store.start()
    try:
        yield store
    finally:
        await store.stop()


def new_store(
    url: str, plan: Plan | None = None, *, name: str = "r", on_down: str = "share", lease_s: float = 15.0
) -> SharedStore:
    return store_on(RedisLink(url), plan, name=name, on_down=on_down, lease_s=lease_s)


def store_on(
    link: Link,
    plan: Plan | None = None,
    *,
    name: str = "r",
    on_down: str = "share",
    lease_s: float = 15.0,
    snapshot: str | None = None,
) -> SharedStore:
    return SharedStore(
        link,
        {"default": plan or Plan("default")},
        router_name=name,
        on_down=on_down,
        monotonic_s=time.monotonic,
        wall_s=time.time,
        lease_s=lease_s,
        snapshot=snapshot,
    )


def key_of(plan: Plan, key_id: str = "k1") -> Key:
    return Key(key_id, key_id, "tenant", plan, 0.0, False)


async def eventually(true: Callable[[], bool] | Callable[[], Awaitable[bool]], timeout_s: float = 30.0) -> None:
    """Until it is true. Raises TimeoutError."""
    async with asyncio.timeout(timeout_s):
        while True:
            answer = true()
            if answer if isinstance(answer, bool) else await answer:
                return
            await asyncio.sleep(0.01)


async def acquainted(*stores: SharedStore) -> None:
    """Until each has heard of all."""
    await eventually(lambda: all(store._heart.routers == len(stores) for store in stores))


async def beats(*stores: SharedStore) -> None:
    """Until each has had a whole heartbeat that began after this call: an earlier one may be under way, and of the last
    one only the answer is seen."""
    for store in stores:
        for _ in range(3):
            before_s = store._heart._offset_s
            store._heart.hasten()
            await eventually(lambda store=store, before_s=before_s: store._heart._offset_s != before_s)
