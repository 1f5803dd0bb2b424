"""The books that routers share: one arithmetic in Lua and Python, each batch once, each threshold by one router."""

from __future__ import annotations

import asyncio
import itertools
import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from router.core.periods import DAY, MONTH
from router.core.spending import AccountSpent, Announced, Charged, Seen, Spender, Sums
from router.store.courier import LinkError
from router.store.shared import SharedStore
from router.store.spend_book import Batch, MemorySpendBook, numbers_of
from tests.integration.store.routers import eventually, router
from tests.support.valkey import Valkey

NOW_S = 1_796_000_000.0
TODAY = int(NOW_S // 86_400)
ACME = Spender("acme", "key_1", "trial", 'org/"m" é')
_serial = itertools.count()


def batch(*charged: Charged, rows: dict[Spender, Sums] | None = None, day: int = TODAY) -> Batch:
    return Batch(f"b{next(_serial)}", day, rows or {}, {"day": charged, "month": charged})


def percents(crossed: object) -> list[tuple[str, int]]:
    assert isinstance(crossed, list)
    return [(period.name, crossing.percent) for period, crossing in crossed]


SENT = st.lists(
    st.tuples(
        st.sampled_from("ab"),
        st.sampled_from(["k", "key 2", "ü"]),
        st.integers(0, 10**12),
        st.one_of(st.none(), st.integers(1, 10**13), st.sampled_from([10**12, 2 * 10**12])),
        st.booleans(),
        st.integers(0, 40),
        st.one_of(
            st.none(),
            st.builds(
                Seen,
                st.sampled_from([1, int(NOW_S * 1e6)]),
                st.builds(
                    AccountSpent,
                    st.integers(0, 10**13),
                    st.sampled_from([int(NOW_S), int(NOW_S) - 50]),
                    st.lists(
                        st.builds(
                            Announced, st.sampled_from([10**12, 2 * 10**12, 5]), st.sampled_from([0, 50, 80, 100])
                        ),
                        max_size=3,
                        unique_by=lambda each: each.limit,
                    ).map(tuple),
                ),
            ),
        ),
    ),
    max_size=12,
)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(SENT)
def test_lua_and_python_keep_the_same_books(
    shared_valkey: Valkey, sent: list[tuple[str, str, int, int | None, bool, int, Seen | None]]
) -> None:
    async def both() -> None:
        shared_valkey.command("FLUSHALL")
        twin = MemorySpendBook()
        async with router(shared_valkey.url) as store:
            for tenant, key, microusd, limit, refused, ago, seen in sent:
                rows = {Spender(tenant, key, "p", "m"): Sums(1, 2, 3, microusd)}
                added = batch(Charged(key, microusd, limit, refused, seen), rows=rows, day=TODAY - ago)
                assert await store.spending.add(added, NOW_S) == await twin.add(added, NOW_S)
            for ago in {each[5] for each in sent}:
                for period, number in numbers_of(TODAY - ago):
                    assert await store.spending.rows(period, number) == await twin.rows(period, number)
                    accounts = ["k", "key 2", "ü", "nobody"]
                    found = await store.spending.spent(accounts, period, [number, 3])
                    assert found == await twin.spent(accounts, period, [number, 3])

    asyncio.run(both())


async def test_a_batch_that_is_sent_again_counts_once_and_says_the_same(shared_valkey: Valkey) -> None:
    shared_valkey.command("FLUSHALL")
    async with router(shared_valkey.url) as store:
        added = batch(Charged("acme", 60, 100), rows={ACME: Sums(1, 2, 3, 60)})
        first = await store.spending.add(added, NOW_S)
        assert percents(first) == [("day", 50), ("month", 50)]
        assert await store.spending.add(added, NOW_S) == first
        assert await store.spending.rows(DAY, TODAY) == {ACME: Sums(1, 2, 3, 60)}
        quiet = batch(Charged("acme", 1, 1000))
        assert await store.spending.add(quiet, NOW_S) == await store.spending.add(quiet, NOW_S) == []
        assert await store.spending.spent(["acme"], DAY, [TODAY]) == [
            [AccountSpent(61, int(NOW_S), (Announced(1000, 0), Announced(100, 50)))]
        ]


async def test_of_many_routers_one_announces_a_threshold(shared_valkey: Valkey) -> None:
    shared_valkey.command("FLUSHALL")
    async with router(shared_valkey.url, name="a") as a, router(shared_valkey.url, name="b") as b:
        charged = [batch(Charged("acme", 1, 100)) for _ in range(100)]
        asked = [(a, b)[n % 2].spending.add(each, NOW_S) for n, each in enumerate(charged)]
        found = [each for crossed in await asyncio.gather(*asked) for each in percents(crossed)]
        assert sorted(found) == [(name, percent) for name in ("day", "month") for percent in (50, 80, 100)]


async def test_a_reset_account_is_announced_again(shared_valkey: Valkey) -> None:
    shared_valkey.command("FLUSHALL")
    async with router(shared_valkey.url) as store:
        for book in (store.spending, MemorySpendBook()):
            assert percents(await book.add(batch(Charged("acme", 100, 100)), NOW_S))[-1] == ("month", 100)
            await book.forget("acme", NOW_S)
            assert await book.spent(["acme"], MONTH, [MONTH.number(TODAY * 86_400_000_000)]) == [[None]]
            assert percents(await book.add(batch(Charged("acme", 50, 100)), NOW_S)) == [("day", 50), ("month", 50)]


async def test_a_store_that_lost_its_data_announces_nothing_again(valkey: Valkey) -> None:
    """Each router tells what it saw, when the loss is noticed and with its next charge: the sum goes on."""
    async with router(valkey.url, name="a") as a, router(valkey.url, name="b") as b:
        assert percents(await a.spending.add(batch(Charged("acme", 500, 1000)), NOW_S)) == [("day", 50), ("month", 50)]
        assert percents(await b.spending.add(batch(Charged("acme", 330, 1000)), NOW_S)) == [("day", 80), ("month", 80)]
        assert await a.spending.add(batch(Charged("acme", 20, 1000), Charged("other", 1, 1000)), NOW_S) == []
        valkey.command("FLUSHALL")
        assert await b.spending.add(batch(Charged("acme", 40, 1000)), NOW_S + 1) == [], "830 were seen by b"
        assert await a.spending.add(batch(Charged("acme", 5, 1000)), NOW_S + 1) == [], "and 850 by a: 895"
        (found,) = await a.spending.spent(["acme"], DAY, [TODAY])
        assert found == [AccountSpent(895, int(NOW_S), (Announced(1000, 80),))]
        assert percents(await b.spending.add(batch(Charged("acme", 105, 1000)), NOW_S + 1)) == [
            ("day", 100),
            ("month", 100),
        ]


async def test_a_loss_that_is_noticed_is_told_for_the_present_day_and_month(valkey: Valkey) -> None:
    now_s = time.time()
    today = int(now_s // 86_400)
    async with router(valkey.url) as store:
        for day in (today, today - 40):
            await store.spending.add(batch(Charged("acme", 80, 100), day=day), now_s)
        valkey.command("FLUSHALL")

        async def told() -> bool:
            return await store.spending.spent(["acme"], DAY, [today]) == [
                [AccountSpent(80, int(now_s), (Announced(100, 80),))]
            ]

        await eventually(told)
        assert await store.spending.spent(["acme"], DAY, [today - 40]) == [[None]]
        await store.spending.forget("acme", now_s)
        assert percents(await store.spending.add(batch(Charged("acme", 50, 100), day=today), now_s))[0] == ("day", 50)


async def test_what_was_reset_is_not_put_back_by_a_router_that_saw_it(valkey: Valkey) -> None:
    async with router(valkey.url, name="a") as a, router(valkey.url, name="b") as b:
        await b.spending.add(batch(Charged("acme", 100, 100)), NOW_S)
        await a.spending.forget("acme", NOW_S)
        assert percents(await b.spending.add(batch(Charged("acme", 50, 100)), NOW_S)) == [("day", 50), ("month", 50)]


async def test_a_limit_that_changes_and_a_refusal_are_judged_alike(shared_valkey: Valkey) -> None:
    shared_valkey.command("FLUSHALL")
    sent = [
        (Charged("acme", 3, 100, refused=True), []),
        (Charged("acme", 87, 100, refused=True), [50, 80, 100]),
        (Charged("acme", 10, 200), [50]),
        (Charged("acme", 0, 100), []),
        (Charged("acme", 59, 200), []),
        (Charged("acme", 1, 200), [80]),
        (Charged("acme", 40, 200), [100]),
        *((Charged("acme", 0, 1000 + n), []) for n in range(20)),
    ]
    async with router(shared_valkey.url) as store:
        for book in (store.spending, MemorySpendBook()):
            for charged, expected in sent:
                found = await book.add(batch(charged), NOW_S)
                assert percents(found) == [(name, percent) for name in ("day", "month") for percent in expected]
        twin = await book.spent(["acme"], DAY, [TODAY])
        assert await store.spending.spent(["acme"], DAY, [TODAY]) == twin


async def test_books_expire_and_a_store_that_is_away_says_so(valkey: Valkey) -> None:
    async with router(valkey.url) as store:
        assert isinstance(store, SharedStore)
        await store.spending.add(batch(Charged("acme", 1, 100), rows={ACME: Sums(1)}), NOW_S)
        left_s = int(valkey.command("TTL", f"{{mr}}:spent:day:{TODAY}").strip(b":\r\n"))
        assert 0 < left_s <= 40 * 86_400
        valkey.kill()
        with pytest.raises(LinkError):
            await store.spending.add(batch(Charged("acme", 1, 100)), NOW_S)
        await eventually(lambda: store.state == "down")
        with pytest.raises(LinkError, match="the store is away"):
            await store.spending.rows(DAY, TODAY)


async def test_memory_keeps_a_bounded_number_of_books() -> None:
    book = MemorySpendBook()
    for day in range(500):
        await book.add(batch(rows={ACME: Sums(1)}, day=TODAY + day), NOW_S)
    assert repr(book) == "<MemorySpendBook 53 books>"
    assert await book.rows(DAY, TODAY + 499) == {ACME: Sums(1)}
