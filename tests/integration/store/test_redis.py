"""Every kind of address that ``[store] redis`` may hold."""

from __future__ import annotations

from pathlib import Path

import pytest
import redis

from router.config import Plan
from router.core.limits import Amounts
from router.store.base import Reservation
from router.store.shared import SharedStore
from tests.integration.store.routers import eventually, key_of, router
from tests.support.certificates import Certificate, certificate
from tests.support.ports import free_port
from tests.support.redis_server import redis_server
from tests.support.stopwatch import Stopwatch
from tests.support.tls_front import tls_front
from tests.support.valkey import Valkey
from tests.support.valkeys import sentinel

PLAN = Plan("default", requests_per_minute=600, tokens_per_minute=60_000, concurrent=10)


async def works(store: SharedStore) -> None:
    """Every verb once."""
    assert store.state == "up"
    key, secret = await store.create_key("a")
    assert store.keys.lookup(secret.encode()) == key
    taken = await store.reserve(key, Amounts(1, 100), "r")
    assert isinstance(taken, Reservation)
    assert taken.source == "store"
    store.settle(taken, Amounts(1, 10))

    async def settled() -> bool:
        return {s.limit: s.used + s.held for s in await store.quota(key)}["concurrent"] == 0

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
            assert isinstance(await store.reserve(key_of(PLAN), Amounts(1, 1), "r"), Reservation)
    assert "wr0ng" not in caplog.text
    assert "s3cret" not in caplog.text


async def test_a_cluster() -> None:
    args = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    with Valkey(unix=False, args=args) as valkey:
        valkey.command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        await eventually(lambda: b"cluster_state:ok" in valkey.command("CLUSTER", "INFO"))
        async with router(f"redis+cluster://127.0.0.1:{valkey.port}", PLAN) as store:
            await works(store)


async def test_a_sentinel_leads_to_the_new_primary() -> None:
    with Valkey(unix=False) as old, Valkey(unix=False, args=("--replicaof", f"127.0.0.1 {old.port}")) as new:
        await eventually(lambda: b"master_link_status:up" in new.command("INFO", "replication"), timeout_s=60)
        with sentinel(old.port) as port:
            url = f"redis+sentinel://127.0.0.1:{port}/main"
            async with router(url, PLAN) as store:
                await eventually(lambda: store.state == "up")
                await works(store)
                # the sentinel has to know the replica before it can promote it
                await eventually(lambda: _replicas(port) == 1, timeout_s=60)
                old.kill()
                watch = Stopwatch()
                taken = await store.reserve(key_of(PLAN), Amounts(1, 1), "r")
                assert isinstance(taken, Reservation)
                assert watch.elapsed_s < 0.2

                async def served_by_the_new_one() -> bool:
                    taken = await store.reserve(key_of(PLAN, "k2"), Amounts(1, 1), "r")
                    assert isinstance(taken, Reservation)
                    store.settle(taken, Amounts(1, 1))
                    return taken.source == "store"

                await eventually(served_by_the_new_one, timeout_s=60)


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("tls"), "store")


async def answers(store: SharedStore) -> None:
    """It is up; on a busy machine a handshake takes longer than a request would wait."""
    await eventually(lambda: store.state == "up")
    key, secret = await store.create_key("a")
    assert store.keys.lookup(secret.encode()) == key


async def test_a_private_authority_is_honoured_by_one_server(authority: Certificate) -> None:
    with Valkey(unix=False) as valkey, tls_front(valkey.port, authority) as port:
        async with router(f"rediss://127.0.0.1:{port}/1?ssl_ca_certs={authority.cert}", PLAN) as store:
            await answers(store)
        async with router(f"rediss://127.0.0.1:{port}/1", PLAN) as store:
            assert store.state == "down", "nobody vouches for the certificate"
        async with router(f"rediss://127.0.0.1:{port}/1?ssl_cert_reqs=none", PLAN) as store:
            await answers(store)


async def test_a_certificate_of_the_client(authority: Certificate, tmp_path: Path) -> None:
    mine = certificate(tmp_path, "router")
    with Valkey(unix=False) as valkey, tls_front(valkey.port, authority, clients=mine) as port:
        url = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={authority.cert}"
        async with router(f"{url}&ssl_certfile={mine.cert}&ssl_keyfile={mine.key}", PLAN) as store:
            await answers(store)
        async with router(url, PLAN) as store:
            assert store.state == "down", "it shows no certificate"


async def test_the_server_s_own_tls(authority: Certificate) -> None:
    """The Valkey of the tests is built without: for it the front above stands."""
    port, program = free_port(), redis_server()
    args = ("--tls-port", str(port), "--tls-cert-file", str(authority.cert), "--tls-key-file", str(authority.key))
    with Valkey(args=(*args, "--tls-ca-cert-file", str(authority.cert)), program=program):
        url = f"rediss://127.0.0.1:{port}/0?ssl_ca_certs={authority.cert}"
        async with router(f"{url}&ssl_certfile={authority.cert}&ssl_keyfile={authority.key}", PLAN) as store:
            await answers(store)
        async with router(url, PLAN) as store:
            assert store.state == "down", "it shows no certificate"


async def test_a_private_authority_is_honoured_by_sentinels_and_their_primary(authority: Certificate) -> None:
    with Valkey(unix=False) as valkey, tls_front(valkey.port, authority) as port:
        # the sentinel tells the port that speaks both, and uses it itself without TLS
        with sentinel(port) as guide, tls_front(guide, authority) as guide_port:
            url = f"rediss+sentinel://127.0.0.1:{guide_port}/main/0"
            async with router(f"{url}?ssl_ca_certs={authority.cert}", PLAN) as store:
                await answers(store)
            async with router(url, PLAN) as store:
                assert store.state == "down"
            # the sentinels' own authority overrides the other
            async with router(f"{url}?ssl_ca_certs={authority.cert}&sentinel_ssl_ca_certs=/nowhere", PLAN) as store:
                assert store.state == "down"


async def test_a_private_authority_is_honoured_by_a_cluster(authority: Certificate) -> None:
    args = ("--cluster-enabled", "yes", "--cluster-port", str(free_port()))
    with Valkey(unix=False, args=args) as valkey, tls_front(valkey.port, authority) as port:
        valkey.command("CONFIG", "SET", "cluster-announce-port", str(port))
        valkey.command("CLUSTER", "ADDSLOTSRANGE", "0", "16383")
        await eventually(lambda: b"cluster_state:ok" in valkey.command("CLUSTER", "INFO"))
        async with router(f"rediss+cluster://127.0.0.1:{port}?ssl_ca_certs={authority.cert}", PLAN) as store:
            await answers(store)
        async with router(f"rediss+cluster://127.0.0.1:{port}", PLAN) as store:
            assert store.state == "down"


async def test_a_name_and_a_database_are_honoured_in_every_form(tmp_path: Path) -> None:
    with Valkey(unix=False) as valkey, sentinel(valkey.port) as guide:
        for url in (f"redis://127.0.0.1:{valkey.port}/3", f"redis+sentinel://127.0.0.1:{guide}/main/3"):
            async with router(f"{url}?client_name=meridian", PLAN) as store:
                await eventually(lambda store=store: store.state == "up")
                clients = valkey.command("CLIENT", "LIST").decode()
                assert "name=meridian" in clients
                assert "db=3" in next(line for line in clients.splitlines() if "name=meridian" in line)


def _replicas(port: int) -> int:
    with redis.Redis(port=port, decode_responses=True) as client:
        return int(client.sentinel_master("main")["num-slaves"])
