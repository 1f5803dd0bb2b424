"""python -m bench.growth: three tables, of docs/scale.md. Processor time, so that a busy machine changes little."""

from __future__ import annotations

import argparse

from bench.growth.deciding import request_us
from bench.growth.sharing import shared
from bench.growth.watching import watched

BACKENDS = (10, 30, 100, 300, 1000)
ROUTERS = (2, 5, 10, 30, 100)
BUSY = (10, 100, 1000)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.growth", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer repetitions")
    parser.add_argument("--only", choices=("deciding", "watching", "sharing"))
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
        heads = "routers", "busy backends", "KB of an exchange", "MB/s of the fleet", "% of a core, server", "router"
        print(f"\n| {' | '.join(heads)} |\n|{'---:|' * len(heads)}")
        for busy in BUSY:
            for routers in ROUTERS:
                s = shared(routers, busy, exchanges=int(600 * effort))
                if s.heard < routers - 1.5:
                    print(f"| {routers} | {busy} | – | – | – | – |", flush=True)
                    continue
                print(
                    f"| {routers} | {busy} | {(s.sent_bytes + s.got_bytes) / 1e3:.1f} | {s.bytes_per_s / 1e6:.2f} "
                    f"| {100 * s.server_ratio:.1f} | {100 * s.router_ratio:.1f} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
