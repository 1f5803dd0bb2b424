"""One run: installs, starts everything once, then measures in interleaved slices (A B C A B C ...)."""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import time
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from bench import environments, kernel, measure, processes
from bench.environments import NotInstallable
from bench.peers import PEERS, Gateway, Site
from bench.scenarios import Scenario

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path


BACKENDS = 6
FILES_WANTED = 65_536
FILES_SPARE = 1_000
MEMORY_ROUNDS_MAX = 2
TRIES_FOR_QUIET = 4
START_SETTLE_S = 1.0
# Compilers that work while the program runs and modules loaded at the first request are done with after this.
WARM_UP = (
    Scenario("warm-up", "", "request", 16, seconds=4.0, warm_s=0.0),
    Scenario("warm-up", "", "chunk", 16, chunks=64, stream=True, seconds=2.0, warm_s=0.0),
)


@dataclass(frozen=True, slots=True)
class Plan:
    """What to run. A slice in which others used more than `quiet_cores` is measured again, a few times at most."""

    peers: Sequence[str]
    scenarios: Sequence[Scenario]
    rounds: int
    quiet_cores: float


@dataclass(slots=True)
class Results:
    """Everything a report needs; written to a JSON file after every round."""

    date: str
    machine: dict[str, Any]
    versions: dict[str, str] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    idle_pss_bytes: dict[str, int] = field(default_factory=dict)
    slices: list[dict[str, Any]] = field(default_factory=list)

    def save(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        shape = {name: getattr(self, name) for name in self.__slots__}
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(shape))
        fresh.rename(path)


def say(text: str) -> None:
    print(text, flush=True)


def share_cores() -> tuple[frozenset[int], frozenset[int]]:
    """One core for the gateway under test, the others for load and backend."""
    cores = sorted(os.sched_getaffinity(0))
    return frozenset(cores[:1]), frozenset(cores[1:] or cores)


def describe_machine(gateway_cpus: frozenset[int], load_cpus: frozenset[int]) -> dict[str, Any]:
    return {
        "cpu": kernel.cpu_model(),
        "cores": len(gateway_cpus | load_cpus),
        "kernel": platform.release(),
        "system": platform.freedesktop_os_release().get("PRETTY_NAME", platform.system()),
        "python": platform.python_version(),
    }


def install(names: Sequence[str], results: Results) -> list[str]:
    """Installs every peer. Those this machine cannot have are noted with the reason."""
    usable = []
    for name in names:
        say(f"install  {name}")
        try:
            results.versions[name] = PEERS[name].install()
            usable.append(name)
        except NotInstallable as reason:
            results.skipped[name] = str(reason)
            say(f"         not here: {reason}")
    return usable


def start(
    names: Sequence[str],
    ports: Sequence[int],
    bench: measure.Bench,
    results: Results,
    running: dict[str, Gateway],
) -> None:
    """Starts the gateways, each before backends of its own, and warms them up.

    `running` holds each from the moment it runs, so that the caller can end them.
    """
    for number, name in enumerate(names):
        say(f"start    {name}")
        folder = environments.OUT / name
        own = tuple(ports[number * BACKENDS : (number + 1) * BACKENDS])
        site = Site(processes.free_port(), own, folder, bench.gateway_cpus, bench.load_cpus)
        site.log.unlink(missing_ok=True)
        try:
            running[name] = PEERS[name].start(site)
        except (RuntimeError, OSError) as error:
            results.skipped[name] = str(error)
            say(f"         did not start: {error}")
            continue
    time.sleep(START_SETTLE_S)
    for name, gateway in running.items():
        results.idle_pss_bytes[name] = kernel.tree_pss_bytes(gateway.roots)
        for scenario in WARM_UP:
            measure.run_slice(bench, gateway, name, scenario)


def fitting(scenario: Scenario, files: int) -> Scenario:
    """A gateway needs two files per stream: fewer streams where the limit of open files is low."""
    return replace(scenario, connections=min(scenario.connections, (files - FILES_SPARE) // 2))


def measure_once(bench: measure.Bench, gateway: Gateway, name: str, scenario: Scenario, quiet: float) -> measure.Slice:
    best = measure.run_slice(bench, gateway, name, scenario)
    for _ in range(TRIES_FOR_QUIET - 1):
        if best.others_cores <= quiet or best.errors:
            break
        again = measure.run_slice(bench, gateway, name, scenario)
        best = min(best, again, key=lambda one: one.others_cores)
    return best


def run(plan: Plan, out: Path) -> Results:
    """Raises KeyboardInterrupt through; whatever was started is ended."""
    files = processes.raise_file_limit(FILES_WANTED)
    gateway_cpus, load_cpus = share_cores()
    os.sched_setaffinity(0, load_cpus)
    now = dt.datetime.now(dt.UTC)
    results = Results(now.strftime("%Y-%m-%d %H:%M UTC"), describe_machine(gateway_cpus, load_cpus))
    usable = install(plan.peers, results)
    load = measure.load_program()
    backend, ports = measure.start_backend(BACKENDS * max(1, len(usable)), load_cpus)
    bench = measure.Bench(load, backend.pid, gateway_cpus, load_cpus)
    running: dict[str, Gateway] = {}
    try:
        start(usable, ports, bench, results, running)
        for scenario in plan.scenarios:
            memory_only = scenario.hold and scenario.seconds == 0
            rounds = min(plan.rounds, MEMORY_ROUNDS_MAX) if memory_only else plan.rounds
            for number in range(rounds):
                for name, gateway in running.items():
                    if name == "none" and memory_only:
                        continue
                    slice_ = measure_once(bench, gateway, name, fitting(scenario, files), plan.quiet_cores)
                    results.slices.append(slice_.as_json())
                    say(f"{scenario.name} {number + 1}/{rounds} {one_line(slice_, scenario)}")
                results.save(out)
    finally:
        for gateway in running.values():
            gateway.stop()
        processes.end(backend)
    results.save(out)
    return results


def one_line(slice_: measure.Slice, scenario: Scenario) -> str:
    count = slice_.chunks if scenario.unit == "chunk" else slice_.requests
    cost = f"{slice_.cpu_s / count * 1e6:9.1f} us" if count and scenario.unit else " " * 12
    memory = f" {slice_.open_pss_bytes / 2**20:7.1f} MiB" if slice_.open_pss_bytes else ""
    fault = f"  {slice_.errors} errors: {slice_.error}" if slice_.errors else ""
    left = f"  {slice_.left_open} streams left open" if slice_.left_open else ""
    return f"{slice_.peer:20s}{cost} n={count:<9.0f} others={slice_.others_cores:.2f}{memory}{left}{fault}"
