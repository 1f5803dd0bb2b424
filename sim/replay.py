"""What if: a trace through several policies in the same world, and how sure the answer is.

Every policy meets the same requests at the same moments. The intervals are bootstrapped over blocks of consecutive
requests, because neighbours in a queue are not independent.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass
from itertools import accumulate
from math import ceil
from multiprocessing import get_context
from typing import Any

from router.core.policy import POLICIES
from sim.profiles import PROFILES, Profile
from sim.traces import Trace
from sim.world import Flow, World
from sim.world_plan import WorldPlan, built_in_world

#: Compared when nothing else is asked for.
DEFAULT_POLICIES = ("ttft", "nearest", "least_inflight", "p2c", "round_robin", "prefix")

_BLOCKS = 50
_RESAMPLES = 200
_MOST_BUSY = 0.7  # a built-in world is sized to be no busier than this


@dataclass(frozen=True, slots=True)
class Outcome:
    """One policy's run."""

    policy: str
    flows: tuple[Flow, ...]
    busy_ratio: float  # mean share of the time that an engine had work
    busiest_ratio: float
    requests_by_backend: dict[str, int]


def run_policy(trace: Trace, policy: str, plan: WorldPlan, *, seed: int = 1) -> Outcome:
    """Play the trace through one policy. Raises KeyError for a policy that does not exist."""
    world = World(plan, policy, block_tokens=trace.block_tokens, seed=seed)
    flows = world.run(trace)
    world.audit()
    span_s = max(world.now_s, 1e-9)
    busy = [min(1.0, m.engine.busy_s_total / span_s) for m in world.machines.values()]
    served = dict.fromkeys(world.machines, 0)
    for flow in flows:
        if flow.machine is not None:
            served[flow.machine.name] += 1
    return Outcome(policy, tuple(flows), sum(busy) / len(busy), max(busy), served)


def sized_world(trace: Trace) -> WorldPlan:
    """Three regions with as many engines, of the smallest GPU, as carry the trace without being crowded."""
    longest = max((a.prompt_tokens + a.output_tokens for a in trace.arrivals), default=1)
    profiles = sorted(
        (p for p in PROFILES.values() if p.name != "demo" and "8b" in p.name), key=lambda p: p.cost_usd_hour
    )
    fitting = [p for p in profiles if p.context_tokens >= longest] or [profiles[-1]]
    for backends in (2, 4, 8, 16, 32):
        for profile in fitting:
            if _expected_busy(trace, profile) / (3 * backends) <= _MOST_BUSY:
                return built_in_world(profile, backends=backends)
    return built_in_world(fitting[-1], backends=32)


def _expected_busy(trace: Trace, profile: Profile) -> float:
    """How many engines of this profile the trace keeps busy, if no prefix were ever found in a cache."""
    if not trace.arrivals:
        return 0.0
    tokens = sum(a.prompt_tokens + a.output_tokens for a in trace.arrivals) / len(trace.arrivals)
    together = max(1.0, min(profile.sequences, profile.kv_tokens / tokens))
    work_s = 0.0
    for a in trace.arrivals:
        prompt = a.prompt_tokens
        work_s += prompt * profile.prefill_token_s + prompt * prompt / 2 * profile.attention_s
        look_back = prompt + a.output_tokens / 2
        each_s = profile.iteration_s / together + profile.sequence_s + profile.context_token_s * look_back
        work_s += a.output_tokens * each_s
    return work_s / max(trace.duration_s, 1.0)


def replay(
    trace: Trace,
    policies: Sequence[str] = DEFAULT_POLICIES,
    plan: WorldPlan | None = None,
    *,
    seed: int = 1,
    processes: int = 1,
    on_policy: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Results as ``router replay --json`` prints them. Raises KeyError for a policy that does not exist.

    ``processes``: how many policies are played at the same time. ``on_policy`` is told of each when it is done.
    """
    for policy in policies:
        POLICIES[policy]
    if plan is None:
        plan = sized_world(trace)
    longest = max(m.profile.context_tokens for m in plan.machines)
    trace = trace.no_longer_than(longest)
    rows: dict[str, dict[str, Any]] = {}
    if processes > 1 and len(policies) > 1:
        with ProcessPoolExecutor(min(processes, len(policies)), get_context("spawn")) as pool:
            running = {pool.submit(_row, trace, policy, plan, seed): policy for policy in policies}
            for done in as_completed(running):
                rows[running[done]] = done.result()
                if on_policy is not None:
                    on_policy(running[done])
    else:
        for policy in policies:
            rows[policy] = _row(trace, policy, plan, seed)
            if on_policy is not None:
                on_policy(policy)
    return {
        "trace": {
            "name": trace.name,
            "source": trace.source,
            "requests": len(trace.arrivals),
            "skipped": trace.skipped,
            "duration_s": trace.duration_s,
            "prompt_tokens": sum(a.prompt_tokens for a in trace.arrivals),
            "output_tokens": sum(a.output_tokens for a in trace.arrivals),
        },
        "world": {
            "regions": list(plan.regions),
            "backends": len(plan.machines),
            "profiles": sorted({m.profile.name for m in plan.machines}),
        },
        "policies": [rows[policy] for policy in policies],
    }


def _row(trace: Trace, policy: str, plan: WorldPlan, seed: int) -> dict[str, Any]:
    return summarize(run_policy(trace, policy, plan, seed=seed), seed=seed)


def summarize(outcome: Outcome, *, seed: int = 1) -> dict[str, Any]:
    """One policy's row. Times are None when no request was answered."""
    flows = outcome.flows
    good = [f for f in flows if f.error is None and f.ttft_s is not None and f.ended_s is not None]
    ttfts = [f.ttft_s for f in good if f.ttft_s is not None]
    e2es = [f.ended_s - f.started_s for f in good if f.ended_s is not None]
    prompt_tokens = sum(f.arrival.prompt_tokens for f in good)
    row: dict[str, Any] = {"policy": outcome.policy}
    intervals: dict[str, Any] = {}
    for name, values, quantiles in (("ttft_s", ttfts, (0.5, 0.9, 0.99)), ("e2e_s", e2es, (0.5, 0.99))):
        for quantile, (value, low, high) in zip(quantiles, _quantiles(values, quantiles, seed), strict=True):
            key = f"{name}_p{round(quantile * 100)}"
            row[key] = value
            intervals[key] = [low, high]
    row["prefix_hit_ratio"] = sum(f.cached_tokens for f in good) / prompt_tokens if prompt_tokens else 0.0
    row["local_ratio"] = sum(f.region == f.site.region for f in good) / len(good) if good else 0.0
    row["busy_ratio"] = outcome.busy_ratio
    row["busiest_ratio"] = outcome.busiest_ratio
    row["answered"] = len(good)
    row["failed"] = len(flows) - len(good)
    row["retried"] = sum(f.attempts > 1 for f in flows)
    row["waited"] = sum(f.waited_s is not None for f in flows)
    row["requests_by_backend"] = outcome.requests_by_backend
    row["intervals"] = intervals
    return row


def _quantiles(
    values: Sequence[float], quantiles: Sequence[float], seed: int
) -> list[tuple[float | None, float | None, float | None]]:
    """Each quantile with the ends of its 95 % interval. ``values`` are in order of time."""
    count = len(values)
    if not count:
        return [(None, None, None)] * len(quantiles)
    blocks = min(_BLOCKS, count)
    order = sorted(range(count), key=values.__getitem__)
    ranked = [values[i] for i in order]
    block_of = [i * blocks // count for i in order]
    rng = random.Random(seed)
    # One resample draws blocks with replacement; a block drawn twice counts each of its values twice.
    drawn: list[list[float]] = [[] for _ in quantiles]
    for _ in range(_RESAMPLES if count <= 200_000 else _RESAMPLES // 4):
        times = [0] * blocks
        for _ in range(blocks):
            times[rng.randrange(blocks)] += 1
        reached = list(accumulate(map(times.__getitem__, block_of)))
        for sample, quantile in zip(drawn, quantiles, strict=True):
            sample.append(ranked[bisect_left(reached, max(1, ceil(quantile * reached[-1])))])
    out: list[tuple[float | None, float | None, float | None]] = []
    for sample, quantile in zip(drawn, quantiles, strict=True):
        sample.sort()
        low, high = sample[int(0.025 * len(sample))], sample[int(0.975 * len(sample))]
        out.append((ranked[max(0, ceil(quantile * count) - 1)], low, high))
    return out
