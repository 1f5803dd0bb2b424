"""``python -m sim.seeds``: play scenarios and print the seeds that break a rule."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

from sim.seeds.play import Play
from sim.seeds.rules import Broken
from sim.seeds.scenario import Scenario, part_of, scenario_of
from sim.seeds.shrink import broken_by, shrink

_CHUNK = 50
_SHRINK_MAX = 5  # of the failures, so that a bad change does not take for ever


def play_all(seeds: Sequence[int]) -> list[tuple[int, str]]:
    """Seeds that break a rule, each with the rule and what was seen."""
    failures = []
    for seed in seeds:
        try:
            broken: BaseException | None = broken_by(scenario_of(seed))
        except Exception as error:
            broken = error
        if broken is not None:
            failures.append((seed, str(broken) if isinstance(broken, Broken) else f"crash: {broken!r}"))
    return failures


def replay_command(scenario: Scenario) -> str:
    """The command that shows this scenario step by step."""
    whole = scenario_of(scenario.seed)
    words = ["python -m sim.seeds --seed", str(scenario.seed)]
    if len(scenario.asks) < len(whole.asks):
        words += ["--requests", _listed([ask.number for ask in scenario.asks])]
    if len(scenario.troubles) < len(whole.troubles):
        words += ["--troubles", _listed([trouble.number for trouble in scenario.troubles])]
    return " ".join([*words, "-v"])


def main(arguments: Sequence[str] | None = None) -> int:
    options = _parser().parse_args(arguments)
    if options.seed is not None:
        return _replay(options)
    began_s, failures, played = time.monotonic(), 0, 0
    for seeds, found in _results(options.first, options.scenarios, options.jobs):
        played += len(seeds)
        for seed, what in found:
            failures += 1
            print(f"seed {seed}: {what}")
            if failures <= _SHRINK_MAX:
                print(f"  {_smaller(seed)}", flush=True)
        if options.progress and played % (40 * _CHUNK) == 0:
            print(f"{played} scenarios, {failures} failures", file=sys.stderr, flush=True)
        if failures >= options.failures_max:
            break
    took_s = time.monotonic() - began_s
    print(f"{played} scenarios in {took_s:.0f} s, {played / max(took_s, 1e-9):.0f} a second; {failures} broke a rule")
    return 1 if failures else 0


def _results(first: int, scenarios: int, jobs: int) -> Iterator[tuple[range, list[tuple[int, str]]]]:
    chunks = [range(i, min(i + _CHUNK, first + scenarios)) for i in range(first, first + scenarios, _CHUNK)]
    if jobs == 1:
        yield from ((chunk, play_all(chunk)) for chunk in chunks)
        return
    with ProcessPoolExecutor(jobs) as pool:
        yield from zip(chunks, pool.map(play_all, chunks), strict=True)


def _smaller(seed: int) -> str:
    scenario = scenario_of(seed)
    broken = None
    try:
        broken = broken_by(scenario)
    except Exception as error:
        return f"{replay_command(scenario)}  ({error!r})"
    return replay_command(scenario if broken is None else shrink(scenario, broken.rule))


def _replay(options: argparse.Namespace) -> int:
    scenario = whole = scenario_of(options.seed)
    if options.requests is not None or options.troubles is not None:
        asks = _numbers(options.requests) if options.requests is not None else {ask.number for ask in whole.asks}
        troubles = _numbers(options.troubles) if options.troubles is not None else {t.number for t in whole.troubles}
        scenario = part_of(whole, asks, troubles)
    if options.verbose:
        print(f"seed {scenario.seed}: policy {scenario.policy}, routers in {', '.join(scenario.routers)}")
        for box in scenario.boxes:
            spec = box.spec
            print(f"  {spec.name:<14} {'/'.join(spec.models):<10} limit {spec.max_inflight}, {box.places} places")
    try:
        Play(scenario, print if options.verbose else None).run()
    except Broken as broken:
        print(f"BROKEN  {broken}")
        if not options.verbose:
            print(f"  {_smaller(scenario.seed)}")
        return 1
    print(f"seed {scenario.seed} keeps every rule")
    return 0


def _listed(numbers: Sequence[int]) -> str:
    return ",".join(map(str, sorted(numbers))) or "none"


def _numbers(listed: str) -> set[int]:
    return set() if listed == "none" else {int(number) for number in listed.split(",")}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sim.seeds", description=__doc__)
    parser.add_argument("--scenarios", type=int, default=1000, help="how many to play (1000)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (0)")
    parser.add_argument("--jobs", type=int, default=len(os.sched_getaffinity(0)), help="processes (one for each core)")
    parser.add_argument("--failures-max", type=int, default=20, help="stop after this many (20)")
    parser.add_argument("--progress", action="store_true", help="say now and then how far it is")
    parser.add_argument("--seed", type=int, help="play this one only")
    parser.add_argument("--requests", help="only these requests of it, by number: 3,7; or none")
    parser.add_argument("--troubles", help="only these troubles of it")
    parser.add_argument("-v", "--verbose", action="store_true", help="with --seed: print each step")
    return parser


if __name__ == "__main__":
    sys.exit(main())
