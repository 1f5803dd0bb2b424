"""What 100 % is: the throughput of the saturated world.

The workload is offered several times faster than the world can answer, with nothing ever timing out, and the answers
per second are counted between the first and the last tenth of them, while every engine has work. The best of several
policies counts, since how much a world can carry depends on how well prefixes are reused.
"""

from __future__ import annotations

from dataclasses import replace

from bench.routing.cases import Workload
from sim.world import World
from sim.world_plan import WorldPlan

#: those among which the best is the capacity: by prefix, by load, and the default
REFERENCES = ("ttft", "cache_aware", "least_inflight")
_OVERLOAD = 1.5
_STEP = 1.5
_FIRST_GUESS_PER_S = 16.0
_FOR_EVER_S = 1e6


def capacity_per_s(workload: Workload) -> float:
    """The most requests per second that the world answers, whatever is offered.

    More on offer may be less answered: with large contexts, caches are of no use once everything waits. So the best of
    all steps counts, and no step counts for more than was offered.
    """
    offered_per_s, best_per_s = _FIRST_GUESS_PER_S, 0.0
    # Step by step: an absurd overload would not fill the caches as in life.
    while True:
        answered_per_s = _answered_per_s(workload, REFERENCES[0], offered_per_s)
        best_per_s = max(best_per_s, min(answered_per_s, offered_per_s))
        if answered_per_s <= offered_per_s / _OVERLOAD:
            break
        offered_per_s *= _STEP
    offered_per_s = _OVERLOAD * best_per_s
    return max(best_per_s, *(_answered_per_s(workload, policy, offered_per_s) for policy in REFERENCES))


def _answered_per_s(workload: Workload, policy: str, offered_per_s: float) -> float:
    trace = workload.at(offered_per_s)
    flows = World(_patient(workload.world), policy, block_tokens=trace.block_tokens).run(trace)
    ends = sorted(f.ended_s for f in flows if f.ended_s is not None and f.error is None)
    tenth = len(ends) // 10
    return (len(ends) - 2 * tenth) / (ends[-1 - tenth] - ends[tenth])


def _patient(plan: WorldPlan) -> WorldPlan:
    """The same world with nothing timing out and room for everybody."""
    params = replace(plan.params, wait_max_s=_FOR_EVER_S, queue_max=1 << 30)
    machines = tuple(replace(m, spec=replace(m.spec, max_inflight=1 << 20)) for m in plan.machines)
    return replace(plan, machines=machines, first_token_timeout_s=_FOR_EVER_S, params=params)
