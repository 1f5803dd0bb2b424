"""Worlds in virtual time with the production core: what must hold whatever happens, and what routing is worth."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.course import Stop
from router.core.types import BackendSpec, RegionSpec
from sim.profiles import PROFILES
from sim.replay import DEFAULT_POLICIES, replay, run_policy, sized_world, summarize
from sim.traces import Arrival, Trace
from sim.workloads import conversations
from sim.world import Flow, World
from sim.world_plan import WorldPlan, built_in_world, configured_world
from tests.support.effort import examples

PLAN = built_in_world("h100-llama-3.1-8b")
EVEN = {"us-east": 6.0, "eu-central": 6.0, "ap-northeast": 6.0}
Script = list[tuple[float, Callable[[World, float], None]]]


def play(trace: Trace, policy: str = "ttft", plan: WorldPlan = PLAN, script: Script | None = None) -> list[Flow]:
    world = World(plan, policy, block_tokens=trace.block_tokens)
    flows = world.run(trace, script or [])
    world.audit()
    assert len(flows) == len(trace.arrivals)
    for flow in flows:
        assert flow.ended_s is not None
        assert flow.attempts <= flow.site.fleet.params.attempts_max * (1 + flow.course.breaks), "for each leg"
        assert (flow.error is None) == (flow.lease is not None and flow.lease.ended and flow.error is None)
    for site in world.sites.values():
        assert not site.fleet.leases
        assert len(site.queue) == 0
    return flows


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[int(share * (len(values) - 1))]


def ttfts(flows: list[Flow]) -> list[float]:
    return [f.ttft_s for f in flows if f.ttft_s is not None]


def all_of(region: str, what: str) -> Callable[[World, float], None]:
    def act(world: World, now_s: float) -> None:
        for name in world.in_region(region):
            getattr(world, what)(name, now_s)

    return act


@pytest.mark.parametrize("policy", DEFAULT_POLICIES)
def test_every_request_is_answered_once_by_every_policy(policy: str) -> None:
    flows = play(conversations(EVEN, 60, seed=1), policy)
    assert all(f.error is None and f.ttft_s is not None and f.attempts == 1 for f in flows)


def test_the_same_seed_gives_the_same_run() -> None:
    trace = conversations(EVEN, 40, seed=1)
    runs = [run_policy(trace, "ttft", PLAN, seed=5).flows for _ in range(2)]
    assert [(f.ttft_s, f.ended_s, f.region) for f in runs[0]] == [(f.ttft_s, f.ended_s, f.region) for f in runs[1]]


things = st.sampled_from(["kill", "restore", "freeze", "slow", "region down", "region back"])
events = st.lists(st.tuples(st.floats(0, 50), things, st.integers(0, 5)), max_size=12)


@examples(0.5)
@given(events, st.integers(0, 3), st.sampled_from(["ttft", "p2c", "prefix"]))
def test_whatever_breaks_every_request_ends_and_no_count_is_wrong(
    breakages: list[tuple[float, str, int]], seed: int, policy: str
) -> None:
    names = [m.spec.name for m in PLAN.machines]

    def change(what: str, number: int) -> Callable[[World, float], None]:
        def act(world: World, now_s: float) -> None:
            name = names[number]
            region = name.split("/")[0]
            if what == "slow":
                world.slow_down(name, 5.0, now_s)
            elif what == "region down":
                all_of(region, "kill")(world, now_s)
            elif what == "region back":
                all_of(region, "restore")(world, now_s)
            elif what == "kill" or what == "freeze" or what == "restore":
                getattr(world, what)(name, now_s)

        return act

    trace = conversations({"us-east": 2.0, "eu-central": 2.0, "ap-northeast": 2.0}, 40, seed=seed)
    trace = replace(
        trace,
        arrivals=tuple(
            replace(a, residency=frozenset({"eu"}) if i % 5 == 0 else None) for i, a in enumerate(trace.arrivals)
        ),
    )
    script = [(at_s, change(what, number)) for at_s, what, number in breakages]
    for flow in play(trace, policy, script=script):
        if flow.request.residency is not None:
            assert all(name.startswith("eu-central/") for name in flow.asked)


def test_a_region_that_goes_down_costs_no_request() -> None:
    trace = conversations(EVEN, 75, seed=2)
    long = tuple(Arrival(19.5 + i * 0.05, 6000, 20, session=f"long {i}", region="us-east") for i in range(10))
    trace = replace(trace, arrivals=tuple(sorted((*trace.arrivals, *long), key=lambda a: a.at_s)))
    flows = play(trace, script=[(20, all_of("us-east", "kill")), (40, all_of("us-east", "restore"))])
    assert all(f.error is None for f in flows)
    assert any(f.said for f in flows), "streams were continued elsewhere"
    moved = [f for f in flows if f.attempts > 1]
    assert moved
    during = [f for f in flows if f.site.region == "us-east" and 26 < f.started_s < 42]
    assert during
    assert all(f.region != "us-east" for f in during)
    assert percentile(ttfts(during), 0.5) < 0.5
    after = [f for f in flows if f.site.region == "us-east" and f.started_s > 60]
    assert sum(f.region == "us-east" for f in after) / len(after) > 0.5


def test_a_frozen_engine_is_left_after_a_few_requests() -> None:
    plan = replace(PLAN, first_token_timeout_s=5.0)
    trace = conversations(EVEN, 90, seed=3)
    flows = play(trace, plan=plan, script=[(20, lambda w, t: w.freeze("eu-central/a", t))])
    late = [f for f in flows if "eu-central/a" in f.asked and f.started_s > 40]
    assert len(late) <= 5
    assert sum(f.error is not None for f in flows) / len(flows) < 0.02


def test_a_throttled_engine_gets_less() -> None:
    trace = conversations({"us-east": 10.0}, 90, seed=4)
    flows = play(trace, script=[(5, lambda w, t: w.slow_down("us-east/a", 6.0, t))])
    late = [f for f in flows if f.started_s > 40]
    shares = {
        name: sum(f.machine is not None and f.machine.name == name for f in late) for name in ("us-east/a", "us-east/b")
    }
    assert shares["us-east/a"] < shares["us-east/b"] / 3


def test_residency_is_kept_even_if_it_costs_the_answer() -> None:
    arrivals = tuple(
        Arrival(i * 0.5, 200, 20, session=str(i), region="eu-central", residency=frozenset({"eu"})) for i in range(60)
    )
    flows = play(Trace("eu", arrivals), script=[(10, all_of("eu-central", "kill"))])
    assert all(name.startswith("eu-central/") for f in flows for name in f.asked)
    early = [f for f in flows if f.started_s < 12]
    assert all(f.error is None or f.ttft_s is not None for f in early)
    assert {f.error for f in flows if f.started_s > 20} <= {
        "residency_unsatisfiable",
        "no_backend",
        "unreachable",
        "wait_expired",
    }


LONG = Trace("long", tuple(Arrival(i * 0.05, 300, 400, session=str(i), region="us-east") for i in range(30)))


def test_an_answer_that_has_begun_is_gone_on_with_elsewhere() -> None:
    flows = play(LONG, script=[(2.2, all_of("us-east", "kill"))])
    assert all(f.error is None for f in flows)
    moved = [f for f in flows if f.said]
    assert moved
    for flow in moved:
        assert flow.region != "us-east"
        assert 0 < flow.said < 400
        assert flow.course.breaks == 1
        assert flow.request.prompt_tokens == 300 + flow.said


def test_an_answer_that_no_engine_can_go_on_with_ends_with_its_engine() -> None:
    plan = replace(PLAN, machines=tuple(replace(m, spec=replace(m.spec, engine="openai")) for m in PLAN.machines))
    broken = [f for f in play(LONG, plan=plan, script=[(2.2, all_of("us-east", "kill"))]) if f.error is not None]
    assert broken
    for flow in broken:
        assert flow.error == "truncated"
        assert flow.ttft_s is not None
        assert flow.course.stop is Stop.REJECTED


def test_more_than_the_world_can_hold_waits_and_some_are_refused() -> None:
    machines = tuple(replace(m, spec=replace(m.spec, max_inflight=4)) for m in PLAN.machines)
    plan = replace(PLAN, machines=machines, params=replace(PLAN.params, queue_max=20, wait_max_s=1.0))
    arrivals = tuple(Arrival(i * 0.002, 400, 60 if i % 2 else 700, session=str(i)) for i in range(400))
    flows = play(Trace("burst", arrivals), plan=plan)
    errors = {f.error for f in flows}
    assert {"admission_full", "wait_expired", None} <= errors
    served_after_waiting = [f for f in flows if f.error is None and f.waited_s is not None]
    assert served_after_waiting


def test_routing_by_predicted_first_token_beats_the_simple_policies() -> None:
    trace = conversations({"us-east": 26.0, "eu-central": 8.0, "ap-northeast": 8.0}, 120, seed=6)
    plan = built_in_world("a100-llama-3.1-8b")
    rows = {p: summarize(run_policy(trace, p, plan)) for p in ("ttft", "round_robin", "least_inflight", "nearest")}
    for other in ("round_robin", "least_inflight"):
        assert rows["ttft"]["ttft_s_p50"] < rows[other]["ttft_s_p50"]
        assert rows["ttft"]["ttft_s_p90"] < rows[other]["ttft_s_p90"]
        assert rows["ttft"]["prefix_hit_ratio"] > rows[other]["prefix_hit_ratio"]
    assert rows["ttft"]["ttft_s_p99"] < rows["nearest"]["ttft_s_p99"]
    assert rows["nearest"]["local_ratio"] == 1.0


def test_clients_without_a_place_are_spread_by_session() -> None:
    arrivals = tuple(Arrival(i * 0.01, 50, 5, session=str(i // 2)) for i in range(2000))
    plan = replace(PLAN, shares={"us-east": 3.0, "ap-northeast": 1.0})
    flows = play(Trace("t", arrivals), "nearest", plan)
    counts = {r: sum(f.site.region == r for f in flows) for r in plan.regions}
    assert counts["eu-central"] == 0
    assert counts["us-east"] / counts["ap-northeast"] == pytest.approx(3.0, rel=0.15)
    assert all(a.site is b.site for a, b in zip(flows[::2], flows[1::2], strict=True))


def test_replay_reports_what_scripts_rely_on() -> None:
    trace = conversations(EVEN, 30, seed=7)
    told: list[str] = []
    result = replay(trace, ("ttft", "round_robin"), on_policy=told.append)
    assert told == [row["policy"] for row in result["policies"]] == ["ttft", "round_robin"]
    assert result["trace"]["requests"] == len(trace.arrivals)
    wanted = {"ttft_s_p50", "ttft_s_p90", "ttft_s_p99", "e2e_s_p50", "e2e_s_p99"}
    for row in result["policies"]:
        assert wanted | {"policy", "prefix_hit_ratio", "local_ratio", "busy_ratio"} <= row.keys()
        assert row["answered"] == len(trace.arrivals)
        for key in wanted:
            low, high = row["intervals"][key]
            assert 0 < low <= row[key] <= high
        for key in ("prefix_hit_ratio", "local_ratio", "busy_ratio"):
            assert 0.0 <= row[key] <= 1.0
    assert replay(trace, ("round_robin", "ttft"), processes=2)["policies"] == result["policies"][::-1]


def test_intervals_narrow_with_more_requests() -> None:
    def width(seconds: float) -> float:
        row = summarize(run_policy(conversations(EVEN, seconds, seed=8), "nearest", PLAN))
        low, high = row["intervals"]["ttft_s_p50"]
        return float(high - low)

    assert width(240) < width(15)


def test_a_policy_that_does_not_exist_is_an_error() -> None:
    with pytest.raises(KeyError):
        replay(conversations(EVEN, 5, seed=1), ("magic",))


def test_a_built_in_world_is_no_larger_than_needed() -> None:
    small = sized_world(conversations({"r": 1.0}, 100, seed=1))
    large = sized_world(conversations({"r": 300.0}, 100, seed=1))
    assert small.machines[0].profile.cost_usd_hour * len(small.machines) < large.machines[
        0
    ].profile.cost_usd_hour * len(large.machines)
    assert len(small.machines) == 6


def test_a_world_after_a_configuration() -> None:
    near, far = RegionSpec("a", "us", (38.9, -77.0)), RegionSpec("b", "eu", (50.1, 8.7))
    specs = [
        BackendSpec(f"{r.name}/x", r, "http://x", models=("m",), max_inflight=64, cost_usd_hour=1.0)
        for r in (near, far)
    ]
    plan = configured_world(specs, "h100-llama-3.1-8b")
    assert plan.model == "m"
    assert 0.07 < plan.rtt_s["a", "b"] < 0.13
    assert plan.rtt_s["a", "a"] < 0.01
    assert plan.machines[0].profile is PROFILES["h100-llama-3.1-8b"]
    assert all(f.error is None for f in play(conversations({"a": 3.0}, 20, seed=1), plan=plan))
