"""python -m bench: measures the router and its peers, prints one table."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from bench import environments, processes, report, run
from bench.peers import PEERS
from bench.scenarios import SCENARIOS

QUICK_PEERS = ("none", "nginx", "haproxy", "meridian", "vllm-router", "sglang-router", "aiohttp40")
QUICK_SCENARIOS = ("whole-200", "whole-16k", "stream-64", "alone-100", "latency", "open-1000")
QUICK_FACTOR = 0.4
BASES = ("meridian", "nginx")


def names(text: str) -> list[str]:
    return [name for name in text.split(",") if name]


def parse(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--peers", type=names, help=f"of {','.join(PEERS)}; default all")
    parser.add_argument("--scenarios", type=names, help=f"of {','.join(SCENARIOS)}; default all")
    parser.add_argument("--rounds", type=int, help="slices per gateway and scenario; default 5, quick 2")
    parser.add_argument("--seconds", type=float, default=1.0, help="factor on the length of every slice")
    parser.add_argument(
        "--quiet-cores",
        type=float,
        default=float("inf"),
        metavar="CORES",
        help="measure a slice again (3 times at most) while others use more than this",
    )
    parser.add_argument("--base", help="the gateway ratios refer to; default meridian, else nginx")
    parser.add_argument("--quick", action="store_true", help="one or two minutes: fewer gateways, scenarios, rounds")
    parser.add_argument("--out", type=Path, default=environments.OUT / "results.json", help="where results are kept")
    parser.add_argument("--from", dest="sources", type=Path, nargs="+", help="no run: report on these results")
    parser.add_argument("--write", action="store_true", help="renew the tables in docs/performance.md and README.md")
    options = parser.parse_args(arguments)
    for given, known in ((options.peers, PEERS), (options.scenarios, SCENARIOS)):
        for name in given or ():
            if name not in known:
                parser.error(f"{name!r} is none of {', '.join(known)}")
    return options


def plan_of(options: argparse.Namespace) -> run.Plan:
    peers = options.peers or (QUICK_PEERS if options.quick else list(PEERS))
    scenarios = options.scenarios or (QUICK_SCENARIOS if options.quick else list(SCENARIOS))
    factor = options.seconds * (QUICK_FACTOR if options.quick else 1.0)
    if "none" not in peers and any(name.startswith(("latency", "alone")) for name in scenarios):
        peers = ["none", *peers]
    return run.Plan(
        peers=peers,
        scenarios=[SCENARIOS[name].shortened(factor) for name in scenarios],
        rounds=options.rounds or (2 if options.quick else 5),
        quiet_cores=options.quiet_cores,
    )


def base_of(options: argparse.Namespace, measured: list[str]) -> str:
    return options.base or next((name for name in BASES if name in measured), measured[0] if measured else "")


def main(arguments: list[str]) -> int:
    options = parse(arguments)
    processes.leave_on_sigterm()
    if not options.sources:
        run.run(plan_of(options), options.out)
    results = report.load(options.sources or [options.out])
    base = base_of(options, report.Figures(results).peers())
    print(f"\n{report.conditions(results, base)}\n\n{report.table(results, base)}\n")
    if options.write:
        for path in report.write(results, base):
            print(f"renewed {path}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
