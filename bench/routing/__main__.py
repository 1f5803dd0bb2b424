"""python -m bench.routing: every policy on every workload at every load, in the simulated world, with intervals.

Recorded traces are read from the folder that --traces names; without it only made workloads are used.
"""

from __future__ import annotations

import argparse
import json
import sys
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from bench.routing import decide, play, table
from bench.routing.cases import DRAWN, HELD_OUT, cases, workloads
from router.core.policy import POLICIES

QUICK_POLICIES = ("ttft", "round_robin", "least_inflight", "p2c", "cache_aware", "dynamo", "gie", "peak_ewma")
REQUESTS, QUICK_REQUESTS = 6000, 2500


def names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.routing", description=__doc__)
    parser.add_argument("--traces", type=Path, help="folder of azure_llm_conv_2023.csv and mooncake_synthetic.jsonl")
    parser.add_argument("--workloads", type=names, help="which of them; default all")
    parser.add_argument("--held-out", action="store_true", help="those instead that nothing was chosen by")
    parser.add_argument("--drawn", type=int, default=0, help="so many instead that are drawn by chance")
    parser.add_argument("--tell-all", action="store_true", help="all policies hear of the prefixes of other routers")
    parser.add_argument("--told-every-ms", type=float, default=100.0, help="how often routers tell each other")
    parser.add_argument("--told-late-ms", type=float, default=100.0, help="how much later that arrives")
    parser.add_argument("--policies", type=names, help=f"of {','.join(POLICIES)}; default all")
    parser.add_argument("--requests", type=int, help=f"per workload; default {REQUESTS}, quick {QUICK_REQUESTS}")
    parser.add_argument("--lost", action="store_true", help="only the cases in which a region is lost")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--processes", type=int, default=1)
    parser.add_argument("--quick", action="store_true", help="a few minutes: fewer requests and policies")
    parser.add_argument("--out", type=Path, default=Path("bench/out/routing.json"), help="where results are kept")
    options = parser.parse_args(arguments)
    options.requests = options.requests or (QUICK_REQUESTS if options.quick else REQUESTS)
    options.policies = options.policies or (list(QUICK_POLICIES) if options.quick else list(POLICIES))
    for name in options.policies:
        if name not in POLICIES:
            parser.error(f"{name!r} is none of {', '.join(POLICIES)}")
    return options


def names_of(options: argparse.Namespace) -> list[str]:
    """The workloads that were asked for."""
    if options.drawn:
        return [f"{DRAWN}{number}" for number in range(1, options.drawn + 1)]
    found = workloads(options.traces, options.requests, options.seed)
    wanted = options.workloads or [w.name for w in found if (w.name in HELD_OUT) == options.held_out]
    return [w.name for w in found if w.name in wanted]


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    chosen = names_of(options)
    results: list[dict[str, Any]] = []
    with ProcessPoolExecutor(options.processes, get_context("spawn")) as pool:
        told = play.Told(options.tell_all, options.told_every_ms / 1000, options.told_late_ms / 1000)
        jobs = [(options.traces, options.requests, options.seed, name, told, 0.0) for name in chosen]
        for job, capacity in zip(jobs, pool.map(play.capacity, jobs), strict=True):
            print(f"\n{job[3]}: the world is saturated at {capacity:.1f} requests/s", flush=True)
            known = (*job[:-1], capacity)
            for number, case in enumerate(cases(play.workload(known), capacity)):
                if options.lost and not case.lost:
                    continue
                played = pool.map(play.rows, *zip(*((known, number, p) for p in options.policies), strict=True))
                parts = (case.name, f"{case.name}, after")
                for name, *rows in zip(parts, *played, strict=False):
                    gains = table.gains(rows) if table.OURS in options.policies and len(rows) > 1 else {}
                    results.append({"case": name, "requests_per_s": case.requests_per_s, "rows": rows, "gains": gains})
                    print(f"\n{table.case_text(name, rows) if gains else rows}", flush=True)
    costs = decide.rows()
    print(f"\nbest of the others / {table.OURS}\n{table.summary_text(results)}\n\n{decide.text(costs)}")
    if options.drawn:
        print(f"\nmean over the workloads [the least, the most]\n{table.means_text(results)}")
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"seed": options.seed, "cases": results, "decisions": costs}, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
