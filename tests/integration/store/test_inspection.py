"""Looking at a store: what is found, and what stays unknown."""

from __future__ import annotations

import time

from router.store.inspection import Inspection, inspect
from tests.support.valkey import Valkey


async def look(url: str, ahead_s: float = 0.0) -> Inspection:
    wall = lambda: time.time() + ahead_s  # noqa: E731
    return await inspect(url, wait_s=0.5, router="r1", wall_s=wall, monotonic_s=time.monotonic)


async def test_a_server(shared_valkey: Valkey) -> None:
    found = await look(shared_valkey.url)
    assert found.problem is None
    assert found.rtt_s is not None
    assert 0 < found.rtt_s < 5
    assert (found.version or "").startswith("Valkey ")
    assert (found.eviction, found.refusals, found.read_only) == ("noeviction", [], False)
    assert found.saves is False, "its test server saves nothing"


async def test_a_clock_that_is_behind(shared_valkey: Valkey) -> None:
    found = await look(shared_valkey.url, ahead_s=100.0)
    assert found.skew_s is not None
    assert -101 < found.skew_s < -99


async def test_memory_that_is_nearly_used_up() -> None:
    with Valkey(args=("--maxmemory", "3mb")) as valkey:
        found = await look(valkey.url)
    assert found.memory_ratio is not None
    assert found.memory_ratio > 0.2


async def test_a_server_that_is_frozen(valkey: Valkey) -> None:
    valkey.pause()
    try:
        found = await look(valkey.url)
    finally:
        valkey.resume()
    assert found.problem is not None
    assert "does not answer" in found.problem
