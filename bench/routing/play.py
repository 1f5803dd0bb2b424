"""The single runs that a comparison consists of, as functions that another process can call."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from bench.routing.capacity import capacity_per_s
from bench.routing.cases import Case, Workload, cases, named
from sim.replay import Outcome, summarize
from sim.world import World


class Told(NamedTuple):
    """The news between routers: of prefixes also for policies that hear of none; how often; how late."""

    all: bool = False
    every_s: float = 0.1
    late_s: float = 0.1


#: (folder of traces, requests, seed, workload, what routers are told, capacity in requests per second)
Job = tuple[Path | None, int, int, str, Told, float]


def workload(job: Job) -> Workload:
    traces, requests, seed, name, told, _ = job
    return replace(
        named(name, traces, requests, seed),
        tell_all=told.all,
        told_every_s=told.every_s,
        told_late_s=told.late_s,
    )


def capacity(job: Job) -> float:
    """As routers tell each other by default, so that cases which differ in the news have one load."""
    folder, requests, seed, name, told, _ = job
    return capacity_per_s(workload((folder, requests, seed, name, Told(told.all), 0.0)))


def rows(job: Job, number: int, policy: str) -> list[dict[str, Any]]:
    """What one policy does on a case: all of its requests, and if a region is lost those that came after it.

    Half of the requests come before the loss, so the median over all lies on the edge between two worlds.
    """
    case = cases(workload(job), job[-1])[number]
    outcome = run(case, policy, job[2])
    parts = [outcome]
    if case.lost:
        lost_s = case.lost_s(case.trace)
        parts.append(replace(outcome, flows=tuple(f for f in outcome.flows if f.arrival.at_s >= lost_s)))
    return [summarize(part, seed=job[2]) for part in parts]


def run(case: Case, policy: str, seed: int) -> Outcome:
    """One policy on one case."""
    trace = case.trace
    world = World(case.workload.world, policy, block_tokens=trace.block_tokens, seed=seed)
    flows = world.run(trace, case.script(trace))
    world.audit()
    busy = [m.engine.busy_s_total / world.now_s for m in world.machines.values()]
    served = dict.fromkeys(world.machines, 0)
    for flow in flows:
        if flow.machine is not None:
            served[flow.machine.name] += 1
    return Outcome(policy, tuple(flows), sum(busy) / len(busy), max(busy), served)
