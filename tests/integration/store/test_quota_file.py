"""A router that is killed and started again while the store is away goes on with the share it had, and has no other."""

from __future__ import annotations

import asyncio
import shutil
import stat
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from router.config import Plan
from router.core.limits import KINDS, NOTHING, Amounts
from router.core.quota import MINUTE_US, Standing
from router.store.base import Key, Refusal, Reservation
from router.store.degraded import Recalled
from router.store.quota_file import ACCOUNTS_MAX, GROWTH_BYTES, QuotaFile
from router.store.shared import SharedStore
from tests.integration.store.routers import eventually, key_of, router
from tests.support.valkey import Valkey

RATE = Plan("default", requests_per_minute=60)
BUDGET = Plan("default", budget_usd_month=1.0)
#: of a budget of a dollar
CENT = 10_000


@asynccontextmanager
async def killed(url: str, path: Path, plan: Plan) -> AsyncIterator[SharedStore]:
    """A router of which nothing is left but what its file had when it was killed."""
    async with router(url, plan, snapshot=str(path)) as store:
        yield store
        left = Path(f"{path}.quotas")
        if left.exists():
            shutil.copy2(left, f"{left}.then")
    if left.exists():
        Path(f"{left}.then").replace(left)


async def ask(store: SharedStore, key: Key, microusd: int = CENT) -> Reservation | Refusal:
    cost = Amounts(1, 0, 0, microusd)
    return store.reserve_now(key, cost, "r", time.monotonic()) or await store.reserve(key, cost, "r")


async def let_in(store: SharedStore, key: Key, most: int = 500) -> int:
    """How many requests in a row, up to the first that is refused."""
    for count in range(most):
        answer = await ask(store, key)
        if isinstance(answer, Refusal):
            assert "The shared store is away" in answer.detail
            return count
        store.settle(answer, Amounts(1, 0, 0, CENT))
    return most


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.mark.parametrize("plan", [RATE, BUDGET], ids=["rate", "budget"])
async def test_a_router_that_is_killed_again_and_again_has_one_share(valkey: Valkey, path: Path, plan: Plan) -> None:
    key = key_of(plan)
    whole = 60 if plan is RATE else 100
    async with killed(valkey.url, path, plan) as store:
        before = await let_in(store, key, 10)
        assert before == 10
        await store._file.save(store._ledger.known(), 1)
        valkey.kill()
        began_s = time.monotonic()
        await eventually(lambda: store.state == "down")
        counts = [await let_in(store, key, 5)]
    for _ in range(12):
        async with killed(valkey.url, path, plan) as store:
            assert store.state == "down"
            counts.append(await let_in(store, key, 5))
    refilled = 0.0 if plan is BUDGET else (time.monotonic() - began_s) * 60 / 60
    assert before + sum(counts) <= whole + refilled + 1
    assert counts[0] == counts[1] == 5, "and it goes on with what it had"
    assert sum(counts) >= 15


async def test_all_at_once_is_no_more_than_what_was_written(valkey: Valkey, path: Path) -> None:
    valkey.kill()
    total, key = 0, key_of(BUDGET)
    for _ in range(6):
        async with killed(valkey.url, path, BUDGET) as store:
            answers = await asyncio.gather(*(ask(store, key) for _ in range(40)))
            total += sum(isinstance(answer, Reservation) for answer in answers)
    assert 40 <= total <= 100


async def test_an_account_that_the_file_does_not_have_begins_with_nothing(valkey: Valkey, path: Path) -> None:
    valkey.kill()
    async with killed(valkey.url, path, RATE) as store:
        assert isinstance(await ask(store, key_of(RATE, "other")), Reservation), "there was no router before it"
    async with killed(valkey.url, path, RATE) as store:
        answer = await ask(store, key_of(RATE))
        assert isinstance(answer, Refusal)
        assert answer.retry_after_s is not None
        assert answer.retry_after_s <= 1.1, "a second of the rate is one request"
        async with asyncio.timeout(20):
            while isinstance(await ask(store, key_of(RATE)), Refusal):  # noqa: ASYNC110
                await asyncio.sleep(0.1)


async def test_an_orderly_stop_leaves_what_was_really_used(valkey: Valkey, path: Path) -> None:
    key = key_of(BUDGET)
    async with router(valkey.url, BUDGET, snapshot=str(path)) as store:
        assert await let_in(store, key, 20) == 20
        valkey.kill()
        await eventually(lambda: store.state == "down")
        assert await let_in(store, key, 20) == 20
    assert stat.S_IMODE(Path(f"{path}.quotas").stat().st_mode) == 0o600
    async with router(valkey.url, BUDGET, snapshot=str(path)) as store:
        assert 55 <= await let_in(store, key) <= 60
        valkey.restart()
        await eventually(lambda: store.state == "up")
        (state,) = await store.quota(key)
        assert state.scope == "global"


async def test_routers_that_shared_the_limits_still_do(valkey: Valkey, path: Path) -> None:
    key = key_of(BUDGET)
    async with router(valkey.url, BUDGET, name="other"), router(valkey.url, BUDGET, snapshot=str(path)) as store:
        await eventually(lambda: store._heart.routers == 2)
        assert await let_in(store, key, 20) == 20
        await store._file.save(store._ledger.known(), 2)
        valkey.kill()
    async with router(valkey.url, BUDGET, snapshot=str(path)) as store:
        assert 35 <= await let_in(store, key) <= 40, "half of what was left"


# the file


def seen(used: int, now_us: int = 5) -> Recalled:
    units = list(NOTHING)
    units[0] = used
    return Recalled(Standing(now_us, tuple(units)))


def used_of(file: QuotaFile, account: str) -> int:
    known = file.recall(account, 5)
    assert known is not None
    return known.standing.used[0]


def file_of(path: Path, wall_s: float = 0.0) -> QuotaFile:
    made = QuotaFile(str(path), wall_s=lambda: wall_s)
    made.load()
    return made


async def test_the_last_line_of_an_account_holds_and_one_that_is_cut_off_does_not(path: Path) -> None:
    file = file_of(path)
    assert file.recall("a", 5) is None, "there was no router before this one"
    await file.save([("a", seen(1)), ("b", seen(2))], 3)
    await file.save([("a", seen(7)), ("b", seen(2))], 3)
    assert file.path is not None
    assert len(file.path.read_bytes().splitlines()) == 4, "what has not changed is not written again"
    await file.save([("b", seen(9))], 3)
    file.path.write_bytes(file.path.read_bytes()[:-5])
    again = file_of(path)
    assert again.routers == 3
    assert [used_of(again, name) for name in "ab"] == [7, 2]
    unknown = again.recall("c", 77)
    assert unknown is not None
    assert unknown.standing == Standing(77, tuple(MINUTE_US if k.shape.value == "rate" else 0 for k in KINDS))


async def test_the_file_does_not_grow_for_ever(path: Path) -> None:
    file = file_of(path)
    for n in range(3):
        await file.save([(f"account {i}", seen(n)) for i in range(ACCOUNTS_MAX + 100)], 1)
    assert file.path is not None
    assert file.path.stat().st_size < 3 * GROWTH_BYTES
    assert len(file_of(path)._last) <= ACCOUNTS_MAX


@pytest.mark.parametrize("wrong", ["mode", "version", "empty", "nonsense"])
async def test_a_file_that_cannot_be_trusted_is_not_used(
    path: Path, wrong: str, caplog: pytest.LogCaptureFixture
) -> None:
    file = file_of(path)
    await file.save([("a", seen(1))], 3)
    assert file.path is not None
    if wrong == "mode":
        file.path.chmod(0o644)
    else:
        file.path.write_bytes({"version": b'{"format": 99}\n', "empty": b"", "nonsense": b"[\n"}[wrong])
    again = file_of(path)
    assert used_of(again, "a") == MINUTE_US
    assert sum("is not known" in r.getMessage() for r in caplog.records) == 1
    await again.save([("a", seen(4))], 1)
    assert used_of(file_of(path), "a") == 4, "it is written again"


async def test_a_full_disk_is_told_once_and_stops_nothing(caplog: pytest.LogCaptureFixture) -> None:
    file = file_of(Path("/nowhere/keys.json"))
    for n in range(3):
        await file.save([("a", seen(n))], 1)
    assert sum("cannot be written" in r.getMessage() for r in caplog.records) == 1


@pytest.mark.parametrize("when", ["before it starts", "while it runs"])
async def test_a_store_that_lost_its_data_hears_from_the_file_what_was_spent(
    valkey: Valkey, path: Path, when: str
) -> None:
    key = key_of(BUDGET)
    async with killed(valkey.url, path, BUDGET) as store:
        assert await let_in(store, key, 40) == 40
        await eventually(lambda: store.state == "up" and not store._ledger.held())
        await store._file.save(store._ledger.known(), 1)
    valkey.kill()
    if when == "before it starts":
        valkey.start()
    async with router(valkey.url, BUDGET, snapshot=str(path)) as store:
        if when == "while it runs":
            assert store.state == "down"
            await store.quota(key)
            assert await let_in(store, key, 10) == 10
            valkey.start()
        await eventually(lambda: store.state == "up")
        spent = 50 if when == "while it runs" else 40

        async def told() -> bool:
            (state,) = await store.quota(key)
            return state.scope == "global" and state.used == pytest.approx(spent / 100, abs=0.0001)

        await eventually(told)
