"""Requests that would queue for long everywhere wait in the router; what was sent where is told to other routers."""

from __future__ import annotations

from typing import Any

from router.core.decisions import Decision, Dispatch, Wait
from router.core.params import Params
from router.core.policy import POLICIES
from router.core.types import Priority
from tests.support.fleets import Driver, ask, fleet_of


class TestLateBinding:
    """A hundred thousand tokens are ten seconds of work for an engine that nothing is known of."""

    def buried(self, *names: str) -> Driver:
        driver = Driver(fleet_of(*names))
        for i, name in enumerate(names):
            driver.send(0.0, request_id=f"heavy {i}", prompt_tokens=100_000, exclude=tuple(set(names) - {name}))
        return driver

    def decide(self, driver: Driver, now_s: float = 0.0, exclude: tuple[str, ...] = (), **changes: Any) -> Decision:
        return driver.fleet.decide(ask(**changes), driver.policy, now_s, driver.rng, exclude=exclude)

    def test_it_waits_here_when_every_queue_is_long(self) -> None:
        driver = self.buried("us-east/a", "us-east/b")
        decision = self.decide(driver, deadline_s=8.0)
        assert isinstance(decision, Wait)
        assert decision.until_s == 8.0
        assert decision.reason == "every queue is long"
        assert {c.backend for c in decision.candidates if c.cost_s is not None} == {"us-east/a", "us-east/b"}
        assert len(driver.fleet.leases) == 2

    def test_one_short_queue_is_enough(self) -> None:
        driver = self.buried("us-east/a", "us-east/b")
        lease = next(lease for lease in driver.fleet.leases if lease.backend == "us-east/b")
        driver.fleet.first_token(lease, 0.0)
        decision = self.decide(driver)
        assert isinstance(decision, Dispatch)
        assert decision.lease.backend == "us-east/b"

    def test_a_retry_is_not_held(self) -> None:
        driver = self.buried("us-east/a", "us-east/b")
        assert isinstance(self.decide(driver, exclude=("us-east/a",)), Dispatch)

    def test_who_has_waited_long_accepts_a_long_queue(self) -> None:
        driver = self.buried("us-east/a", "us-east/b")
        assert isinstance(self.decide(driver, 0.05, arrival_s=0.0), Wait)
        assert isinstance(self.decide(driver, 0.05, arrival_s=-60.0), Dispatch)

    def test_batch_priority_uses_slack_only(self) -> None:
        driver = Driver(fleet_of("us-east/a"))
        driver.send(0.0, prompt_tokens=6000)
        assert isinstance(self.decide(driver, priority=Priority.STANDARD), Dispatch)
        driver = Driver(fleet_of("us-east/a"))
        driver.send(0.0, prompt_tokens=6000)
        assert isinstance(self.decide(driver, priority=Priority.BATCH, arrival_s=-60.0), Wait)

    def test_other_policies_do_as_their_originals(self) -> None:
        driver = self.buried("us-east/a", "us-east/b")
        driver.policy = POLICIES["cache_aware"](driver.fleet.params)
        assert isinstance(self.decide(driver), Dispatch)


class TestPrefixNews:
    BLOCKS = tuple(range(100, 120))

    def test_what_one_router_sends_another_knows(self) -> None:
        here, there = Driver(fleet_of("us-east/a", "us-west/a")), Driver(fleet_of("us-east/a", "us-west/a"))
        ask_for = {"prompt_tokens": 20_000, "prefix_blocks": self.BLOCKS, "tokens_per_block": 1000.0}
        lease = here.send(0.0, pin_region="us-west", **ask_for)
        news = here.fleet.take_prefix_news()
        assert [(name, tuple(blocks)) for name, blocks in news] == [("us-west/a", self.BLOCKS)]
        assert there.send(0.0, **ask_for).backend == "us-east/a", "nobody has told it yet"
        there.fleet.take_prefix_news()
        informed = Driver(fleet_of("us-east/a", "us-west/a"))
        for name, blocks in news:
            informed.fleet.observe_prefix(name, blocks)
        assert informed.send(0.0, **ask_for).backend == lease.backend == "us-west/a"

    def test_news_is_told_once_and_not_passed_on(self) -> None:
        driver = Driver(fleet_of("us-east/a"))
        driver.fleet.observe_prefix("us-east/a", self.BLOCKS)
        driver.fleet.observe_prefix("gone/x", self.BLOCKS)
        assert driver.fleet.take_prefix_news() == []
        for _ in range(2):
            driver.send(0.0, prefix_blocks=(*self.BLOCKS, 7), tokens_per_block=1.0)
        assert [tuple(blocks) for _, blocks in driver.fleet.take_prefix_news()] == [(7,)]

    def test_of_a_request_bound_to_jurisdictions_nothing_is_told(self) -> None:
        driver = Driver(fleet_of("us-east/a"))
        driver.send(0.0, prefix_blocks=self.BLOCKS, tokens_per_block=1.0, residency=frozenset({"us"}))
        assert driver.fleet.take_prefix_news() == []

    def test_only_the_latest_are_kept_when_nobody_asks(self) -> None:
        driver = Driver(fleet_of("us-east/a", params=Params(prefix_news_max=3)))
        for i in range(5):
            driver.serve(0.0, prefix_blocks=(i,), tokens_per_block=1.0)
        assert [tuple(blocks) for _, blocks in driver.fleet.take_prefix_news()] == [(2,), (3,), (4,)]


def test_the_originals_that_hear_nothing_say_so() -> None:
    assert {name for name, policy in POLICIES.items() if not policy.hears_prefixes} == {
        "cache_aware",
        "gie",
        "llmd",
    }
