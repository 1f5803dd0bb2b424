"""core/quota.py and the Lua scripts are the same arithmetic: generated sequences run through both, on a real Valkey."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import redis
from hypothesis import given
from hypothesis import strategies as st

from router.core import quota
from router.core.limits import KINDS, Amounts, Limits, Shape, Units, cost
from router.core.periods import DAY_US
from router.core.quota import Account
from router.store import scripts
from router.store.scripts import Script
from tests.support.effort import examples
from tests.support.valkey import Valkey

LEASE_US = 15_000_000
_serial = itertools.count()


@pytest.fixture(scope="module")
def client() -> Iterator[redis.Redis]:
    with Valkey() as valkey, redis.Redis.from_url(valkey.url) as client:
        for script in scripts.load_scripts():
            assert client.script_load(script.text) == script.sha
        yield client


def units(requests: int = 0, tokens: int = 0, microusd: int = 0, output_tokens: int = 0) -> Units:
    return cost(Amounts(requests, tokens, output_tokens, microusd))


class Twins:
    """One account in this process and one in Redis; every verb goes to both and must give the same answer."""

    def __init__(self, client: redis.Redis, limits: Limits) -> None:
        self.client = client
        self.scripts = scripts.load_scripts()
        self.key_id = f"k{next(_serial)}"
        self.limits = limits
        self.account = Account()
        self.number = 0
        self.seen: quota.Standing | None = None

    def _call(self, script: Script, now_us: int, args: list[Any]) -> Any:
        keys = scripts.purse_keys(self.key_id, "r1")
        head = scripts.head(self.limits, LEASE_US, self.seen, now_us)
        return self.client.evalsha(script.sha, len(keys), *keys, *head, *args)

    def remember(self, seen: quota.Standing | None, now_us: int) -> None:
        """From now on the caller has this memory of the account."""
        self.seen = seen
        if seen is not None:
            quota.put_back(self.account, self.limits, now_us, seen, lease_us=LEASE_US)

    def lose(self) -> None:
        """The store has lost the account."""
        self.client.delete(*scripts.account_keys(self.key_id))
        self.account = Account()

    def change(self, limits: Limits) -> None:
        """Other rates from now on."""
        given = zip(KINDS, self.limits.limits, limits.limits, strict=True)
        self.limits = Limits(*(new if kind.shape is Shape.RATE else old for kind, old, new in given))

    def reserve(self, now_us: int, *questions: tuple[Units, list[str]]) -> None:
        mine = [
            quota.reserve(self.account, self.limits, now_us, cost, slots=slots, lease_us=LEASE_US)
            for cost, slots in questions
        ]
        reply = self._call(self.scripts.reserve, now_us, scripts.reserve_args(questions))
        assert scripts.read_reserve(reply) == (mine, self.account.standing())

    def settle(
        self, now_us: int, back: Units, taken_us: int, release: list[str], drop: list[str], renew: list[str]
    ) -> None:
        self.number += 1
        quota.settle(
            self.account,
            self.limits,
            now_us,
            back,
            taken_us=taken_us,
            release=release,
            drop=drop,
            renew=renew,
            lease_us=LEASE_US,
        )
        args = scripts.settle_args(back, taken_us, self.number, release, drop, renew)
        reply = self._call(self.scripts.settle, now_us, args)
        assert scripts.read_settle(reply) == (True, self.account.standing())

    def grant(self, now_us: int, want: Units, slots: list[str], divisor: int) -> Units:
        mine = quota.grant(self.account, self.limits, now_us, want, slots=slots, divisor=divisor, lease_us=LEASE_US)
        reply = self._call(self.scripts.grant, now_us, scripts.grant_args(want, divisor, slots))
        assert scripts.read_grant(reply) == (mine, self.account.standing())
        return mine

    def look(self, now_us: int) -> None:
        quota.advance(self.account, now_us, LEASE_US)
        quota.take_over(self.account, self.limits)
        assert scripts.read_standing(self._call(self.scripts.look, now_us, [])) == self.account.standing()


def limit(low: int, high: int) -> st.SearchStrategy[int | None]:
    return st.one_of(st.none(), st.integers(low, high), st.sampled_from([low, 7, 60, 600, high]))


OF_SHAPE: dict[Shape, st.SearchStrategy[int | None]] = {
    Shape.RATE: st.one_of(limit(1, 10**6), limit(1, 10**11)),
    Shape.SLOTS: st.integers(1, 8),
    Shape.SUM: limit(1, 10**15),
}
LIMITS = st.tuples(*(OF_SHAPE[kind.shape] for kind in KINDS)).map(lambda limits: Limits(*limits))
# from 2000 to 2100, and steps from minutes back to a month ahead, most of them short
START_US = st.integers(946_684_800_000_000, 4_102_444_800_000_000)
STEP_US = st.one_of(
    st.integers(0, 1000),
    st.integers(0, 5_000_000),
    st.integers(-200_000_000, 200_000_000),
    st.integers(0, 40 * DAY_US),
)
UNITS = st.one_of(st.integers(0, 10), st.integers(0, 100_000), st.integers(0, 2 * quota.UNITS_MAX))
SIGNED = st.one_of(st.integers(-50, 50), st.integers(-quota.UNITS_MAX, quota.UNITS_MAX))
SLOTS = st.lists(st.sampled_from("abcdefghij"), max_size=4, unique=True)
#: No kind may have more than UNITS_MAX of an allowance: prompt and output tokens together are one.
HALF = st.integers(0, quota.UNITS_MAX // 2)
WANTED = st.builds(units, st.integers(1, 10_000), HALF, st.integers(0, quota.UNITS_MAX), HALF)
COST = st.builds(units, st.integers(0, 3), UNITS, UNITS, UNITS)
OP = st.one_of(
    st.tuples(st.just("reserve"), STEP_US, st.lists(st.tuples(COST, SLOTS), min_size=1, max_size=3)),
    st.tuples(
        st.just("settle"),
        STEP_US,
        st.builds(units, st.integers(-3, 3), SIGNED, SIGNED, SIGNED),
        st.booleans(),
        SLOTS,
        SLOTS,
        SLOTS,
    ),
    st.tuples(st.just("grant"), STEP_US, WANTED, SLOTS, st.integers(1, 16)),
    st.tuples(st.just("lose"), STEP_US),
    st.tuples(st.just("limits"), STEP_US, LIMITS),
)
#: Which of the standings so far the caller of each step remembers; most often the last, as a router does.
MEMORY = st.one_of(st.none(), st.just(-1), st.integers(0, 11))


@examples(3)
@given(LIMITS, START_US, st.lists(st.tuples(OP, MEMORY), min_size=1, max_size=12))
def test_the_same_sequences_give_the_same_answers(
    client: redis.Redis, limits: Limits, now_us: int, ops: list[Any]
) -> None:
    twins = Twins(client, limits)
    standings: list[quota.Standing] = []
    for op, memory in ops:
        now_us = max(0, now_us + op[1])
        if op[0] == "lose":
            twins.lose()
            continue
        if op[0] == "limits":
            twins.change(op[2])
            continue
        known = standings[memory] if memory is not None and -len(standings) <= memory < len(standings) else None
        twins.remember(known, now_us)
        if op[0] == "reserve":
            twins.reserve(now_us, *op[2])
        elif op[0] == "settle":
            taken_us = twins.account.at_us if op[3] else 1
            drop = [s for s in op[5] if s not in op[4]]
            twins.settle(now_us, op[2], taken_us, op[4], drop, [s for s in op[6] if s not in (*op[4], *drop)])
        else:
            twins.grant(now_us, op[2], op[3], op[4])
        standings.append(twins.account.standing())
    twins.remember(None, now_us)
    twins.look(now_us + 1)


def test_a_settlement_that_is_sent_twice_is_applied_once(client: redis.Redis) -> None:
    twins = Twins(client, Limits(60, 6000))
    twins.reserve(10**12, (units(1, 6000), []))
    args = scripts.settle_args(units(0, 3000), 0, 1, [], [], [])
    first = twins._call(twins.scripts.settle, 10**12, args)
    second = twins._call(twins.scripts.settle, 10**12, args)
    assert [first[0], second[0]] == [1, 0]
    assert first[1:] == second[1:]
    assert scripts.read_settle(first)[1].used[1] == 30_000_000


def test_every_key_of_an_account_expires(client: redis.Redis) -> None:
    twins = Twins(client, Limits(60, 6000, 4, 10**9))
    now_us = int(dt.datetime(2026, 11, 21, tzinfo=dt.UTC).timestamp() * 1e6)
    twins.reserve(now_us, (units(1, 10, 5), ["a"]))
    twins.settle(now_us, units(0, 1, 1), now_us, [], [], ["a"])
    left_s = {k.decode().rpartition("}:")[2]: client.ttl(k) for k in client.keys(f"mr:{{{twins.key_id}}}*")}
    assert set(left_s) == {"q", "c", "s:r1"}
    assert 15 <= left_s["c"] <= 17
    assert 500 < left_s["s:r1"] <= 600
    # spent money is remembered until a day after the end of the month
    assert left_s["q"] == pytest.approx(11 * 86400, abs=2)


def test_an_account_takes_less_than_300_bytes(client: redis.Redis) -> None:
    twins = Twins(client, Limits(600, 200_000))
    twins.reserve(1_800_000_000_000_000, (units(1, 1000), []))
    assert sum(client.memory_usage(k) for k in client.keys(f"mr:{{{twins.key_id}}}*")) <= 300
