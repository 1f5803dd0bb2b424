"""python -m bench.quota: do five routers around the world sell exactly the limits of a key?

The routers stand 1, 30, 90, 166 and 220 ms from one Valkey, behind lines that delay with jitter (sim/distance). The
clients are all in one region at a time, and move on to the next; each kind of limit has a key and a round of its own.
Once in each lap two routers are killed with SIGKILL and started again, one in the middle of its work and the one that
the clients have just left, and the store forgets its scripts. With `--cut` one region is cut off instead (partition).

For each kind: the most that may be admitted (the burst and the rate times the time; the places; the budget), the
admitted units, by how much they were too many at the worst moment, and the used part: of places, what was in use on
average. Then, for each distance, how long a request of a key far from its limits waits for its quota: the first one,
which asks the store, and those after the first two seconds.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from bench import processes
from bench.quota import cost, partition
from bench.quota.fleet import DISTANCES_S, Region, fleet, server
from bench.quota.region import Shift
from bench.quota.rounds import LEAD_S, REST_S, ROUNDS, play

WARM_S = 2.0


def waits(regions: list[Region], seconds: float) -> list[dict[str, float]]:
    """A key far from its limits, 20 requests a second in every region at once."""
    plan = {"requests_per_minute": 10**6, "tokens_per_minute": 10**8, "concurrent": 10_000, "budget_usd_month": 1e6}
    shift = Shift("far", plan, 10, time.time() + LEAD_S, time.time() + LEAD_S + seconds, pace_s=0.4)
    for region in regions:
        region.give(replace(shift))
    time.sleep(LEAD_S + seconds + REST_S)
    rows = []
    for region, rtt_s in zip(regions, DISTANCES_S, strict=True):
        said = [line for line in list(region.said) if line[:2] == ["waited", "far"]]
        seen = [(float(s), source, float(at_s)) for _, _, s, source, at_s in said]
        warm_s = shift.begin_s + WARM_S
        later = sorted(s for s, _, at_s in seen if at_s > warm_s) or [0.0]
        rows.append(
            {
                "distance_ms": 1000 * rtt_s,
                "requests": len(seen),
                "first_ms": 1000 * (seen[0][0] if seen else 0.0),
                "p50_ms": 1000 * later[len(later) // 2],
                "p99_ms": 1000 * later[int(0.99 * len(later))],
                "asked": sum(source != "allowance" for _, source, _ in seen) / max(1, len(seen)),
            }
        )
    return rows


def run(shift_s: float, kinds: tuple[str, ...], wait_s: float, laps: int = 1) -> dict[str, Any]:
    with fleet() as (regions, port):
        rounds = {kind: play(regions, port, kind, shift_s, laps) for kind in kinds}
        return {"rounds": rounds, "waits": waits(regions, wait_s) if wait_s else []}


def cut_off(cut_s: float, kinds: tuple[str, ...], path: Path | None) -> int:
    with fleet() as (regions, port):
        found = partition.play(regions, port, {kind: ROUNDS[kind] for kind in kinds}, cut_s)
    print(partition.table(found))
    if path is not None:
        path.write_text(json.dumps(found, indent=1) + "\n")
    wrong = partition.wrong(found)
    print("\n".join(wrong), end="\n" if wrong else "")
    return 1 if wrong else 0


def table(result: dict[str, Any]) -> str:
    lines = ["limit        allowed   admitted     excess   used", *(_row(k, r) for k, r in result["rounds"].items())]
    if result["waits"]:
        lines += ["", "distance  requests    first      p50      p99  asked the store"]
        lines += [
            f"{r['distance_ms']:5.0f} ms {r['requests']:9d} {r['first_ms']:5.0f} ms {r['p50_ms']:5.2f} ms"
            f" {r['p99_ms']:5.2f} ms  {r['asked']:.1%}"
            for r in result["waits"]
        ]
    return "\n".join(lines)


def _row(kind: str, r: dict[str, float]) -> str:
    return f"{kind:10} {r['allowed']:9.6g} {r['admitted']:10.6g} {r['excess']:10.6g} {r['share']:6.1%}"


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.quota", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--shift", type=float, default=60.0, help="seconds that the clients stay in a region")
    parser.add_argument("--laps", type=int, default=2, help="times round all regions, for each kind of limit")
    parser.add_argument("--cut", type=float, metavar="S", help="cut a region off from the store for S seconds instead")
    parser.add_argument("--kinds", nargs="+", choices=list(ROUNDS), default=list(ROUNDS))
    parser.add_argument("--json", type=Path, help="write the figures here as well")
    parser.add_argument("--cost", action="store_true", help="the price at the store instead")
    parser.add_argument("--keys", type=int, default=1_000_000, help="accounts that --cost makes")
    options = parser.parse_args()
    processes.leave_on_sigterm()
    if options.cost:
        with server() as port:
            print(cost.table(port, options.keys, 5.0))
        return 0
    if options.cut is not None:
        return cut_off(options.cut, tuple(options.kinds), options.json)
    result = run(options.shift, tuple(options.kinds), 10.0, options.laps)
    print(table(result))
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=1) + "\n")
    over = [kind for kind, r in result["rounds"].items() if r["admitted"] > r["allowed"]]
    short = [kind for kind, r in result["rounds"].items() if r["share"] < 0.9]
    for kind in over:
        print(f"{kind}: more was admitted than is right")
    for kind in short:
        print(f"{kind}: less than 90 % could be used")
    return 1 if over or short else 0


if __name__ == "__main__":
    sys.exit(main())
