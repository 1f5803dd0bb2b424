"""python -m bench.workers: how much more do two workers on two cores carry than one on one?

The load needs cores, too, so on a machine of two nobody can see the doubled rate. What can be seen is what a request
costs: m, the CPU time of the router's whole process tree per request while its workers are saturated, without b, what
the tree uses in a second without any request. With the load outside, a core that does nothing else serves (1 - b) / m
requests a second, two serve (2 - b) / m, and

    scaling = (2 - b2) / (1 - b1) x m1 / m2

Both are measured in turns, in short slices, under equal conditions: half of the load generators and half of the
backends run on each of two cores, and each worker is pinned to one of them and has 64 requests in flight. With two the
tree includes the process in front of them. The Valkey behind them is left out, as there is one however many routers
there are, and told beside it. The cheapest quarter of the slices stands for all of them: noise only ever adds CPU time.

Two cores may share more than one would like: caches, or all of their units, if they are threads of one. So the same is
measured for two routers that know nothing of each other. What they scale less than twice is the machine's.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import time
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from statistics import fmean

from bench import environments, kernel, measure, processes, run
from bench.guard.rig import BACKENDS
from bench.peers import Gateway, Site, meridian
from bench.scenarios import Scenario

#: name -> the workers of each router
SETUPS = {"1 worker": (1,), "2 workers": (2,), "2 routers": (1, 1)}
IN_FLIGHT = 64  # for each worker
WHOLE = Scenario("whole", "whole answer, 200 B prompt", "request", IN_FLIGHT, seconds=0.6, warm_s=0.3)
CHUNK = Scenario(
    "chunk", "streamed chunk, read with others", "chunk", IN_FLIGHT, 200, 64, stream=True, seconds=0.6, warm_s=0.3
)


@dataclass
class Cost:
    """Per request or chunk, a value per slice: microseconds of CPU, and how often a worker waited."""

    router_us: list[float] = field(default_factory=list)
    store_us: list[float] = field(default_factory=list)
    waits: list[float] = field(default_factory=list)


def pin(pid: int, cpu: int) -> None:
    for thread in os.listdir(f"/proc/{pid}/task"):
        os.sched_setaffinity(int(thread), {cpu})


def serving(gateway: Gateway) -> list[int]:
    """The processes that serve clients."""
    assert gateway.process is not None
    root = gateway.process.pid
    return [p for p in kernel.tree(root) if b"router.workers" in Path(f"/proc/{p}/cmdline").read_bytes()] or [root]


def waits(pids: list[int]) -> int:
    """How often these processes have waited: voluntary switches of their main threads."""
    lines = [line for pid in pids for line in Path(f"/proc/{pid}/status").read_text().splitlines()]
    return sum(int(line.split()[1]) for line in lines if line.startswith("voluntary"))


def load(gateway: Gateway, scenario: Scenario, cpu: int) -> subprocess.Popen[bytes]:
    command = [str(measure.load_program()), f"--port={gateway.port}", *scenario.arguments()]
    command += [f"--header={header}" for header in gateway.headers]
    with processes.pinned(frozenset({cpu})):
        return subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, bufsize=0)


def router_cpu_s(gateways: list[Gateway]) -> float:
    return sum(kernel.tree_cpu_s(g.roots) - kernel.tree_cpu_s(g.store_roots) for g in gateways)


def idle_cores(gateways: list[Gateway], seconds: float) -> float:
    """The cores that routers use that have nothing to do."""
    before_s, at_s = router_cpu_s(gateways), time.monotonic()
    time.sleep(seconds)
    return (router_cpu_s(gateways) - before_s) / (time.monotonic() - at_s)


def slice_of(gateways: list[Gateway], cpus: list[int], scenario: Scenario, idle: float, cost: Cost) -> None:
    """One slice. Raises SystemExit for an answer that was wrong."""
    pids = [pid for gateway in gateways for pid in serving(gateway)]
    for pid, cpu in zip(pids, cpus, strict=False):
        pin(pid, cpu)
    part = replace(scenario, connections=IN_FLIGHT * len(pids) // (len(cpus) * len(gateways)))
    loads = [load(gateway, part, cpu) for cpu in cpus for gateway in gateways]
    try:
        for process in loads:
            processes.expect(process, "start", 30)
        at_s, stores = time.monotonic(), [root for gateway in gateways for root in gateway.store_roots]
        before = router_cpu_s(gateways), kernel.tree_cpu_s(stores), waits(pids)
        for process in loads:
            processes.expect(process, "stop", 30)
        after = router_cpu_s(gateways), kernel.tree_cpu_s(stores), waits(pids)
        passed_s = time.monotonic() - at_s
        said = [json.loads(processes.read_line(process, 30)) for process in loads]
    finally:
        for process in loads:
            processes.end(process)
    if any(sum(one["errors"].values()) for one in said):
        raise SystemExit(f"errors: {[one['sample'] for one in said]}")
    count = sum(one["events" if scenario.stream else "requests"] for one in said)
    if not count:
        return  # the machine had no time for it
    router_s, store_s, waited = (b - a for a, b in zip(before, after, strict=True))
    cost.router_us.append((router_s - idle * passed_s) / count * 1e6)
    cost.store_us.append(store_s / count * 1e6)
    cost.waits.append(waited / count)


def cheapest(values: list[float]) -> float:
    return fmean(sorted(values)[: max(1, len(values) // 4)])


def compare(scenario: Scenario, slices: int, setups: dict[str, list[Gateway]], cpus: list[int]) -> None:
    costs = {name: Cost() for name in setups}
    idle = {name: idle_cores(gateways, 2.0) for name, gateways in setups.items()}
    for _ in range(slices):
        for name, gateways in setups.items():
            slice_of(gateways, cpus, scenario, idle[name], costs[name])
    print(f"{scenario.title}, {slices} slices each")
    rates = {}
    for name, cost in costs.items():
        router_us, store_us = cheapest(cost.router_us), cheapest(cost.store_us)
        rates[name] = (sum(SETUPS[name]) - idle[name]) / router_us * 1e6
        print(
            f"  {name}: {router_us:.2f} us, the store {store_us:.2f} us, {fmean(cost.waits):.3f} waits; "
            f"{idle[name] * 1e3:.1f} ms a second without requests; x {rates[name] / rates['1 worker']:.2f}",
            flush=True,
        )
    pairs = sorted(a / b for a, b in zip(costs["2 routers"].router_us, costs["2 workers"].router_us, strict=False))
    middle = pairs[len(pairs) // 4 : -(len(pairs) // 4) or None]
    print(
        f"  2 workers carry {rates['2 workers'] / rates['2 routers']:.2f} of what 2 routers carry (of half of the "
        f"pairs {middle[0]:.2f} to {middle[-1]:.2f})",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.workers", description=__doc__)
    parser.add_argument("--slices", type=int, default=24, help="for each setup (24)")
    options = parser.parse_args()
    processes.leave_on_sigterm()
    processes.raise_file_limit(run.FILES_WANTED)
    cpus = sorted(os.sched_getaffinity(0))[:2]
    backends = [measure.start_backend(BACKENDS // 2, frozenset({cpu})) for cpu in cpus]
    ports = tuple(port for _, some in backends for port in some)
    setups: dict[str, list[Gateway]] = {name: [] for name in SETUPS}
    try:
        for name, routers in SETUPS.items():
            for number, workers in enumerate(routers):
                folder = environments.OUT / "workers" / f"{name}-{number}".replace(" ", "-")
                site = Site(processes.free_port(), ports, folder, frozenset(cpus), frozenset(cpus))
                site.log.unlink(missing_ok=True)
                setups[name].append(partial(meridian.start, shared=True, workers=workers)(site))
        for scenario in (WHOLE, replace(WHOLE, title="whole answer, 16 KiB prompt", prompt_bytes=16384), CHUNK):
            compare(scenario, options.slices, setups, cpus)
    finally:
        for gateways in setups.values():
            for gateway in gateways:
                gateway.stop()
        for process, _ in backends:
            processes.end(process)


if __name__ == "__main__":
    main()
