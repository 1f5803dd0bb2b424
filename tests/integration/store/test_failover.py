"""Failover under load: sentinels, and a cluster. Nobody waits for it, and no limit is exceeded by it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from redis.crc import key_slot

from router.config import Plan
from tests.integration.store.load import load
from tests.integration.store.routers import eventually, router
from tests.support.valkey import Valkey
from tests.support.valkeys import Guarded, cluster_url, guarded, valkey_cluster

#: ``deny``: what is let in was let in by the store, the old one or the new one.
PLAN = Plan("default", requests_per_minute=1200, concurrent=12)


@pytest.fixture
def sentinels() -> Iterator[Guarded]:
    with guarded() as fleet:
        yield fleet


@pytest.fixture
def nodes() -> Iterator[list[Valkey]]:
    with valkey_cluster(3, replicas=1) as servers:
        yield servers


async def test_sentinels_promote_the_replica_under_load(sentinels: Guarded) -> None:
    async with (
        router(sentinels.url, PLAN, name="a", on_down="deny") as a,
        router(sentinels.url, PLAN, name="b", on_down="deny") as b,
    ):
        await eventually(lambda: a._heart.routers == b._heart.routers == 2)
        async with load([a, b], PLAN) as running:
            await asyncio.sleep(1.0)
            sentinels.primary.kill()
            await eventually(lambda: a.state == b.state == "down")
            await eventually(lambda: a.state == b.state == "up", 60.0)
            before = running.admitted
            await eventually(lambda: running.admitted > before + 20)
        assert b"role:master" in sentinels.replica.command("INFO", "replication")
    assert running.excess <= 0
    assert running.most_at_once <= 12
    assert running.longest_wait_s < 1.0


async def test_a_node_of_a_cluster_fails_over_under_load(nodes: list[Valkey]) -> None:
    home = key_slot(b"k1") * 3 // 16384
    async with (
        router(cluster_url(nodes), PLAN, name="a", on_down="deny") as a,
        router(cluster_url(nodes), PLAN, name="b", on_down="deny") as b,
    ):
        await eventually(lambda: a.state == b.state == "up")
        await eventually(lambda: a._heart.routers == b._heart.routers == 2)
        async with load([a, b], PLAN) as running:
            await asyncio.sleep(1.0)
            nodes[home].kill()
            await eventually(lambda: b"role:master" in nodes[home + 3].command("INFO", "replication"), 60.0)
            before = running.admitted
            await eventually(lambda: running.admitted > before + 20, 60.0)
    assert running.excess <= 0
    assert running.most_at_once <= 12
    assert running.longest_wait_s < 1.0


async def test_key_changes_are_heard_in_a_cluster(nodes: list[Valkey]) -> None:
    """At once, not only with the next heartbeat; also after the node is gone that was listened to."""
    url = cluster_url(nodes)
    async with router(url, PLAN, name="a") as a, router(url, PLAN, name="b") as b:
        await eventually(lambda: a.state == b.state == "up")
        await asyncio.sleep(0.2)
        loop = asyncio.get_running_loop()
        waits = []
        for n in range(5):
            key, secret = await a.create_key(f"k{n}")
            began_s = loop.time()
            await eventually(lambda secret=secret: b.keys.lookup(secret.encode()) is not None)
            waits.append(loop.time() - began_s)
            await a.revoke_key(key.id)
            await eventually(lambda key=key: b.keys.get(key.id).revoked)
        assert sorted(waits)[2] < 0.3
