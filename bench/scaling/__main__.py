"""python -m bench.scaling TRACE: GPU hours that each rule of scaling takes for a trace, and the first tokens it gives.

One region of simulated engines with the production core, backends that take ``--cold-start`` seconds to start, and an
autoscaler that looks every 15 s. ``needed`` is ``router_backends_needed``; ``busy`` is processor or GPU use and
``waiting`` the depth of queues, each with several settings. The last line of each compares at equal first tokens: the
cheapest setting of it that keeps the target as well as ``needed`` does.
"""

from __future__ import annotations

import argparse
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from bench.scaling.rules import Setting, settings
from sim.geography import DEFAULT_REGIONS
from sim.profiles import PROFILES
from sim.scaling import Deployment, ask_often
from sim.traces import Trace, load_trace
from sim.world import World
from sim.world_plan import built_in_world


@dataclass(frozen=True, slots=True)
class Row:
    rule: str
    name: str
    gpu_hours: float
    most: int
    p95_s: float
    failed: int


def play(trace: Trace, profile: str, backends: int, cold_start_s: float, setting: Setting) -> Row:
    region = DEFAULT_REGIONS[0]
    plan = built_in_world(PROFILES[profile], (region,), backends=backends)
    world = World(plan, "ttft", block_tokens=trace.block_tokens)
    deployment = Deployment(world, region.name, 2, cold_start_s=cold_start_s)
    rule, counting = setting.make(world, region.name, setting.value)
    until_s = trace.duration_s
    script = [entry for entry in counting if entry[0] <= until_s] + ask_often(deployment, rule, until_s)
    flows = world.run(trace, script)
    deployment.tell(world.now_s)
    times = sorted(f.ttft_s for f in flows if f.ttft_s is not None) or [float("inf")]
    most = max(wished for _, wished, _ in deployment.history)
    failed = sum(f.error is not None for f in flows)
    return Row(setting.rule, setting.name, deployment.machine_s / 3600, most, times[int(0.95 * len(times))], failed)


def text(rows: list[Row], target_s: float) -> str:
    lines = [f"{'rule':<14}{'GPU hours':>11}{'most':>6}{'p95 s':>9}{'failed':>8}"]
    lines += [f"{r.name:<14}{r.gpu_hours:>11.2f}{r.most:>6}{r.p95_s:>9.2f}{r.failed:>8}" for r in rows]
    ours = next(r for r in rows if r.rule == "needed")
    bar_s = max(ours.p95_s, target_s)
    for rule in dict.fromkeys(r.rule for r in rows if r is not ours):
        as_good = [r for r in rows if r.rule == rule and r.p95_s <= bar_s and r.failed <= ours.failed]
        if as_good:
            best = min(as_good, key=lambda r: r.gpu_hours)
            lines.append(f"{rule}: {best.gpu_hours / ours.gpu_hours:.2f} times the GPU hours at p95 {best.p95_s:.2f} s")
        else:
            lines.append(f"{rule}: no setting comes to {bar_s:.2f} s")
    return "\n".join(lines)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.scaling", description=__doc__)
    parser.add_argument("trace", type=Path, help="an Azure or Mooncake trace, or a journal")
    parser.add_argument("--profile", default="a100-llama-3.1-8b", choices=list(PROFILES))
    parser.add_argument("--faster", type=float, default=1.0, help="factor on the rate of requests")
    parser.add_argument("--requests", type=int, help="how many of them; default all")
    parser.add_argument("--backends", type=int, default=24, help="no more than this")
    parser.add_argument("--target", type=float, default=1.0, help="of 95 %% of first tokens, in seconds")
    parser.add_argument("--cold-start", type=float, default=90.0)
    parser.add_argument("--rules", help="of needed,busy,waiting; default all")
    options = parser.parse_args(arguments)
    trace = load_trace(options.trace, limit=options.requests).faster(options.faster)
    trace = trace.no_longer_than(PROFILES[options.profile].context_tokens)
    trace = replace(trace, arrivals=tuple(replace(a, region=DEFAULT_REGIONS[0].name) for a in trace.arrivals))
    print(f"{trace.name}: {len(trace.arrivals)} requests in {trace.duration_s / 60:.0f} min, {options.profile}")
    rows = []
    for setting in settings(options.target, options.cold_start):
        if options.rules is None or setting.rule in options.rules.split(","):
            rows.append(play(trace, options.profile, options.backends, options.cold_start, setting))
            print(asdict(rows[-1]), file=sys.stderr, flush=True)
    print(text(rows, options.target))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
