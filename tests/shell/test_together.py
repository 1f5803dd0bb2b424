"""A reservation in several accounts is one of all of them, or none."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config import Limited, Tenant
from router.core.limits import Amounts
from router.core.scopes import TENANT
from router.store import together
from router.store.base import Refusal, Reservation
from router.store.groups import LimitGroup
from router.store.memory import MemoryStore

WALL_S = 1_800_000_000.0


class Clock:
    now_s = 0.0

    def monotonic_s(self) -> float:
        return self.now_s

    def wall_s(self) -> float:
        return WALL_S + self.now_s


def memory() -> tuple[MemoryStore, Clock]:
    clock = Clock()
    return MemoryStore({}, monotonic_s=clock.monotonic_s, wall_s=clock.wall_s), clock


def group(name: str, **limits: Any) -> LimitGroup:
    return LimitGroup.of(TENANT, name, Tenant(name, **limits))


def standings(store: MemoryStore, groups: list[LimitGroup], now_s: float) -> dict[str, Any]:
    found = {}
    for each in groups:
        account = store._purse(each).account
        found[each.id] = (account.standing().used, dict(account.slots), list(store._purse(each).exposed))
    return found


LIMITS = st.fixed_dictionaries(
    {},
    optional={
        "requests_per_minute": st.integers(1, 6),
        "tokens_per_minute": st.integers(1, 200),
        "output_tokens_per_minute": st.integers(1, 100),
        "concurrent": st.integers(1, 4),
        "budget_usd_day": st.sampled_from([0.0001, 0.001]),
    },
)
STEPS = st.lists(
    st.tuples(st.integers(0, 60), st.integers(0, 60), st.integers(0, 200), st.integers(0, 3), st.booleans()),
    max_size=25,
)


@given(st.lists(LIMITS, min_size=1, max_size=4), STEPS)
def test_all_or_none(limits: list[dict[str, Any]], steps: list[tuple[int, int, int, int, bool]]) -> None:
    store, clock = memory()
    groups = [group(f"g{number}", **each) for number, each in enumerate(limits)]
    open_: list[Reservation] = []
    for prompt, output, microusd, end, wait in steps:
        clock.now_s += 0.5 * wait
        for each in groups:  # let time pass in every account
            store.charge(each, Amounts(0))
        before = standings(store, groups, clock.now_s)
        answer = together.reserve_now(store, groups, Amounts(1, prompt, output, microusd), "r", clock.now_s)
        assert answer is not None
        if isinstance(answer, Refusal):
            assert answer.holder in groups
            for each in groups:
                (used, slots, exposed), (had, held, was) = (
                    standings(store, groups, clock.now_s)[each.id],
                    before[each.id],
                )
                assert slots == held
                assert exposed == was
                assert all(0 <= now - then <= 1 for now, then in zip(used, had, strict=True)), "except a rounding"
        else:
            assert len(answer.others) == len(groups) - 1
            open_.append(answer)
        while len(open_) > end:
            together.settle(store, open_.pop(0), Amounts(1, prompt // 2, output // 2, microusd // 2))
    for answer in open_:
        together.settle(store, answer, None)
    assert not any(store._purse(each).account.slots for each in groups)


class Slow:
    """A store whose accounts must be asked. ``asked`` in this order; each answers when it is told to."""

    def __init__(self, **refuses: str) -> None:
        self.refuses = refuses
        self.asked: list[str] = []
        self.settled: list[tuple[str, Amounts | None]] = []
        self.go = asyncio.Event()

    def reserve_now(self, holder: LimitGroup, *_: Any) -> Reservation | None:
        return Reservation(holder.id, "r", (), "allowance") if holder.name.startswith("held") else None

    async def reserve(self, holder: LimitGroup, *_: Any) -> Reservation | Refusal:
        self.asked.append(holder.name)
        await self.go.wait()
        if holder.name in self.refuses:
            return Refusal(self.refuses[holder.name], "no")
        return Reservation(holder.id, "r", (), "store")

    def settle(self, reservation: Reservation, used: Amounts | None) -> None:
        if not reservation.settled:
            reservation.settled = True
            self.settled.append((reservation.account, used))


def names(*names: str) -> list[LimitGroup]:
    return [group(name) for name in names]


async def asking(store: Any, groups: list[LimitGroup]) -> asyncio.Task[Reservation | Refusal]:
    task = asyncio.create_task(together.reserve(store, groups, Amounts(1), "r", 0.0))
    for _ in range(5):
        await asyncio.sleep(0)
    return task


async def test_what_must_be_asked_is_asked_at_once() -> None:
    store = Slow()
    task = await asking(store, names("a", "held", "b", "c"))
    assert store.asked == ["a", "b", "c"], "one round trip"
    store.go.set()
    answer = await task
    assert isinstance(answer, Reservation)
    assert answer.account == "tenant:a"
    assert [other.account for other in answer.others] == ["tenant:held", "tenant:b", "tenant:c"]
    assert not store.settled


async def test_a_refusal_gives_back_what_the_others_took() -> None:
    store = Slow(b="requests", c="tokens")
    task = await asking(store, names("a", "held", "b", "c"))
    store.go.set()
    answer = await task
    assert isinstance(answer, Refusal)
    assert (answer.limit, answer.holder) == ("requests", group("b")), "the first in the order of the list"
    assert sorted(store.settled) == [("tenant:a", None), ("tenant:held", None)]


@pytest.mark.parametrize("gone", [False, True])
async def test_who_leaves_while_the_store_is_asked_gives_back_everything(gone: bool) -> None:
    store = Slow(**({"b": "requests"} if gone else {}))
    task = await asking(store, names("a", "held", "b"))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert store.settled == [("tenant:held", None)]
    store.go.set()
    for _ in range(5):
        await asyncio.sleep(0)
    assert {account for account, _ in store.settled} == {"tenant:held", "tenant:a", *(() if gone else ("tenant:b",))}


def test_a_plan_is_anything_with_limits() -> None:
    assert isinstance(Tenant("x"), Limited)
