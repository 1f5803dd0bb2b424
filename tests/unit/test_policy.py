"""The policies: what each promises, and what all of them must keep."""

from __future__ import annotations

import math
import random
from collections import Counter
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.backend import Backend
from router.core.decisions import Dispatch
from router.core.fleet import Fleet
from router.core.outcomes import Outcome
from router.core.params import Params
from router.core.policy import POLICIES, Policy, list_policies, make_policy
from router.core.policy.base import Ranking, draw_two
from router.core.types import LoadSample, Request
from tests.support.effort import examples
from tests.support.fleets import MODEL, Driver, ask, fleet_of, spec

NAMES = ("us-east/a", "us-east/b", "us-west/a", "eu-west/a", "ap-east/a")
#: no chance but ties
STEADY = Params(explore_ratio=0.0)


def rank(fleet: Fleet, policy: str | Policy, request: Request, now_s: float = 0.0, seed: int = 1) -> Ranking:
    made = make_policy(policy, fleet.params) if isinstance(policy, str) else policy
    return made.rank(request, candidates(fleet, now_s), now_s, random.Random(seed))


def candidates(fleet: Fleet, now_s: float) -> Sequence[Backend]:
    """All backends, up to date and with quotes, as ``decide`` hands them to a policy."""
    fleet.decide(ask(), make_policy("nearest", fleet.params), now_s, random.Random(0), dry_run=True)
    return tuple(fleet.backends.values())


def chosen(fleet: Fleet, policy: str | Policy, request: Request, now_s: float = 0.0) -> str:
    return list(fleet.backends)[rank(fleet, policy, request, now_s).chosen]


def load(fleet: Fleet, name: str, count: int, tokens: int = 100, now_s: float = 0.0) -> None:
    """Put ``count`` requests in flight on one backend."""
    driver = Driver(fleet, "nearest")
    for other in fleet.backends:
        if other != name:
            fleet.set_draining(other, True)
    for _ in range(count):
        assert driver.send(now_s, prompt_tokens=tokens).backend == name
    for other in fleet.backends:
        fleet.set_draining(other, False)


def know(fleet: Fleet, name: str, blocks: tuple[int, ...]) -> None:
    fleet.backends[name].prefix.insert(blocks)


class TestRegistry:
    def test_the_policies_of_the_contract_are_there_and_ttft_is_first(self) -> None:
        assert next(iter(POLICIES)) == "ttft"
        assert {"nearest", "least_inflight", "p2c", "round_robin", "prefix", "cheapest"} < set(POLICIES)
        assert {
            "peak_ewma",
            "session_hash",
            "cache_aware",
            "gie",
            "llmd",
            "dynamo",
            "gorgo",
            "gorgo2",
            "prequal",
        } < set(POLICIES)

    def test_each_says_what_it_is_and_where_it_is_from(self) -> None:
        for (name, summary, source), (key, policy) in zip(list_policies(), POLICIES.items(), strict=True):
            assert name == key == policy.name
            assert len(summary) > 20
            assert len(source) > 10

    def test_an_unknown_name(self) -> None:
        with pytest.raises(KeyError):
            make_policy("best", STEADY)


@pytest.mark.parametrize("policy", POLICIES)
class TestAll:
    def test_ranking_alters_nothing(self, policy: str) -> None:
        fleet = fleet_of(*NAMES, params=STEADY)
        driver = Driver(fleet, policy)
        for i in range(30):
            driver.serve(i * 0.1, prefix_blocks=(i % 4, i), tokens_per_block=10.0)
        request = ask(prefix_blocks=(1, 2), tokens_per_block=10.0)
        first = rank(fleet, driver.policy, request, 5.0)
        second = rank(fleet, driver.policy, request, 5.0)
        assert (first.chosen, first.costs, first.reason) == (second.chosen, second.costs, second.reason)

    def test_every_candidate_has_a_cost_and_terms_that_need_no_backend(self, policy: str) -> None:
        fleet = fleet_of(*NAMES, params=STEADY)
        driver = Driver(fleet, policy)
        decision = fleet.decide(ask(), driver.policy, 0.0, driver.rng)
        assert isinstance(decision, Dispatch)
        load(fleet, decision.lease.backend, 50, now_s=1.0)  # what happens later must not show in the explanation
        again = fleet_of(*NAMES, params=STEADY)
        same = again.decide(ask(), make_policy(policy, STEADY), 0.0, random.Random(1))
        assert tuple(decision.candidates) == tuple(same.candidates)
        assert all(c.cost_s is not None and c.struck is None for c in decision.candidates)

    def test_one_candidate_is_taken(self, policy: str) -> None:
        fleet = fleet_of("eu-west/a")
        for seed in range(5):
            request = ask(affinity="k", prefix_blocks=(seed,), tokens_per_block=9.0)
            assert rank(fleet, policy, request, seed=seed).chosen == 0

    def test_equal_backends_share_the_work(self, policy: str) -> None:
        fleet = fleet_of("us-east/a", "us-east/b", "us-east/c", "us-east/d")
        driver = Driver(fleet, policy, seed=3)
        requests = 800 if policy == "prequal" else 320  # its probes make for runs of requests to one backend
        counts = Counter(driver.serve(i * 0.05, ttft_s=0.03, affinity=f"user-{i}").backend for i in range(requests))
        assert len(counts) == 4
        assert max(counts.values()) < 2 * min(counts.values()), counts

    def test_backends_may_come_and_go(self, policy: str) -> None:
        fleet = fleet_of(*NAMES)
        driver = Driver(fleet, policy)
        for round_, names in enumerate((NAMES[:2], NAMES, NAMES[3:], NAMES)):
            fleet.apply([spec(name) for name in names], float(round_))
            for i in range(20):
                assert driver.serve(round_ + i * 0.01, affinity=f"u{i}").backend in names


class TestTtft:
    def test_the_nearest_wins_when_all_are_idle(self) -> None:
        assert chosen(fleet_of(*NAMES, params=STEADY), "ttft", ask()).startswith("us-east/")

    def test_a_queue_at_home_sends_a_request_away(self) -> None:
        fleet = fleet_of("us-east/a", "us-west/a", params=STEADY)
        assert chosen(fleet, "ttft", ask()) == "us-east/a"
        load(fleet, "us-east/a", 4, tokens=2000)
        assert chosen(fleet, "ttft", ask()) == "us-west/a"

    def test_a_long_cached_prefix_is_worth_an_ocean(self) -> None:
        fleet = fleet_of("us-east/a", "eu-west/a", params=STEADY)
        blocks = tuple(range(40))
        know(fleet, "eu-west/a", blocks)
        long = ask(prompt_tokens=10_000, prefix_blocks=blocks, tokens_per_block=250.0)
        assert chosen(fleet, "ttft", long) == "eu-west/a"
        short = ask(prompt_tokens=250, prefix_blocks=blocks[:1], tokens_per_block=250.0)
        assert chosen(fleet, "ttft", short) == "us-east/a"

    def test_noise_does_not_leave_the_local_region(self) -> None:
        fleet = fleet_of("us-east/a", "us-west/a", params=STEADY)
        fleet.observe_rtt("us-east/a", 0.008, 0.0)
        fleet.observe_rtt("us-west/a", 0.004, 0.0)
        ranking = rank(fleet, "ttft", ask())
        assert ranking.costs[0] > ranking.costs[1]
        assert (ranking.chosen, ranking.reason) == (0, "local region")
        fleet.observe_rtt("us-east/a", 0.200, 0.1)
        assert chosen(fleet, "ttft", ask(), 0.1) == "us-west/a"

    def test_affinity_keeps_a_conversation_together(self) -> None:
        fleet = fleet_of("us-east/a", "us-east/b", "us-east/c", params=STEADY)
        places = {user: {chosen(fleet, "ttft", ask(affinity=user), i * 0.1) for i in range(5)} for user in "abcdefgh"}
        assert all(len(names) == 1 for names in places.values())
        assert len({name for names in places.values() for name in names}) == 3
        (home,) = places["a"]
        load(fleet, home, 30, tokens=4000, now_s=1.0)
        assert chosen(fleet, "ttft", ask(affinity="a"), 1.0) != home

    def test_routers_that_do_not_talk_send_a_new_prompt_the_same_way(self) -> None:
        blocks = [(i, i + 1000) for i in range(60)]
        one, two = (fleet_of("us-east/a", "us-east/b", "us-east/c", params=STEADY) for _ in range(2))
        ways = [
            [chosen(fleet, "ttft", ask(prefix_blocks=b, tokens_per_block=20.0)) for b in blocks] for fleet in (one, two)
        ]
        assert ways[0] == ways[1]
        new = ask(prefix_blocks=blocks[0], tokens_per_block=20.0)
        assert rank(fleet_of("us-east/a", "us-east/b", params=STEADY), "ttft", new).reason == "spread by prompt"
        assert min(Counter(ways[0]).values()) > 10

    def test_ties_are_broken_by_chance(self) -> None:
        fleet = fleet_of("us-east/a", "us-east/b", params=STEADY)
        counts = Counter(rank(fleet, "ttft", ask(), seed=seed).chosen for seed in range(200))
        assert 60 < counts[0] < 140
        assert rank(fleet, "ttft", ask()).reason == "chance"

    def test_exploring_visits_a_quiet_backend_only_if_that_is_cheap(self) -> None:
        always = Params(explore_ratio=1.0)
        fleet = fleet_of("us-east/a", "us-west/a", "ap-east/a", params=always)
        driver = Driver(fleet)
        for i in range(60):
            driver.serve(i * 0.1, pin_region="us-east")
        ranking = rank(fleet, "ttft", ask(), 6.0)
        assert (ranking.chosen, ranking.reason) == (1, "explored")
        driver.serve(6.0, pin_region="us-west")
        assert rank(fleet, "ttft", ask(), 6.5).reason != "explored", "the other one is too far to be worth it"

    def test_the_terms_add_up_to_the_cost(self) -> None:
        fleet = fleet_of(*NAMES)
        driver = Driver(fleet)
        for i in range(40):
            driver.send(i * 0.01, prefix_blocks=(i % 3,), tokens_per_block=50.0)
        fleet.observe_load("us-east/a", LoadSample(0.4, running=9, waiting=3, kv_ratio=0.8), 0.4)
        decision = fleet.decide(
            ask(prompt_tokens=900, prefix_blocks=(1, 7), tokens_per_block=50.0), driver.policy, 0.5, driver.rng
        )
        for candidate in decision.candidates:
            assert sum(value for _, value in candidate.terms) == pytest.approx(candidate.cost_s)

    def test_learned_speeds_are_used(self) -> None:
        fleet = fleet_of("us-east/a", "us-east/b", params=STEADY)
        driver = Driver(fleet, "round_robin")
        for i in range(400):
            lease = driver.send(i * 0.1, prompt_tokens=100 + i * 10)
            rate = 20_000 if lease.backend == "us-east/b" else 2000
            fleet.first_token(lease, i * 0.1 + 0.03 + lease.prompt_tokens / rate)
            fleet.end(lease, Outcome.OK, i * 0.1 + 3.0)
        speeds = {name: b.lanes[MODEL].prefill_tokens_per_s for name, b in fleet.backends.items()}
        assert speeds["us-east/a"] == pytest.approx(2000, rel=0.5)
        assert speeds["us-east/b"] == pytest.approx(20_000, rel=0.5)
        assert chosen(fleet, "ttft", ask(prompt_tokens=5000), 41.0) == "us-east/b"

    def test_the_prediction_is_learned_within_a_hundred_requests(self) -> None:
        fleet = fleet_of("us-east/a", params=STEADY)
        driver = Driver(fleet)
        rng = random.Random(7)
        errors = []
        for i in range(150):
            lease = driver.send(i * 1.0, prompt_tokens=int(rng.uniform(100, 6000)))
            ttft_s = 0.08 + lease.prompt_tokens / 3000 * rng.lognormvariate(0, 0.05)
            assert lease.predicted_ttft_s is not None
            errors.append(abs(lease.predicted_ttft_s - ttft_s) / ttft_s)
            fleet.first_token(lease, i * 1.0 + ttft_s)
            fleet.end(lease, Outcome.OK, i * 1.0 + ttft_s + 0.2)
        assert errors[0] > 0.5, "the prior takes it for a faster engine"
        assert sum(errors[100:]) / 50 < 0.08

    @examples(2)
    @given(
        own=st.integers(0, 40),
        more_own=st.integers(0, 20),
        peers=st.integers(0, 40),
        more_peers=st.integers(0, 20),
        kv=st.floats(0.0, 0.9),
        more_kv=st.floats(0.0, 0.1),
        waiting=st.integers(0, 20),
        more_waiting=st.integers(0, 20),
        tokens=st.integers(0, 5000),
    )
    def test_more_load_never_makes_a_backend_cheaper(
        self,
        own: int,
        more_own: int,
        peers: int,
        more_peers: int,
        kv: float,
        more_kv: float,
        waiting: int,
        more_waiting: int,
        tokens: int,
    ) -> None:
        def cost_of(own: int, peers: int, kv: float, waiting: int) -> float:
            fleet = fleet_of("us-east/a", "us-west/a", params=STEADY)
            load(fleet, "us-east/a", own, tokens=300, now_s=0.0)
            fleet.observe_peers("us-east/a", peers, peers * 200, 0.1)
            sample = LoadSample(0.1, running=16, waiting=waiting, kv_ratio=kv)
            fleet.observe_load("us-east/a", sample, 0.1)
            return rank(fleet, "ttft", ask(prompt_tokens=tokens), 0.15).costs[0]

        less = cost_of(own, peers, kv, waiting)
        more = cost_of(own + more_own, peers + more_peers, kv + more_kv, waiting + more_waiting)
        assert more >= less - 1e-9

    def test_half_of_the_tolls_queue_is_the_mean_of_all(self) -> None:
        fleet = fleet_of("us-east/a", "us-west/a")
        driver = Driver(fleet)
        for i in range(100):
            driver.serve(i * 0.05, pin_region="us-east", prompt_tokens=500)
        for _ in range(20):
            driver.send(5.1, pin_region="us-east", prompt_tokens=500)
        driver.serve(5.8, pin_region="us-west", prompt_tokens=500)
        long, short = (fleet.backends[name].lanes[MODEL].rates for name in ("us-east/a", "us-west/a"))
        assert short.shared_toll == long.shared_toll > 0.0
        assert short.queue_toll == pytest.approx(0.5 * short.toll)
        queues_s = [b.lanes[MODEL].ahead.queue_s for b in fleet.backends.values()]
        assert short.shared_toll == pytest.approx(0.25 * short.toll * sum(queues_s), rel=0.3)

    def test_the_toll_keeps_a_prefix_together_when_it_is_busy(self) -> None:
        """A prompt cached on one backend is not computed again elsewhere to save itself a short queue."""
        blocks = tuple(range(30))

        def home_share(toll_ratio: float) -> float:
            fleet = fleet_of("us-east/a", "us-east/b", params=Params(toll_ratio=toll_ratio, explore_ratio=0.0))
            driver = Driver(fleet)
            for i in range(300):  # both are kept busy at ten requests a second each
                driver.serve(i * 0.05, ttft_s=0.06, prompt_tokens=500, affinity=str(i))
            know(fleet, "us-east/a", blocks)
            load(fleet, "us-east/a", 3, tokens=1200, now_s=15.0)
            request = ask(prompt_tokens=3000, prefix_blocks=blocks, tokens_per_block=100.0)
            return rank(fleet, "ttft", request, 15.0).costs[1] - rank(fleet, "ttft", request, 15.0).costs[0]

        assert home_share(0.0) < 0.0 < home_share(3.0)


class TestSimple:
    def test_nearest_ignores_load(self) -> None:
        fleet = fleet_of("us-east/a", "us-west/a")
        load(fleet, "us-east/a", 50)
        assert chosen(fleet, "nearest", ask()) == "us-east/a"

    def test_least_inflight_counts_everybodys_requests(self) -> None:
        fleet = fleet_of("us-east/a", "us-west/a")
        load(fleet, "us-east/a", 3)
        assert chosen(fleet, "least_inflight", ask()) == "us-west/a"
        fleet.observe_peers("us-west/a", 5, 0, 0.0)
        assert chosen(fleet, "least_inflight", ask()) == "us-east/a"

    def test_two_distinct_candidates_are_drawn(self) -> None:
        rng = random.Random(1)
        pairs = Counter(tuple(sorted(draw_two(4, rng))) for _ in range(6000))
        assert len(pairs) == 6
        assert min(pairs.values()) > 850

    def test_p2c_never_takes_the_busiest(self) -> None:
        fleet = fleet_of(*NAMES)
        load(fleet, "us-east/a", 9)
        assert all(rank(fleet, "p2c", ask(), seed=seed).chosen != 0 for seed in range(100))

    def test_round_robin_takes_turns_per_model(self) -> None:
        fleet = fleet_of("us-east/a", "us-west/a", "eu-west/a", models=(MODEL, "other"))
        driver = Driver(fleet, "round_robin")
        order = [driver.serve(i * 0.1).backend for i in range(6)]
        assert order == ["us-east/a", "us-west/a", "eu-west/a"] * 2
        assert driver.serve(1.0, model="other").backend == "us-east/a"

    def test_prefix_is_bounded_by_the_mean_load(self) -> None:
        fleet = fleet_of("us-east/a", "us-west/a", "eu-west/a")
        know(fleet, "eu-west/a", (1, 2, 3))
        request = ask(prefix_blocks=(1, 2, 3), tokens_per_block=30.0)
        assert chosen(fleet, "prefix", request) == "eu-west/a"
        load(fleet, "eu-west/a", 9)
        assert chosen(fleet, "prefix", request) != "eu-west/a"
        load(fleet, "us-east/a", 9)
        load(fleet, "us-west/a", 9)
        assert chosen(fleet, "prefix", request) == "eu-west/a"

    def test_a_popular_prefix_does_not_overload_one_backend(self) -> None:
        fleet = fleet_of("us-east/a", "us-east/b", "us-east/c", "us-east/d")
        driver = Driver(fleet, "prefix")
        for i in range(400):
            driver.send(i * 0.001, prefix_blocks=(1, 2, 3), tokens_per_block=30.0)
        loads = [b.inflight for b in fleet.backends.values()]
        assert max(loads) <= 1.25 * sum(loads) / 4 + 1

    def test_cheapest_within_the_bound(self) -> None:
        fleet = Fleet(STEADY, router_region="us-east")
        fleet.apply([spec("us-east/a", cost_usd_hour=4.0), spec("eu-west/a", cost_usd_hour=1.0)], 0.0)
        assert chosen(fleet, "cheapest", ask()) == "eu-west/a"
        load(fleet, "eu-west/a", 100, tokens=1000)
        assert chosen(fleet, "cheapest", ask()) == "us-east/a"
        load(fleet, "us-east/a", 200, tokens=1000)
        ranking = rank(fleet, "cheapest", ask())
        assert ranking.chosen == 1
        assert "none is quick enough" in ranking.reason


class TestPeers:
    """The algorithms of others, on the points their sources are explicit about."""

    def test_peak_ewma_rises_at_once_and_forgets_slowly(self) -> None:
        fleet = fleet_of("us-east/a", "us-east/b")
        driver = Driver(fleet, "peak_ewma")
        policy = driver.policy
        names = list(fleet.backends)
        for i in range(50):
            driver.serve(i * 1.0, ttft_s=0.05)
        slow = driver.send(60.0)
        fleet.first_token(slow, 62.0)
        fleet.end(slow, Outcome.OK, 62.0)
        ranking = rank(fleet, policy, ask(), 62.0)
        i = names.index(slow.backend)
        assert ranking.costs[i] == pytest.approx(2.0)
        later = rank(fleet, policy, ask(), 72.0)
        assert later.costs[i] == pytest.approx(2.0 / 2.718, rel=0.01)

    def test_peak_ewma_punishes_fast_failures(self) -> None:
        fleet = fleet_of("us-east/a", "us-east/b")
        driver = Driver(fleet, "peak_ewma")
        failed = driver.fail(0.0, Outcome.SERVER_ERROR)
        assert all(driver.serve(0.1 + i * 0.1).backend != failed.backend for i in range(30))

    def test_session_hash_sticks_and_ignores_load(self) -> None:
        fleet = fleet_of(*NAMES)
        policy = make_policy("session_hash", fleet.params)  # one for all: it keeps its ring
        homes = {f"s{i}": chosen(fleet, policy, ask(affinity=f"s{i}")) for i in range(300)}
        assert set(homes.values()) == set(NAMES)
        load(fleet, homes["s0"], 100)
        assert chosen(fleet, policy, ask(affinity="s0")) == homes["s0"]
        fewer = fleet_of(*NAMES[:-1])
        moved = sum(chosen(fewer, policy, ask(affinity=s)) != home for s, home in homes.items())
        assert moved == sum(home == NAMES[-1] for home in homes.values())

    def test_session_hash_without_a_session_takes_the_lowest_rate(self) -> None:
        fleet = fleet_of("us-east/a", "us-west/a", "eu-west/a")
        driver = Driver(fleet, "session_hash")
        assert {driver.serve(i * 0.1).backend for i in range(3)} == set(fleet.backends)

    def test_cache_aware_thresholds(self) -> None:
        fleet = fleet_of("us-east/a", "us-east/b", max_inflight=1000)
        know(fleet, "us-east/b", (1, 2, 3))
        warm = ask(prompt_tokens=100, prefix_blocks=(1, 2, 3), tokens_per_block=11.0)
        cold = ask(prompt_tokens=100, prefix_blocks=(1, 2, 3), tokens_per_block=10.0)
        load(fleet, "us-east/b", 64)
        assert chosen(fleet, "cache_aware", warm) == "us-east/b", "64 more is still balanced, and 33 % are cached"
        assert chosen(fleet, "cache_aware", cold) == "us-east/a", "30 % is not more than 30 %"
        load(fleet, "us-east/b", 1)
        assert chosen(fleet, "cache_aware", warm) == "us-east/a", "65 more is out of balance"
        load(fleet, "us-east/a", 200)
        load(fleet, "us-east/b", 201)
        assert chosen(fleet, "cache_aware", warm) == "us-east/b", "266 is not more than 1.5 times 200"

    def test_gie_weighs_queue_kv_and_prefix(self) -> None:
        fleet = fleet_of("us-east/a", "us-east/b")
        fleet.observe_load("us-east/a", LoadSample(0.0, running=1, waiting=0, kv_ratio=0.2), 0.0)
        fleet.observe_load("us-east/b", LoadSample(0.0, running=1, waiting=10, kv_ratio=0.5), 0.0)
        ranking = rank(fleet, "gie", ask())
        assert ranking.costs == pytest.approx([7 - 2 - 1.6, 7 - 0 - 1.0])
        know(fleet, "us-east/b", (1, 2))
        both = rank(fleet, "gie", ask(prefix_blocks=(1, 2)))
        assert both.costs[1] == pytest.approx(7 - 1.0 - 3.0)
        assert both.chosen == 1

    def test_gie_takes_unscraped_backends_for_nothing(self) -> None:
        ranking = rank(fleet_of("us-east/a", "us-east/b"), "gie", ask())
        assert ranking.costs == [7.0, 7.0]

    def test_llmd_sticks_until_saturated(self) -> None:
        fleet = fleet_of("us-east/a", "us-east/b")
        driver = Driver(fleet, "llmd")
        know(fleet, "us-east/b", tuple(range(8)))
        blocks = {"prompt_tokens": 1000, "prefix_blocks": tuple(range(10)), "tokens_per_block": 100.0}
        few = {"prompt_tokens": 1000, "prefix_blocks": tuple(range(11)), "tokens_per_block": 100.0}
        driver.send(0.0, exclude=("us-east/a",), prompt_tokens=280_000)
        sticky = rank(fleet, driver.policy, ask(**blocks))
        assert sticky.chosen == 1, "eight of ten blocks are 0.8, and 17.6 s of prefill are not yet 18 s"
        assert sticky.costs == [math.inf, 280_200.0]
        assert rank(fleet, driver.policy, ask(**few)).costs == [1000.0, 280_200.0], "eight of eleven are too few"
        driver.send(0.0, exclude=("us-east/a",), prompt_tokens=10_000)
        broken = rank(fleet, driver.policy, ask(**blocks))
        assert broken.chosen == 0, "18.2 s are too much"
        assert "saturated" in broken.reason

    def test_llmd_counts_uncached_tokens_until_the_first_token(self) -> None:
        fleet = fleet_of("us-east/a", "us-east/b")
        driver = Driver(fleet, "llmd")
        lease = driver.send(0.0, prompt_tokens=700)
        i = list(fleet.backends).index(lease.backend)
        assert rank(fleet, driver.policy, ask(prompt_tokens=100)).costs[i] == 800.0
        fleet.first_token(lease, 0.1)
        assert rank(fleet, driver.policy, ask(prompt_tokens=100)).costs == [100.0, 100.0]
        fleet.end(lease, Outcome.OK, 0.2)
        assert rank(fleet, driver.policy, ask(prompt_tokens=100)).costs == [100.0, 100.0]

    def test_gorgo2_weighs_its_terms(self) -> None:
        fleet = fleet_of("us-east/a", "us-west/a")
        fleet.observe_rtt("us-east/a", 0.010, 0.0)
        fleet.observe_rtt("us-west/a", 0.060, 0.0)
        fleet.observe_load("us-west/a", LoadSample(0.0, kv_ratio=0.5, kv_capacity_tokens=1000.0), 0.0)
        driver = Driver(fleet, "gorgo2")
        lease = driver.send(0.0, prompt_tokens=1000)
        assert lease.backend == "us-east/a"
        ranking = rank(fleet, driver.policy, ask(prompt_tokens=100))
        prefill_s = 1.88 * 0.07e-3 * 100
        expected = [0.0039 + prefill_s + 6.38 * 0.06, 0.39 * 0.06 + prefill_s + 6.38 * 0.06e-3 * 500]
        assert ranking.costs == pytest.approx(expected)
        fleet.first_token(lease, 0.1)
        fleet.end(lease, Outcome.OK, 0.2)
        assert rank(fleet, driver.policy, ask(prompt_tokens=100)).costs[0] == pytest.approx(0.0039 + prefill_s)

    def test_dynamo_counts_blocks(self) -> None:
        fleet = fleet_of("us-east/a", "us-east/b")
        driver = Driver(fleet, "dynamo")
        lease = driver.send(0.0, prompt_tokens=320)
        i = list(fleet.backends).index(lease.backend)
        request = ask(prompt_tokens=160)
        waiting = rank(fleet, driver.policy, request)
        assert waiting.costs[1 - i] == pytest.approx(10 + 10)
        assert waiting.costs[i] == pytest.approx((20 + 10) + (20 + 10))
        fleet.first_token(lease, 0.1)
        assert rank(fleet, driver.policy, request).costs[i] == pytest.approx(10 + (20 + 10))
        fleet.end(lease, Outcome.OK, 0.2)
        assert rank(fleet, driver.policy, request).costs[i] == pytest.approx(20)

    def test_gorgo_adds_network_queue_and_prefill(self) -> None:
        fleet = fleet_of("us-east/a", "us-west/a")
        fleet.observe_rtt("us-east/a", 0.002, 0.0)
        fleet.observe_rtt("us-west/a", 0.060, 0.0)
        driver = Driver(fleet, "gorgo")
        lease = driver.send(0.0, prompt_tokens=1000)
        assert lease.backend == "us-east/a"
        ranking = rank(fleet, driver.policy, ask(prompt_tokens=100))
        assert ranking.costs == pytest.approx([0.002 + 0.094 + 0.0094, 0.060 + 0.0094])
        assert ranking.chosen == 1

    def test_prequal_prefers_low_latency_among_the_cold(self) -> None:
        fleet = fleet_of("us-east/a", "us-east/b", "us-east/c", "us-east/d", "us-east/e", "us-east/f", "us-east/g")
        driver = Driver(fleet, "round_robin")
        policy = make_policy("prequal", fleet.params)
        for i in range(140):
            lease = driver.send(i * 0.1)
            fleet.first_token(lease, i * 0.1 + (0.02 if lease.backend == "us-east/c" else 0.2))
            policy.first_token(lease, i * 0.1 + (0.02 if lease.backend == "us-east/c" else 0.2))
            fleet.end(lease, Outcome.OK, i * 0.1 + 0.3)
        names = list(fleet.backends)
        assert names[rank(fleet, policy, ask(), 14.0).chosen] == "us-east/c"
        for name in names:
            load(fleet, name, 2 if name != "us-east/c" else 9, now_s=14.0)
        assert names[rank(fleet, policy, ask(), 14.0).chosen] != "us-east/c", "it is hot"
