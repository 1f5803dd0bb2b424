"""python -m bench.growth: four tables, of docs/scale.md. Processor time, so that a busy machine changes little."""

from __future__ import annotations

import argparse

from bench.growth.deciding import request_us
from bench.growth.sharing import shared
from bench.growth.telling import telling
from bench.growth.watching import watched

BACKENDS = (10, 30, 100, 300, 1000)
ROUTERS = (2, 5, 10, 30, 100)
BUSY = (10, 100, 1000)
ROUND_TRIPS_S = (0.001, 0.03, 0.09, 0.166, 0.22)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    parser.add_argument("--only", choices=("deciding", "watching", "sharing", "telling"))
    options = parser.parse_args()
    effort = 0.2 if options.quick else 1.0
    if options.only in (None, "deciding"):
        print("| backends | µs of a request in the core |\n|---:|---:|")
        for n in BACKENDS:
            best = min(request_us(n, requests=int(5000 * effort), seed=seed) for seed in range(3))
            print(f"| {n} | {best:.1f} |", flush=True)
    if options.only in (None, "watching"):
        print("\n| backends | % of a core | MiB | s until all are known |\n|---:|---:|---:|---:|")
        for n in BACKENDS:
            w = watched(n, seconds=20 * effort)
            print(f"| {n} | {100 * w.busy_ratio:.1f} | {w.bytes_ / 2**20:.0f} | {w.ready_s:.1f} |", flush=True)
    if options.only in (None, "sharing"):
        heads = "routers", "busy backends", "KB of a period", "MB/s of the fleet", "% of a core, server", "router"
        print(f"\n| {' | '.join(heads)} |\n|{'---:|' * len(heads)}")
        for busy in BUSY:
            for routers in ROUTERS:
                s = shared(routers, busy, periods=int(600 * effort))
                if s.heard < routers - 1.5:
                    print(f"| {routers} | {busy} | – | – | – | – |", flush=True)
                    continue
                print(
                    f"| {routers} | {busy} | {(s.sent_bytes + s.got_bytes) / 1e3:.1f} | {s.bytes_per_s / 1e6:.2f} "
                    f"| {100 * s.server_ratio:.1f} | {100 * s.router_ratio:.1f} |",
                    flush=True,
                )
    if options.only in (None, "telling"):
        print("\n| ms to the store | blocks known after, p50 | p99 | leases, p50 | p99 | bytes a prompt | commands/s |")
        print(f"|{'---:|' * 7}")
        for rtt_s in ROUND_TRIPS_S:
            t = telling(rtt_s, seconds=30 * effort)
            late = " | ".join(
                f"{1000 * quantile:.0f}" for each in (t.blocks_s, t.leases_s) for quantile in _middle_and_end(each)
            )
            print(f"| {1000 * rtt_s:.0f} | {late} | {t.bytes_per_prompt:.0f} | {t.commands_per_s:.0f} |", flush=True)


def _middle_and_end(values: list[float]) -> tuple[float, float]:
    """Median and 99th percentile of sorted values."""
    return values[len(values) // 2], values[int(0.99 * (len(values) - 1))]


if __name__ == "__main__":
    main()
