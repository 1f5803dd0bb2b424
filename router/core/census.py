"""Every model in every region, counted now and then: what there is, what is asked, and how many backends it needs."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from math import inf

from router.core.backend import Backend
from router.core.fleet import Fleet
from router.core.needed import Asked, Goal, Needed
from router.core.standing import BackendStanding, asked_of, standings

#: without a target a backend is idle when no request was there for this long
_IDLE_S = 60.0


Unheard = Callable[[str, str | None], bool]


@dataclass(frozen=True, slots=True)
class Group:
    """The backends of a model in a region. ``needed`` None: nobody can say, because no target is configured, or because
    a source has not been heard yet that may bring more of them."""

    region: str
    model: str
    #: configured or found, whether they run or not; of these, those that may be sent requests
    known: int
    there: int
    asked: Asked
    standings: Sequence[BackendStanding]
    goal: Goal | None = None
    needed: int | None = None
    #: what ``needed`` follows from, see ``needed.REASONS``
    reason: str | None = None
    #: what the requests of now need, without trend and hysteresis
    now: int | None = None
    predicted_p95_s: float | None = None
    within_s: float | None = None
    #: what the backends cost that are not needed
    idle_usd_hour: float = 0.0

    @property
    def short(self) -> int | None:
        """How many backends are missing."""
        return None if self.needed is None else max(0, self.needed - self.there)

    @property
    def spare(self) -> int | None:
        """How many are not needed."""
        return None if self.needed is None else max(0, self.there - self.needed)

    @property
    def ratio(self) -> float | None:
        """Needed for each one that is there. None: nothing is there, so no number of times is enough."""
        return None if self.needed is None or not self.there else self.needed / self.there


class Census:
    """Of one fleet. ``look`` every few seconds; ``groups`` is what the last look found. ``unheard``: whether a source
    may bring backends of a model in a region, or in any, and has never been heard."""

    def __init__(self, fleet: Fleet, unheard: Unheard = lambda model, region: False) -> None:
        self._fleet = fleet
        self._unheard = unheard
        self._needed: dict[tuple[str, str], Needed] = {}
        self._looked_s = -inf
        #: by backend: what first tokens took that came since the last look, and when the oldest request was sent there
        self._firsts_s: dict[str, list[float]] = {}
        self._oldest_s: dict[str, float] = {}
        self.groups: list[Group] = []

    def look(self, goals: Mapping[str, Goal], waiting: Mapping[str, float], now_s: float) -> list[Group]:
        """``goals`` and the requests that wait for a place, by model."""
        fleet = self._fleet
        fleet.tick(now_s, everywhere=True)
        serving: dict[tuple[str, str], list[Backend]] = {}
        for model in sorted({*fleet.models(), *goals}):
            for b in fleet.backends.values():
                if b.serves(model):
                    serving.setdefault((b.region, model), []).append(b)
            if model in goals and not any(name == model for _, name in serving):
                serving[fleet.router_region or "", model] = []
        if goals:
            self._look_at_leases()
        self._needed = {key: need for key, need in self._needed.items() if key in serving}
        self.groups = [
            self._group(region, model, backends, goals.get(model), _share(region, model, serving, waiting), now_s)
            for (region, model), backends in serving.items()
        ]
        self._looked_s = now_s
        return self.groups

    def _group(
        self, region: str, model: str, backends: Sequence[Backend], goal: Goal | None, waiting: float, now_s: float
    ) -> Group:
        fleet = self._fleet
        asked = asked_of(backends, model, waiting, fleet.common, fleet.params, now_s)
        found = standings(backends, model, fleet.params, now_s)
        there = asked.backends
        unheard = goal is not None and self._unheard(model, region if backends else None)
        if goal is None or unheard:
            idle = sum(b.spec.cost_usd_hour for b in backends if _idle(b, now_s))
            reason = "unheard" if unheard else None
            return Group(region, model, len(backends), there, asked, found, goal, reason=reason, idle_usd_hour=idle)
        need = self._needed.setdefault((region, model), Needed(fleet.params))
        need.learn(chain.from_iterable(self._nearby_s(b) for b in backends), asked)
        old = sum(self._oldest_s.get(b.name, now_s) <= now_s - goal.hold_s for b in backends)
        needed = need.look(goal, asked, old, now_s)
        usable = [b.spec.cost_usd_hour for b in backends if b.usable(now_s)]
        spare = max(0, there - needed)
        return Group(
            region,
            model,
            len(backends),
            there,
            asked,
            found,
            goal,
            needed,
            need.reason,
            need.now,
            need.predicted_p95_s if there else None,
            need.within_s,
            sum(usable) / len(usable) * spare if usable else 0.0,
        )

    def _look_at_leases(self) -> None:
        """One pass over what is in flight. The first tokens of answers that ended since the last look are missed."""
        self._firsts_s, self._oldest_s = {}, {}
        for lease in self._fleet.leases:
            name, began_s, first_s = lease.backend, lease.started_s, lease.first_token_s
            if began_s < self._oldest_s.get(name, inf):
                self._oldest_s[name] = began_s
            if first_s is not None and first_s > self._looked_s:
                self._firsts_s.setdefault(name, []).append(first_s - began_s)

    def _nearby_s(self, b: Backend) -> list[float]:
        """The first tokens of ``b`` as a router of its region would have seen them."""
        way_s = 0.0 if b.local else b.rtt_s - self._fleet.params.rtt_same_region_s
        return [max(0.0, first_s - way_s) for first_s in self._firsts_s.get(b.name, ())]


def _idle(b: Backend, now_s: float) -> bool:
    return not b.inflight and b.others_inflight < 0.5 and now_s - max(b.last_end_s, b.born_s) >= _IDLE_S


def _share(
    region: str, model: str, serving: Mapping[tuple[str, str], Sequence[Backend]], waiting: Mapping[str, float]
) -> float:
    """The requests that wait in this router are its region's, if the model has backends there; else everybody's."""
    number = waiting.get(model, 0.0)
    if not number:
        return 0.0
    regions = [where for where, name in serving if name == model]
    home = [where for (where, name), backends in serving.items() if name == model and any(b.local for b in backends)]
    takers = home or regions
    return number / len(takers) if region in takers else 0.0
