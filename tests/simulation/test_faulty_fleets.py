"""What faulty engines do to everybody's requests: a whole fleet on a virtual clock, case by case."""

from __future__ import annotations

import pytest

from router.core.health import State
from router.core.outcomes import Outcome
from router.core.policy import POLICIES
from router.core.types import LoadSample
from tests.support.small_world import Engine, Fate, World, fails, percentile, silent, well

NAMES = ("us-east/a", "us-east/b", "us-east/c", "us-east/d")
SOME_POLICIES = ("ttft", "round_robin", "least_inflight")


def good(world: World, name: str) -> Fate:
    return well()


def always(fate: Fate) -> Engine:
    return lambda world, name: fate


def fleet_with(bad: Engine, count: int) -> dict[str, Engine]:
    return {name: bad if i < count else good for i, name in enumerate(NAMES)}


def share_lost(world: World, from_s: float, until_s: float) -> float:
    stories = world.between(from_s, until_s)
    return sum(not story.ok for story in stories) / len(stories)


class TestIdleFleet:
    """Scrapes that show one request running and one waiting, which says nothing of an idle engine."""

    @staticmethod
    def scrape(world: World, name: str) -> LoadSample:
        busy = 1.0 if 5.0 <= world.now_s < 60.0 else 0.0
        return LoadSample(world.now_s, busy, busy, 0.01)

    @pytest.mark.parametrize("stream", [True, False], ids=["streams", "whole answers"])
    @pytest.mark.parametrize("takes_s", [0.02, 0.13, 0.8])
    def test_nobody_waits(self, stream: bool, takes_s: float) -> None:
        world = World(dict.fromkeys(NAMES[:3], always(well(takes_s, takes_s / 2))), stream=stream, scrapes=self.scrape)
        world.load(40, 30.0).run(60.0)
        took_s = [story.took_s for story in world.between(0.0, 30.0)]
        assert percentile(took_s, 0.99) < takes_s + 0.2

    def test_an_engine_that_is_full_is_still_believed(self) -> None:
        """One place, answers of 4 s: who comes waits in the router, not in the engine."""
        world = World(
            {NAMES[0]: always(well(4.0, 0.1))},
            scrapes=lambda world, name: LoadSample(world.now_s, 1.0, 3.0, 0.1),
        )
        for i in range(4):
            world.ask(0.0 + i)
        world.ask(4.5)
        world.run(5.0)
        assert world.stories[-1].waited


class TestGray:
    @pytest.mark.parametrize("stream", [True, False], ids=["streams", "whole answers"])
    @pytest.mark.parametrize("policy", ["round_robin", "p2c", "ttft"])
    def test_an_engine_that_was_slow_from_the_start_harms_few(self, policy: str, stream: bool) -> None:
        slow = always(well(3.05, 3.0))
        world = World({**dict.fromkeys(NAMES[:3], good), NAMES[3]: slow}, policy=policy, stream=stream)
        world.load(40, 60.0).run(90.0)
        assert sum(story.took_s > 1.0 for story in world.between(0.0, 15.0)) < 0.12 * 600
        assert percentile([story.took_s for story in world.between(15.0, 60.0)], 0.99) < 0.2
        if policy == "round_robin":
            assert world.fleet.backends[NAMES[3]].health.ejections > 0

    @pytest.mark.parametrize("stream", [True, False], ids=["streams", "whole answers"])
    def test_one_that_has_got_better_gets_its_share_again(self, stream: bool) -> None:
        def sick_until_30(world: World, name: str) -> Fate:
            return well(3.05, 3.0) if world.now_s < 30.0 else well()

        engines = {**dict.fromkeys(NAMES[:3], good), NAMES[3]: sick_until_30}
        world = World(engines, policy="round_robin", stream=stream).load(20, 140.0)
        world.run(120.0)
        before = world.attempts[NAMES[3]]
        world.run(140.0)
        assert world.attempts[NAMES[3]] - before == pytest.approx(100, rel=0.1)
        assert world.fleet.backends[NAMES[3]].state is State.HEALTHY

    @pytest.mark.parametrize("policy", ["ttft", "round_robin"])
    def test_a_smaller_machine_is_slow_and_not_sick(self, policy: str) -> None:
        world = World({**dict.fromkeys(NAMES[:3], good), NAMES[3]: always(well(1.0, 0.5))}, policy=policy)
        world.load(8, 60.0).run(90.0)
        assert world.fleet.backends[NAMES[3]].health.ejections == 0

    def test_a_hot_spot_is_not_sick(self) -> None:
        """A backend that gets most of the traffic has long queues: they are its share, not its fault."""

        def queued(world: World, name: str) -> Fate:
            ttft_s = 0.05 * world.fleet.backends[name].inflight
            return well(ttft_s + 0.1, ttft_s)

        world = World(dict.fromkeys(NAMES, queued), policy="session_hash")
        for i in range(4000):
            world.ask(i / 50)
            affinity = "hot" if i % 4 else f"cold {i}"
            world.stories[-1].course.request.affinity = affinity
        world.run(200.0)
        assert all(b.health.ejections == 0 for b in world.fleet.backends.values())


class TestFailing:
    @pytest.mark.parametrize("stream", [True, False], ids=["streams", "whole answers"])
    @pytest.mark.parametrize("outcome", [Outcome.SERVER_ERROR, Outcome.OVERLOADED, Outcome.UNREACHABLE], ids=str)
    @pytest.mark.parametrize("policy", SOME_POLICIES)
    @pytest.mark.parametrize("bad", [1, 3])
    def test_as_long_as_one_serves_nothing_is_lost(self, bad: int, policy: str, outcome: Outcome, stream: bool) -> None:
        world = World(fleet_with(always(fails(outcome)), bad), policy=policy, stream=stream)
        world.load(40, 15.0).run(30.0)
        assert share_lost(world, 0.0, 15.0) <= 0.01
        assert share_lost(world, 5.0, 15.0) == 0.0
        assert sum(world.attempts.values()) <= 1.1 * len(world.stories)

    @pytest.mark.parametrize("policy", SOME_POLICIES)
    def test_engines_that_fail_half_of_the_time_get_little(self, policy: str) -> None:
        turns = dict.fromkeys(NAMES, 0)

        def every_other(world: World, name: str) -> Fate:
            turns[name] += 1
            return fails() if turns[name] % 2 else well()

        world = World(fleet_with(every_other, 3), policy=policy).load(40, 30.0).run(60.0)
        assert share_lost(world, 0.0, 30.0) <= 0.01

    @pytest.mark.parametrize("per_s", [10, 100])
    @pytest.mark.parametrize("outcome", [Outcome.SERVER_ERROR, Outcome.OVERLOADED], ids=str)
    @pytest.mark.parametrize("policy", SOME_POLICIES)
    def test_an_outage_is_not_multiplied(self, policy: str, outcome: Outcome, per_s: int) -> None:
        world = World(fleet_with(always(fails(outcome)), 4), policy=policy).load(per_s, 10.0).run(30.0)
        assert sum(world.attempts.values()) <= 1.2 * len(world.stories)

    @pytest.mark.parametrize("policy", SOME_POLICIES)
    def test_engines_that_serve_again_are_found_out_soon(self, policy: str) -> None:
        def fails_until_20(world: World, name: str) -> Fate:
            return fails() if world.now_s < 20.0 else well()

        world = World(dict.fromkeys(NAMES, fails_until_20), policy=policy).load(20, 40.0).run(60.0)
        assert share_lost(world, 21.0, 40.0) == 0.0
        world = World(fleet_with(fails_until_20, 3), policy=policy).load(20, 100.0).run(99.0)
        for name in NAMES[:3]:
            assert world.attempts[name] > 50, "it is used again"

    @pytest.mark.parametrize("policy", sorted(POLICIES))
    def test_failing_fast_attracts_no_traffic(self, policy: str) -> None:
        world = World(fleet_with(always(fails(takes_s=0.001)), 1), policy=policy).load(40, 20.0).run(40.0)
        assert world.attempts[NAMES[0]] <= 0.05 * len(world.stories)


class TestFrozen:
    """An engine that takes requests and says nothing; its probe fails already."""

    @pytest.mark.parametrize("policy", SOME_POLICIES)
    def test_a_rush_beside_it_loses_nothing(self, policy: str) -> None:
        engines = {**dict.fromkeys(NAMES[:3], good), NAMES[3]: always(silent())}
        world = World(engines, policy=policy, probes=lambda world, name: name != NAMES[3])
        for i in range(600):
            world.ask(0.5 + i * 0.0001)
        world.run(100.0)
        assert all(story.ok for story in world.stories)
        assert sum(story.took_s > 1.0 for story in world.stories) <= 6

    def test_an_engine_whose_probe_fails_while_it_serves_keeps_its_share(self) -> None:
        world = World(dict.fromkeys(NAMES, good), policy="round_robin", probes=lambda world, name: name != NAMES[3])
        world.load(40, 60.0).run(90.0)
        assert world.attempts[NAMES[3]] > 400


class TestReturn:
    @pytest.mark.parametrize("away_s", [4.0, 6.0, 9.0, 16.0, 40.0])
    @pytest.mark.parametrize("policy", ["ttft", "round_robin"])
    def test_one_that_was_away_begins_slowly(self, policy: str, away_s: float) -> None:
        def away(world: World) -> bool:
            return 20.0 <= world.now_s < 20.0 + away_s

        def leaves(world: World, name: str) -> Fate:
            return fails(Outcome.UNREACHABLE) if away(world) else well()

        world = World(
            {**dict.fromkeys(NAMES[:3], good), NAMES[3]: leaves},
            policy=policy,
            probes=lambda world, name: name != NAMES[3] or not away(world),
        )
        world.load(40, 90.0 + away_s)
        world.run(20.0 + away_s)
        counts = []
        for _ in range(12):
            before = world.attempts[NAMES[3]]
            world.run(world.now_s + 5.0)
            counts.append(world.attempts[NAMES[3]] - before)
        full = 50
        assert counts[1] < 0.6 * full, counts
        assert counts[0] + counts[1] + counts[2] < 0.6 * 3 * full, counts
        assert counts[-1] > 0.6 * full, counts
