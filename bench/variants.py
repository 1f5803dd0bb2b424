"""python -m bench.variants TRACE: what smaller variants under load gain on a trace, with as many GPUs.

One region of simulated engines with the production core. ``--big`` engines of a model of 70 billion parameters take
two GPUs each; ``--small`` engines of one of 8 billion take one each and are its variant (``[models.X] degrade``). The
rows are

- ``big only``: as many GPUs, all of them for the large model;
- ``no variants``: the large and the small engines, but no request may get the variant;
- ``variants``: the same, and every request may.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from router.core.degrading import Smaller, Swing
from router.core.params import Params
from sim.geography import DEFAULT_REGIONS
from sim.profiles import PROFILES, Profile
from sim.traces import Trace, load_trace
from sim.world import World
from sim.world_plan import MachinePlan, WorldPlan, built_in_world

BIG, SMALL = "llama-3.3-70b", "llama-3.1-8b"
BIG_PROFILE, SMALL_PROFILE = "h100x2-llama-3.3-70b", "h100-llama-3.1-8b"
_BIG_GPUS, _SMALL_GPUS = 2, 1
REGION = DEFAULT_REGIONS[0]


@dataclass(frozen=True, slots=True)
class Row:
    """``late``, ``given``, ``failed``: shares of all requests. ``strains``: how often degrading began."""

    name: str
    gpus: int
    p50_s: float
    p95_s: float
    late: float
    given: float
    failed: float
    strains: int
    strained_s: float


def machines(profile: Profile, model: str, count: int) -> tuple[MachinePlan, ...]:
    made = built_in_world(profile, (REGION,), backends=count).machines
    named = (replace(m.spec, name=f"{m.spec.region.name}/{model}-{i}", models=(model,)) for i, m in enumerate(made))
    return tuple(MachinePlan(spec, profile) for spec in named)


def world_of(big: int, small: int, rule: Smaller | None, params: Params | None = None) -> WorldPlan:
    plan = built_in_world(PROFILES[BIG_PROFILE], (REGION,))
    members = machines(PROFILES[BIG_PROFILE], BIG, big) + machines(PROFILES[SMALL_PROFILE], SMALL, small)
    smaller = {} if rule is None else {BIG: rule}
    return replace(plan, machines=members, model=BIG, smaller=smaller, params=params or plan.params)


def play(
    name: str,
    trace: Trace,
    big: int,
    small: int,
    target_s: float,
    *,
    variants: bool,
    seed: int = 1,
    params: Params | None = None,
) -> Row:
    rule = Smaller(BIG, (SMALL,), target_s) if variants else None
    world = World(world_of(big, small, rule, params), "ttft", block_tokens=trace.block_tokens, seed=seed)
    degrading = world.sites[REGION.name].degrading
    swings: list[tuple[float, Swing]] = []

    def look(_: World, now_s: float) -> None:
        swings.extend((now_s, swing) for swing in degrading.take_swings(now_s))

    flows = world.run(trace, [(float(at_s), look) for at_s in range(int(trace.duration_s) + 1)])
    times = sorted(f.ttft_s if f.error is None and f.ttft_s is not None else float("inf") for f in flows)
    strained_s, began_s = 0.0, None
    for at_s, swing in swings:
        if swing.strained:
            began_s = at_s
        elif began_s is not None:
            strained_s, began_s = strained_s + at_s - began_s, None
    return Row(
        name,
        big * _BIG_GPUS + small * _SMALL_GPUS,
        times[len(times) // 2],
        times[int(0.95 * len(times))],
        sum(t > target_s for t in times) / len(times),
        sum(f.request.model != BIG for f in flows) / len(flows),
        sum(f.error is not None for f in flows) / len(flows),
        sum(swing.strained for _, swing in swings),
        strained_s + (world.now_s - began_s if began_s is not None else 0.0),
    )


def rows(trace: Trace, big: int, small: int, target_s: float, seed: int = 1) -> list[Row]:
    more = small * _SMALL_GPUS // _BIG_GPUS
    return [
        play("big only", trace, big + more, 0, target_s, variants=False, seed=seed),
        play("no variants", trace, big, small, target_s, variants=False, seed=seed),
        play("variants", trace, big, small, target_s, variants=True, seed=seed),
    ]


def by_room(trace: Trace, big: int, small: int, target_s: float, ratios: list[float], seed: int = 1) -> list[Row]:
    """``variants`` with other values of ``degrade_room_ratio``."""
    return [
        play(
            f"room {ratio:g}",
            trace,
            big,
            small,
            target_s,
            variants=True,
            seed=seed,
            params=Params(degrade_room_ratio=ratio),
        )
        for ratio in ratios
    ]


def text(found: list[Row]) -> str:
    head = f"{'':<12}{'GPUs':>5}{'p50 s':>8}{'p95 s':>8}{'late':>8}{'variant':>9}{'failed':>8}{'began':>7}{'for s':>8}"
    lines = [
        f"{r.name:<12}{r.gpus:>5}{r.p50_s:>8.2f}{r.p95_s:>8.2f}{r.late:>8.1%}{r.given:>9.1%}{r.failed:>8.1%}"
        f"{r.strains:>7}{r.strained_s:>8.0f}"
        for r in found
    ]
    return "\n".join([head, *lines])


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.variants", description=__doc__)
    parser.add_argument("trace", type=Path, help="an Azure or Mooncake trace, or a journal")
    parser.add_argument("--faster", type=float, default=1.0, help="factor on the rate of requests")
    parser.add_argument("--requests", type=int, help="how many of them; default all")
    parser.add_argument("--skip", type=int, default=0, help="requests at the beginning to leave out")
    parser.add_argument("--room", type=float, nargs="+", help="compare these values of degrade_room_ratio")
    parser.add_argument("--big", type=int, default=3)
    parser.add_argument("--small", type=int, default=2)
    parser.add_argument("--target", type=float, default=1.0, help="[models.X] target_ttft_s")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    limit = None if options.requests is None else options.requests + options.skip
    trace = load_trace(options.trace, limit=limit).without_first(options.skip).faster(options.faster)
    trace = trace.no_longer_than(PROFILES[BIG_PROFILE].context_tokens)
    trace = replace(trace, arrivals=tuple(replace(a, region=REGION.name) for a in trace.arrivals))
    print(
        f"{trace.name}: {len(trace.arrivals)} requests in {trace.duration_s / 60:.0f} min, target {options.target:g} s"
    )
    sizes = (trace, options.big, options.small, options.target)
    print(text(by_room(*sizes, options.room, options.seed) if options.room else rows(*sizes, options.seed)))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
