"""python -m bench.guard: fails when the router's hot path is more than 10 % dearer than bench/baseline.json says.

Seconds mean nothing on a shared machine, ratios do: the router and a fixed proxy (reference.py) are measured in turns,
on one core, against one backend, and their CPU times are divided slice by slice. Noise hits both of a pair, and the
median of the pairs forgets the pairs it hit unevenly. A result over the limit is measured again before it counts.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import signal
import sys
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from bench import environments, measure, processes, run
from bench.peers import PEERS, Gateway, Peer, Site
from bench.peers.base import launch
from bench.scenarios import Scenario

if TYPE_CHECKING:
    from collections.abc import Iterator

BASELINE = environments.HERE / "baseline.json"
DEARER_MAX = 1.10
PAIRS = 5
BATCHES_MAX = 3
ROUTER_BACKENDS = 6

SCENARIOS = (
    Scenario("request", "whole answer, 200 B prompt", "request", 16, seconds=0.5, warm_s=0.15),
    Scenario(
        "request-16k", "whole answer, 16 KiB prompt", "request", 16, prompt_bytes=16_384, seconds=0.5, warm_s=0.15
    ),
    Scenario(
        "chunk",
        "streamed chunk, 200 streams, 10 ms",
        "chunk",
        200,
        chunks=1_000,
        interval_us=10_000,
        stream=True,
        hold=True,
        seconds=0.5,
        warm_s=0.15,
    ),
)
WARM_UP = (
    Scenario("warm-up", "", "request", 16, seconds=1.5, warm_s=0.0),
    Scenario("warm-up", "", "chunk", 16, chunks=64, stream=True, seconds=0.5, warm_s=0.0),
)


def _start_reference(site: Site) -> Gateway:
    program = Path(__file__).with_name("reference.py")
    return launch(site, [sys.executable, program, str(site.port), str(site.backends[0])], ready="/health")


REFERENCE = Peer("reference", "reference", lambda: "", _start_reference)


class Failed(Exception):  # noqa: N818 - the verdict, not a fault of the guard
    """A slice with errors: there is nothing to compare."""


@dataclass(frozen=True, slots=True)
class Pair:
    """The two programs that are compared."""

    bench: measure.Bench
    router: Gateway
    reference: Gateway

    def cost_s(self, gateway: Gateway, scenario: Scenario) -> float:
        slice_ = measure.run_slice(self.bench, gateway, "", scenario)
        count = slice_.chunks if scenario.unit == "chunk" else slice_.requests
        if slice_.errors or not count:
            raise Failed(f"{scenario.name}: {slice_.errors} errors, {count} answers; {slice_.error}")
        return slice_.cpu_s / count

    def ratios(self, scenario: Scenario) -> list[float]:
        """One ratio per pair of slices; every other pair begins with the other program."""
        found = []
        for number in range(PAIRS):
            order = (self.router, self.reference) if number % 2 else (self.reference, self.router)
            cost_s = {id(gateway): self.cost_s(gateway, scenario) for gateway in order}
            found.append(cost_s[id(self.router)] / cost_s[id(self.reference)])
        return found


def measured(pair: Pair, baseline: dict[str, float]) -> dict[str, float]:
    """The median ratio of each scenario. Without a baseline all batches are run, else only while the limit is exceeded."""
    results = {}
    for scenario in SCENARIOS:
        ratios: list[float] = []
        for _ in range(BATCHES_MAX):
            ratios += pair.ratios(scenario)
            if median(ratios) <= baseline.get(scenario.name, 0.0) * DEARER_MAX:
                break
        results[scenario.name] = median(ratios)
    return results


@contextlib.contextmanager
def started() -> Iterator[Pair]:
    """The router and the reference, warm, each before backends of its own; all ended afterwards."""
    processes.raise_file_limit(run.FILES_WANTED)
    gateway_cpus, load_cpus = run.share_cores()
    os.sched_setaffinity(0, load_cpus)
    backend, ports = measure.start_backend(ROUTER_BACKENDS + 1, load_cpus)
    bench = measure.Bench(measure.load_program(), backend.pid, gateway_cpus, load_cpus)
    with contextlib.ExitStack() as stack:
        stack.callback(processes.end, backend)
        gateways = []
        for peer, backends in ((PEERS["meridian"], ports[1:]), (REFERENCE, ports[:1])):
            folder = environments.OUT / "guard" / peer.name
            gateway = peer.start(Site(processes.free_port(), backends, folder, gateway_cpus, load_cpus))
            stack.callback(gateway.stop)
            gateways.append(gateway)
            for scenario in WARM_UP:
                measure.run_slice(bench, gateway, peer.name, scenario)
        yield Pair(bench, *gateways)


def verdict(ratios: dict[str, float], baseline: dict[str, float]) -> int:
    """Prints one line per scenario. Returns the exit status."""
    dearer = False
    for scenario in SCENARIOS:
        now, then = ratios[scenario.name], baseline[scenario.name]
        over = now > then * DEARER_MAX
        dearer |= over
        word = "DEARER" if over else "cheaper, renew with --write" if now * DEARER_MAX < then else "ok"
        print(f"{scenario.title:38s} x{now:.2f} of the reference, baseline x{then:.2f}, {now / then - 1:+.0%}  {word}")
    return int(dearer)


def main(arguments: list[str]) -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.guard", description=__doc__)
    parser.add_argument("--write", action="store_true", help="make the ratios of this run the baseline")
    options = parser.parse_args(arguments)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    baseline: dict[str, float] = {} if options.write else json.loads(BASELINE.read_text())
    try:
        with started() as pair:
            ratios = measured(pair, baseline)
    except Failed as failed:
        print(failed)
        return 1
    if options.write:
        baseline = {name: round(ratio, 3) for name, ratio in ratios.items()}
        BASELINE.write_text(json.dumps(baseline, indent=2) + "\n")
    return verdict(ratios, baseline)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
