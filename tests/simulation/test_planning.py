"""How many backends where: the search against brute force, and plans that keep what they say."""

from __future__ import annotations

import random
from dataclasses import replace
from itertools import product
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sim.planning import Counts, Search, Target, fleet_of, places_of, plan_fleet, together
from sim.world_plan import MachinePlan
from tests.support.effort import examples
from tests.support.journals import played, slow_profile, small_plan, traffic

PLAN = small_plan(slow_profile())
TRACE = traffic(4.0, 30.0)


def brute_force(search: Search, most: int) -> float:
    """The cost of the cheapest fleet that keeps the target; infinite when none does."""
    every = product(range(most + 1), repeat=len(search.weights))
    return min((search.cost(c) for c in every if any(c) and search.time_of(c, True) <= search.target_s), default=inf)


@examples(20)
@given(seed=st.integers(0, 10_000), places=st.integers(1, 3), most=st.integers(1, 4))
def test_it_finds_what_brute_force_finds_even_where_more_is_not_better(seed: int, places: int, most: int) -> None:
    """Times that fall with each backend, and now and then rise again."""
    rng = random.Random(seed)
    worth = [rng.uniform(0.3, 2.0) for _ in range(places)]
    bumps: dict[Counts, float] = {}

    def time_of(counts: Counts, in_full: bool) -> float:
        able = sum(n * w for n, w in zip(counts, worth, strict=True))
        if not able:
            return inf
        return bumps.setdefault(counts, random.Random(f"{seed} {counts}").choice((0.8, 1.0, 1.0, 1.6))) / able

    weights = [rng.choice((1.0, 1.5, 2.5)) for _ in range(places)]
    search = Search(time_of, weights, rng.uniform(0.15, 1.5), [most] * places, runs_max=10_000)
    found = search.run()
    cheapest = brute_force(search, most)
    if found.kept:
        assert found.proved
        assert search.cost(found.counts) == pytest.approx(cheapest)
        assert time_of(found.counts, True) <= search.target_s
    else:
        assert found.counts
        assert not found.proved


def test_a_bounded_search_says_that_it_proved_nothing() -> None:
    def time_of(counts: Counts, in_full: bool) -> float:
        return 10.0 / sum(counts)

    played_ones: list[Counts] = []
    search = Search(time_of, [1.0, 1.0, 1.0], 1.0, [32] * 3, 40, lambda counts, _: played_ones.append(counts))
    found = search.run()
    assert found.kept
    assert not found.proved
    assert found.runs == len(played_ones) == len(set(played_ones)) == 40


@pytest.mark.parametrize("target_s", [0.25, 0.4, 0.8])
def test_a_plan_for_simulated_engines_is_the_one_of_brute_force(target_s: float) -> None:
    near, far, _ = PLAN.machines
    plan = replace(PLAN, machines=(near, replace(far, spec=replace(far.spec, cost_usd_hour=0.6))))
    (found,) = plan_fleet(plan, TRACE, Target(target_s), most=3, seed=3)
    places = places_of(plan)
    costs = []
    for counts in product(range(4), repeat=2):
        if any(counts):
            _, flows = played(fleet_of(plan, places, counts), TRACE, seed=3)
            time_s = Target(target_s).time_of([inf if f.error or f.ttft_s is None else f.ttft_s for f in flows])
            if time_s <= target_s:
                costs.append(sum(n * p.usd_hour for n, p in zip(counts, places, strict=True)))
    assert found["kept"] == bool(costs)
    if costs:
        assert found["proved"]
        assert found["ttft_s"] <= target_s
        assert found["usd_month"] == pytest.approx(730 * min(costs))


def test_more_traffic_needs_more_and_the_same_seed_says_the_same() -> None:
    plan = replace(PLAN, machines=PLAN.machines[:1])
    (now,), (then,) = (plan_fleet(plan, TRACE, Target(0.5), growth=g, most=12) for g in (1.0, 3.0))
    assert now["kept"]
    assert then["kept"]
    assert then["backends"] > now["backends"] >= 1
    assert plan_fleet(plan, TRACE, Target(0.5), growth=3.0, most=12) == [then]
    assert then["backends_today"] == 1


def test_a_target_that_nobody_can_keep() -> None:
    (found,) = plan_fleet(replace(PLAN, machines=PLAN.machines[:1]), TRACE, Target(0.01), most=3, runs_max=20)
    assert not found["kept"]
    assert found["ttft_s"] > 0.01
    assert found["usd_month"] is None
    assert "meets nobody takes" in found["limit"]


def test_it_says_what_limits_a_fleet_that_is_late() -> None:
    plan = replace(PLAN, machines=PLAN.machines[:1])
    rush = TRACE.faster(8.0)
    (few,) = plan_fleet(plan, rush, Target(0.35), most=2)
    (short,) = plan_fleet(plan, rush, Target(0.35), most=32, runs_max=2)
    exiles = replace(TRACE, arrivals=tuple(replace(a, residency=frozenset({"mars"})) for a in TRACE.arrivals))
    (nowhere,) = plan_fleet(plan, exiles, Target(0.35), most=2)
    assert not any(found["kept"] for found in (few, short, nowhere))
    assert few["limit"] == "there may be no more than 2 backends of a model in a region (--most)"
    assert short["limit"] == "2 fleets were played, which is the most (--runs)"
    assert nowhere["limit"].startswith(f"{len(TRACE.arrivals)} of {len(TRACE.arrivals)} requests may go to none of")
    assert nowhere["ttft_s"] is None


@examples(0.4)
@given(
    seed=st.integers(0, 1000),
    per_s=st.floats(1.0, 8.0),
    target_s=st.floats(0.15, 1.0),
    price=st.sampled_from((0.4, 1.0, 1.7)),
)
def test_a_plan_costs_what_brute_force_finds_in_any_small_world(
    seed: int, per_s: float, target_s: float, price: float
) -> None:
    near, far, _ = PLAN.machines
    plan = replace(PLAN, machines=(near, replace(far, spec=replace(far.spec, cost_usd_hour=price))))
    trace, target, places = traffic(per_s, 8.0, seed), Target(target_s), places_of(plan)
    if not trace.arrivals:
        return
    (found,) = plan_fleet(plan, trace, target, most=2, seed=seed)
    kept = []
    for counts in filter(any, product(range(3), repeat=2)):
        _, flows = played(fleet_of(plan, places, counts), trace, seed=seed)
        if target.time_of([inf if f.error or f.ttft_s is None else f.ttft_s for f in flows]) <= target_s:
            kept.append(sum(n * p.usd_hour for n, p in zip(counts, places, strict=True)))
    assert found["kept"] == bool(kept)
    if kept:
        assert found["usd_month"] == pytest.approx(730 * min(kept))
    else:
        assert found["usd_month"] is None
        assert found["limit"]


def test_models_that_nobody_asked_for_stay_as_they_are() -> None:
    near = PLAN.machines[0]
    other = replace(near, spec=replace(near.spec, name="us-east/s", models=("small",), cost_usd_hour=3.0))
    more = replace(other, spec=replace(other.spec, name="us-east/t"))
    plan = replace(PLAN, machines=(near, other, more), many_models=True)
    asked, left = plan_fleet(plan, TRACE, Target(0.9), most=8)
    assert asked["requests"] == len(TRACE.arrivals)
    assert (left["models"], left["requests"], left["backends"], left["backends_today"]) == ("small", 0, 2, 2)
    assert left["usd_month"] == left["usd_month_today"] == 730 * 6.0


def test_unlike_backends_of_a_place_are_planned_as_the_middle_one_and_counted_as_they_are() -> None:
    near = PLAN.machines[0]

    def machine(short: str, slower: float, usd: float) -> MachinePlan:
        profile = replace(near.profile, prefill_token_s=near.profile.prefill_token_s * slower)
        return replace(near, profile=profile, spec=replace(near.spec, name=f"us-east/{short}", cost_usd_hour=usd))

    slow, middle, quick = machine("slow", 6.0, 1.0), machine("middle", 1.0, 2.0), machine("quick", 0.9, 5.0)
    plan = replace(PLAN, machines=(slow, quick, middle))
    (place,) = places_of(plan)
    assert place.like is middle
    assert places_of(replace(plan, machines=(quick, slow)))[0].like is slow, "of two the careful guess"
    (found,) = plan_fleet(plan, TRACE, Target(0.9), most=4)
    (told,) = found["places"]
    assert (told["like"], told["unlike"], told["usd_hour"]) == (
        "us-east/middle",
        ["us-east/slow", "us-east/quick"],
        2.0,
    )
    assert found["usd_month_today"] == pytest.approx(730 * 8.0)
    (alone,) = plan_fleet(replace(plan, machines=(slow,)), TRACE, Target(0.9), most=4)
    (both,) = plan_fleet(replace(plan, machines=(slow, quick)), TRACE, Target(0.9), most=4)
    assert both["ttft_s_today"] < alone["ttft_s_today"], (
        "the quick one is there today, though the slow one stands for both"
    )
    same = replace(plan, machines=(middle, replace(middle, spec=replace(middle.spec, name="us-east/m2"))))
    assert plan_fleet(same, TRACE, Target(0.9), most=4)[0]["places"][0]["unlike"] == []


def test_models_that_share_no_engine_are_planned_apart() -> None:
    near = PLAN.machines[0]
    small = replace(near, spec=replace(near.spec, name="us-east/s", models=("small",)))
    both = replace(near, spec=replace(near.spec, name="us-east/b", models=("small", "tiny")))
    plan = replace(PLAN, machines=(near, small), many_models=True)
    assert [len(g) for g in together(places_of(plan))] == [1, 1]
    assert [len(g) for g in together(places_of(replace(plan, machines=(near, small, both))))] == [1, 2]
    arrivals = tuple(
        replace(a, model="small" if i % 4 == 0 else near.spec.models[0]) for i, a in enumerate(TRACE.arrivals)
    )
    found = {r["models"]: r for r in plan_fleet(plan, replace(TRACE, arrivals=arrivals), Target(0.9), most=8)}
    assert found["small"]["requests"] == sum(a.model == "small" for a in arrivals)
    assert all(r["kept"] for r in found.values())


def test_a_request_that_fails_is_late() -> None:
    target = Target(1.0, 50.0)
    assert target.time_of([0.1, 0.2, inf, inf]) == 0.2
    assert target.time_of([0.1, inf, inf, inf]) == inf
