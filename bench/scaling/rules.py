"""The rules that set the replicas: ours, and those that autoscalers use for engines, each with its settings to try."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from router.core.needed import Goal
from sim.scaling import PERIOD_S, Deployment, Rule, Script, hpa, needed_rule
from sim.world import World

#: The HorizontalPodAutoscaler takes the highest wish of the last five minutes, before it asks for fewer.
STABLE_S = 300.0


@dataclass(frozen=True, slots=True)
class Setting:
    """``value``: what the rule aims at; a smaller one asks for more backends."""

    rule: str
    value: float
    make: Callable[[World, str, float], tuple[Rule, Script]]

    @property
    def name(self) -> str:
        return f"{self.rule} {self.value:g}"


@dataclass(slots=True)
class Stabilised:
    """A wish for fewer is the highest of the last ``STABLE_S``."""

    wish: Callable[[Deployment, float], int]
    wishes: list[tuple[float, int]] = field(default_factory=list)

    def __call__(self, deployment: Deployment, now_s: float) -> int:
        wish = max(1, self.wish(deployment, now_s))
        if not self.wishes:  # as the autoscaler does when it begins
            self.wishes.append((now_s, deployment.wished))
        self.wishes = [(at_s, n) for at_s, n in self.wishes if at_s >= now_s - STABLE_S]
        self.wishes.append((now_s, wish))
        highest = max(n for _, n in self.wishes)
        return wish if wish >= deployment.wished else min(deployment.wished, highest)


def _needed(cold_start_s: float) -> Callable[[World, str, float], tuple[Rule, Script]]:
    def make(world: World, region: str, target_s: float) -> tuple[Rule, Script]:
        site = world.sites[region]
        goal = Goal(target_s, hold_s=60.0, cold_start_s=cold_start_s)
        return needed_rule(site.fleet, world.plan.model, region, goal, lambda: len(site.queue))

    return make


def _busy(world: World, region: str, target: float) -> tuple[Rule, Script]:
    """Processor or GPU use: the share of the last period in which the ready engines had anything to do."""
    before: dict[str, float] = {}

    def wish(deployment: Deployment, now_s: float) -> int:
        ready = [spec.name for spec in deployment.ready(now_s)]
        totals = {name: world.machines[name].engine.busy_s_total for name in ready}
        shares = [min(1.0, (totals[name] - before.get(name, totals[name])) / PERIOD_S) for name in ready]
        before.update(totals)
        return hpa(deployment.wished, len(ready), sum(shares) / len(shares), target) if shares else 1

    return Stabilised(wish), []


def _waiting(world: World, region: str, target: float) -> tuple[Rule, Script]:
    """The depth of queues: requests that wait in engines and in the router, for each ready backend."""

    def wish(deployment: Deployment, now_s: float) -> int:
        ready = deployment.ready(now_s)
        waiting = len(world.sites[region].queue) + sum(world.machines[spec.name].engine.waiting for spec in ready)
        return hpa(deployment.wished, len(ready), waiting / len(ready), target) if ready else 1

    return Stabilised(wish), []


def settings(target_s: float, cold_start_s: float) -> Iterator[Setting]:
    yield Setting("needed", target_s, _needed(cold_start_s))
    for share in (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2):
        yield Setting("busy", share, _busy)
    for depth in (8.0, 4.0, 2.0, 1.0, 0.5, 0.25, 0.1):
        yield Setting("waiting", depth, _waiting)
