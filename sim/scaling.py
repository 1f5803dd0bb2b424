"""A Deployment in a simulated world, and the autoscalers that set its replicas: what they ask for runs after a cold
start, and what they do not ask for any more ends when its requests have."""

from __future__ import annotations

from collections.abc import Callable
from math import ceil, inf

from router.core.census import Census
from router.core.fleet import Fleet
from router.core.needed import Goal
from router.core.types import BackendSpec
from sim.world import World

#: of the HorizontalPodAutoscaler
TOLERANCE = 0.1
PERIOD_S = 15.0

Script = list[tuple[float, Callable[[World, float], None]]]
#: How many replicas there should be: of those that are wished for and those that are ready, at a time.
Rule = Callable[["Deployment", float], int]


def hpa(current: int, ready: int, metric: float, target: float, *, tolerance: float = TOLERANCE) -> int:
    """The formula of the HorizontalPodAutoscaler for an external metric of type ``Value``: ceil(ready pods * metric /
    target), and nothing within the tolerance. Of no pods it makes as many as the metric says."""
    ratio = metric / target
    if current == 0:
        return ceil(ratio)
    return current if abs(ratio - 1.0) <= tolerance else ceil(ratio * ready)


def hpa_average(current: int, metric: float, average: float, *, tolerance: float = TOLERANCE) -> int:
    """The same for ``AverageValue``: ceil(metric / average)."""
    if current and abs(metric / (average * current) - 1.0) <= tolerance:
        return current
    return ceil(metric / average)


class Deployment:
    """The backends of one region, of which the first ``wished`` run. All routers of the world know those that are
    ready, as an EndpointSlice would tell them."""

    def __init__(self, world: World, region: str, replicas: int, *, cold_start_s: float) -> None:
        self.world = world
        self.region = region
        self._cold_start_s = cold_start_s
        self._specs = {m.spec.name: m.spec for m in world.plan.machines if m.spec.region.name == region}
        self._others = [m.spec for m in world.plan.machines if m.spec.region.name != region]
        self._ready_s = dict.fromkeys(list(self._specs)[:replicas], -inf)
        #: (time, wished, ready), at every change
        self.history: list[tuple[float, int, int]] = []
        #: seconds of all replicas that were wished for, those that start included
        self.machine_s = 0.0
        self._counted_s = 0.0
        self.tell(0.0)

    @property
    def wished(self) -> int:
        return len(self._ready_s)

    def ready(self, now_s: float) -> list[BackendSpec]:
        return [self._specs[name] for name, ready_s in self._ready_s.items() if ready_s <= now_s]

    def scale(self, replicas: int, now_s: float) -> None:
        """Begin to start what is missing; end the newest that are too many."""
        replicas = max(0, min(replicas, len(self._specs)))
        while self.wished > replicas:
            self._ready_s.popitem()
        for name in self._specs:
            if self.wished < replicas and name not in self._ready_s:
                self._ready_s[name] = now_s + self._cold_start_s
        self.tell(now_s)

    def tell(self, now_s: float) -> None:
        """Routers hear which backends are ready. One that is not any more finishes what it has."""
        self.machine_s += self.wished * (now_s - self._counted_s)
        self._counted_s = now_s
        ready = self.ready(now_s)
        for site in self.world.sites.values():
            site.fleet.apply([*ready, *self._others], now_s)
        if not self.history or self.history[-1][1:] != (self.wished, len(ready)):
            self.history.append((now_s, self.wished, len(ready)))


def ask_often(deployment: Deployment, rule: Rule, until_s: float, *, period_s: float = PERIOD_S) -> Script:
    """A script for ``World.run``: the rule is asked every ``period_s``, and routers hear of what is ready once a
    second."""

    def step(_: World, now_s: float) -> None:
        deployment.tell(now_s)
        deployment.scale(rule(deployment, now_s), now_s)

    script: Script = [(float(at_s), lambda _, now_s: deployment.tell(now_s)) for at_s in range(int(until_s))]
    return script + [(at * period_s, step) for at in range(int(until_s / period_s))]


def needed_rule(fleet: Fleet, model: str, region: str, goal: Goal, waiting: Callable[[], int]) -> tuple[Rule, Script]:
    """What a HorizontalPodAutoscaler makes of ``router_backends_ratio``. With the script that counts every 2 s."""
    census = Census(fleet)

    def look(now_s: float) -> float:
        groups = census.look({model: goal}, {model: float(waiting())}, now_s)
        found = next(g for g in groups if g.region == region and g.model == model)
        return 1.0 if found.ratio is None else found.ratio

    def rule(deployment: Deployment, now_s: float) -> int:
        return hpa(deployment.wished, len(deployment.ready(now_s)), look(now_s), 1.0)

    return rule, [(2.0 * at, lambda _, now_s: (look(now_s), None)[1]) for at in range(3000)]
