"""The wait queue: order, fairness, limits, deadlines; and that nobody is lost in any sequence."""

from __future__ import annotations

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from router.core.admission import WaitQueue
from router.core.params import Params
from router.core.types import Priority, Request
from tests.support.effort import examples
from tests.support.fleets import ask

PARAMS = Params(queue_max=100)


def drain(queue: WaitQueue[str], now_s: float = 0.0) -> list[str]:
    tokens = []
    while (token := queue.pop(now_s)) is not None:
        tokens.append(token)
    return tokens


class TestOrder:
    def test_first_come_first_served(self) -> None:
        queue: WaitQueue[str] = WaitQueue(PARAMS)
        for name in "abc":
            assert queue.push(ask(), 0.0, name)
        assert drain(queue) == ["a", "b", "c"]
        assert len(queue) == 0

    def test_one_that_failed_somewhere_does_not_hold_up_those_behind_it(self) -> None:
        queue: WaitQueue[str] = WaitQueue(PARAMS)
        queue.push(ask(), 0.0, "retry", kind="tried us-east/a")
        queue.push(ask(), 0.0, "first", kind="tried none")
        assert queue.pop(0.0, lambda token: token == "first") == "first"

    def test_priority_comes_first(self) -> None:
        queue: WaitQueue[str] = WaitQueue(PARAMS)
        for name, priority in (("batch", 2), ("standard", 1), ("interactive", 0)):
            queue.push(ask(priority=Priority(priority)), 0.0, name)
        assert drain(queue) == ["interactive", "standard", "batch"]

    def test_nobody_starves(self) -> None:
        queue: WaitQueue[str] = WaitQueue(PARAMS)
        queue.push(ask(priority=Priority.BATCH), 0.0, "batch")
        queue.push(ask(priority=Priority.INTERACTIVE), 29.0, "interactive")
        assert queue.pop(29.5) == "interactive"
        queue.push(ask(priority=Priority.INTERACTIVE, deadline_s=99.0), 30.0, "later")
        assert queue.pop(30.0) == "batch", "it has waited as long as its priority must"

    def test_tenants_take_turns(self) -> None:
        queue: WaitQueue[str] = WaitQueue(PARAMS)
        for i in range(6):
            queue.push(ask(tenant="big"), 0.0, f"big{i}")
        for i in range(2):
            queue.push(ask(tenant="small"), 0.0, f"small{i}")
        assert drain(queue) == ["big0", "small0", "big1", "small1", "big2", "big3", "big4", "big5"]

    def test_a_tenant_cannot_save_up_turns(self) -> None:
        queue: WaitQueue[str] = WaitQueue(PARAMS)
        for i in range(20):
            queue.push(ask(tenant="busy"), 0.0, f"busy{i}")
        for _ in range(10):
            queue.pop(0.0)
        for i in range(5):
            queue.push(ask(tenant="late"), 0.0, f"late{i}")
        turns = [token[:4] for token in drain(queue)]
        assert Counter(turns[:6]) == {"busy": 3, "late": 3}

    def test_only_requests_that_fit_the_free_place(self) -> None:
        queue: WaitQueue[str] = WaitQueue(PARAMS)
        queue.push(ask(residency=frozenset({"eu"})), 0.0, "eu", kind="eu")
        queue.push(ask(), 0.0, "anywhere", kind="anywhere")
        queue.push(ask(), 0.0, "too", kind="anywhere")
        asked: list[str] = []

        def in_us(token: str) -> bool:
            asked.append(token)
            return token != "eu"

        assert queue.pop(0.0, in_us) == "anywhere"
        assert len(asked) == 2
        assert queue.pop(0.0, in_us) == "too"
        assert queue.pop(0.0, in_us) is None
        assert queue.pop(0.0) == "eu"


class TestLimits:
    def test_a_full_queue_refuses(self) -> None:
        queue: WaitQueue[int] = WaitQueue(PARAMS)
        assert [queue.push(ask(), 0.0, i) for i in range(101)] == [True] * 100 + [False]

    def test_one_tenant_leaves_room_for_others(self) -> None:
        queue: WaitQueue[str] = WaitQueue(PARAMS)
        queue.push(ask(tenant="small"), 0.0, "s")
        taken = sum(queue.push(ask(tenant="big"), 0.0, f"b{i}") for i in range(200))
        assert taken == 50
        assert queue.push(ask(tenant="small"), 0.0, "s2")
        assert queue.push(ask(tenant="third"), 0.0, "t")
        assert queue.by_tenant == {"big": 50, "small": 2, "third": 1}

    def test_deadlines(self) -> None:
        queue: WaitQueue[str] = WaitQueue(PARAMS)
        assert queue.next_deadline() is None
        queue.push(ask(deadline_s=5.0), 0.0, "request's")
        queue.push(ask(), 0.0, "longest")
        queue.push(ask(), 0.0, "told", until_s=2.0)
        assert queue.next_deadline() == 2.0
        assert queue.expire(1.9) == []
        assert queue.expire(2.0) == ["told"]
        assert queue.expire(100.0) == ["request's", "longest"]
        assert queue.next_deadline() is None
        assert len(queue) == 0

    def test_a_client_that_left(self) -> None:
        queue: WaitQueue[str] = WaitQueue(PARAMS)
        for name in "abc":
            queue.push(ask(), 0.0, name)
        assert queue.remove("b")
        assert not queue.remove("b")
        assert drain(queue) == ["a", "c"]
        assert not queue.remove("a")

    def test_abandoned_deadlines_do_not_pile_up(self) -> None:
        queue: WaitQueue[int] = WaitQueue(PARAMS)
        for i in range(10_000):
            queue.push(ask(), 0.0, i)
            queue.remove(i)
        assert len(queue._deadlines) < 50


class WaitQueueMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.queue: WaitQueue[int] = WaitQueue(Params(queue_max=12))
        self.waiting: dict[int, tuple[Request, float]] = {}
        self.now_s = 0.0
        self.next = 0

    @rule(tenant=st.sampled_from("abc"), priority=st.sampled_from(list(Priority)), lasts_s=st.floats(0.0, 60.0))
    def push(self, tenant: str, priority: Priority, lasts_s: float) -> None:
        request = ask(tenant=tenant, priority=priority, deadline_s=self.now_s + lasts_s)
        self.next += 1
        if self.queue.push(request, self.now_s, self.next):
            self.waiting[self.next] = (request, self.now_s)
        else:
            assert len(self.waiting) >= 6

    @rule()
    def pop(self) -> None:
        token = self.queue.pop(self.now_s)
        if token is None:
            assert not self.waiting
            return
        request, since_s = self.waiting.pop(token)
        older = [r for r, s in self.waiting.values() if r.tenant == request.tenant and r.priority == request.priority]
        assert all(s >= since_s for r, s in self.waiting.values() if r in older)

    @precondition(lambda self: self.waiting)
    @rule(which=st.integers(0, 100))
    def leave(self, which: int) -> None:
        token = sorted(self.waiting)[which % len(self.waiting)]
        assert self.queue.remove(token)
        del self.waiting[token]

    @rule(passed_s=st.floats(0.0, 20.0))
    def expire(self, passed_s: float) -> None:
        self.now_s += passed_s
        expired = self.queue.expire(self.now_s)
        for token in expired:
            request, since_s = self.waiting.pop(token)
            assert min(request.deadline_s, since_s + PARAMS.wait_max_s) <= self.now_s

    @invariant()
    def nobody_is_lost(self) -> None:
        assert len(self.queue) == len(self.waiting) <= 12
        assert self.queue.by_tenant == Counter(r.tenant for r, _ in self.waiting.values())
        assert +self.queue.by_priority == Counter(r.priority for r, _ in self.waiting.values())
        deadline_s = self.queue.next_deadline()
        assert (deadline_s is None) == (not self.waiting)


TestWaitQueueMachine = WaitQueueMachine.TestCase
TestWaitQueueMachine.settings = examples(1, stateful_step_count=50)


@given(st.lists(st.sampled_from("abcd"), min_size=1, max_size=60))
@examples(1)
def test_no_tenant_is_more_than_one_turn_ahead_of_another_that_waits(tenants: list[str]) -> None:
    queue: WaitQueue[int] = WaitQueue(PARAMS)
    left: Counter[str] = Counter()
    names = {}
    for i, tenant in enumerate(tenants):
        if queue.push(ask(tenant=tenant), 0.0, i):
            left[tenant] += 1
            names[i] = tenant
    served: Counter[str] = Counter()
    while (token := queue.pop(0.0)) is not None:
        tenant = names[token]
        served[tenant] += 1
        left[tenant] -= 1
        for other, count in left.items():
            if count:
                assert served[tenant] <= served[other] + 1
    assert sum(left.values()) == 0


def test_a_token_must_be_unique() -> None:
    queue: WaitQueue[str] = WaitQueue(PARAMS)
    queue.push(ask(), 0.0, "same")
    with pytest.raises(ValueError, match="waits already"):
        queue.push(ask(), 0.0, "same")


def test_the_expected_wait_is_what_the_pace_promises() -> None:
    queue: WaitQueue[str] = WaitQueue(PARAMS)
    assert queue.expected_wait_s(0.0) == PARAMS.wait_max_s, "nothing was ever served"
    for i in range(100):
        queue.push(ask(), 0.0, f"{i}")
    for i in range(80):  # four a second, for twice as long as the pace is remembered
        queue.pop(i * 0.25)
        queue.push(ask(), i * 0.25, f"more {i}")
    assert queue.expected_wait_s(20.0) == pytest.approx(101 / 4, rel=0.2)
    assert queue.expected_wait_s(60.0) == PARAMS.wait_max_s, "it has stood still since"
    while queue.pop(60.0) is not None:
        pass
    assert queue.expected_wait_s(60.0) == 1.0


def test_an_old_request_fits_where_a_young_one_of_its_kind_does_not() -> None:
    """Patience grows with the wait: the place goes to the one that takes it, whoever's turn it is."""
    queue: WaitQueue[str] = WaitQueue(Params())
    old, young = ask(tenant="a", arrival_s=0.0), ask(tenant="b", arrival_s=9.0)
    queue.push(old, 0.0, "old 1")
    queue.push(old, 0.0, "old 2")
    assert queue.pop(0.0) == "old 1"
    queue.push(young, 0.0, "young")  # it is the turn of this one's tenant
    assert queue.pop(1.0, lambda token: token != "young") == "old 2"
    assert queue.pop(1.0, lambda token: token != "young") is None
    assert len(queue) == 1
