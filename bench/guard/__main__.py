"""python -m bench.guard: fails when the hot path has become dearer than bench/baseline.json allows.

Two figures per kind of request. Instructions that the interpreter executes are the same in every run: 3 % more fail.
CPU time as a multiple of a fixed proxy's sees C code and system calls too, but noise with them: 30 % more fail, if a
second measurement says the same.
"""

from __future__ import annotations

import argparse
import json
import sys

from bench import environments, processes
from bench.guard import cpu, instructions
from bench.guard.rig import SCENARIOS, Failed, rigged

BASELINE = environments.HERE / "baseline.json"
INSTRUCTIONS_MAX = 1.03
CPU_MAX = 1.30

#: Every version of Python has its own instructions.
PYTHON = f"instructions on Python {sys.version_info.major}.{sys.version_info.minor}"
CPU = "CPU as a multiple of the reference"

Figures = dict[str, dict[str, float]]


def measured(baseline: Figures, *, cpu_too: bool) -> Figures:
    figures = {PYTHON: {name: count.total for name, count in instructions.counted().items()}}
    if cpu_too:
        limits = {name: figure * CPU_MAX for name, figure in baseline.get(CPU, {}).items()}
        with rigged() as rig:
            figures[CPU] = cpu.ratios(rig, limits)
    return figures


def print_functions(rows: int) -> None:
    """Where the instructions go: the dearest functions of each scenario."""
    counts = instructions.counted()
    for scenario in SCENARIOS:
        count = counts[scenario.name]
        print(f"{scenario.title}: {count.total:.0f}")
        for name, figure in sorted(count.by_function.items(), key=lambda item: -item[1])[:rows]:
            print(f"  {figure:7.0f}  {figure / count.total:4.0%}  {name}")


def verdict(now: Figures, baseline: Figures) -> bool:
    """Prints one line per figure. True if none is over its limit."""
    good = True
    for kind, limit in ((PYTHON, INSTRUCTIONS_MAX), (CPU, CPU_MAX)):
        if kind not in now:
            continue
        print(kind)
        for scenario in SCENARIOS:
            figure, then = now[kind][scenario.name], baseline.get(kind, {}).get(scenario.name)
            if then is None:
                print(f"  {scenario.title:30s} {figure:9.2f}  no baseline for this: not judged")
                continue
            over = figure > then * limit
            good &= not over
            word = "DEARER" if over else "cheaper: renew the baseline with --write" if figure * limit < then else "ok"
            print(f"  {scenario.title:30s} {figure:9.2f}  baseline {then:9.2f}  {figure / then - 1:+5.0%}  {word}")
    return good


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.guard", description=__doc__)
    parser.add_argument("--write", action="store_true", help="make the figures of this run the baseline")
    parser.add_argument("--instructions", action="store_true", help="only these: for machines that others use too")
    parser.add_argument("--functions", type=int, metavar="N", help="judge nothing: show the N dearest functions")
    options = parser.parse_args(arguments)
    processes.leave_on_sigterm()
    baseline: Figures = json.loads(BASELINE.read_text()) if BASELINE.exists() else {}
    try:
        if options.functions:
            print_functions(options.functions)
            return 0
        now = measured({} if options.write else baseline, cpu_too=not options.instructions)
    except Failed as failed:
        print(failed)
        return 1
    good = verdict(now, baseline)
    if options.write:
        rounded = {kind: {name: round(one, 2) for name, one in figures.items()} for kind, figures in now.items()}
        BASELINE.write_text(json.dumps(baseline | rounded, indent=2) + "\n")
        print(f"wrote {BASELINE.name}")
        return 0
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
