"""How many backends of which model where, so that first tokens come in time: a search over simulated fleets.

A *fleet* here is a number of backends for each place, which is a region and the models that are served together there.
Places that share no model do not touch each other and are planned apart. Whether a fleet keeps the target is found by
playing the trace through it, never by assuming that more backends are better: a fleet that keeps it and one backend
more may fail, since requests are spread otherwise. So:

1. up: from the fewest, add the backend that brings the time down most, until the target is kept;
2. down: take away, or swap for a cheaper one, whatever is not needed, until nothing can be spared;
3. prove: play every cheaper fleet, the cheapest first, until one keeps the target or all have failed.

Each fleet is played once. ``runs_max`` bounds all three; when it ends the third the result says that it is the best
that was found and not proved to be the cheapest.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from heapq import heappop, heappush
from math import ceil, inf
from typing import Any

from sim.engine import Engine, Job
from sim.profiles import Profile
from sim.traces import Trace
from sim.world import World
from sim.world_plan import MachinePlan, WorldPlan

HOURS_A_MONTH = 730.0
RUNS_MAX = 200
#: backends of one place
MOST = 32
#: times at which a fleet is looked at that may be too small
_LOOKS = 40
#: requests that do not meet
_APART_S = 3600.0
#: engines differ when a request of this length takes this much longer or shorter
_ALIKE = 0.25
_PROMPT_TOKENS, _OUTPUT_TOKENS = 1000, 200
#: where no price is configured every backend counts the same
_NO_PRICE_USD = 1.0

Counts = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Place:
    """``machines`` are those there today. ``like``: the one of them that planned ones are like."""

    region: str
    models: tuple[str, ...]
    machines: tuple[MachinePlan, ...]

    @property
    def like(self) -> MachinePlan:
        """The middle one by its pace; of two in the middle the slower one."""
        paced = sorted(self.machines, key=lambda m: (_pace_s(m.profile), m.spec.cost_usd_hour, m.spec.name))
        return paced[len(paced) // 2]

    @property
    def now(self) -> int:
        return len(self.machines)

    @property
    def usd_hour(self) -> float:
        return self.like.spec.cost_usd_hour

    @property
    def usd_hour_now(self) -> float:
        """Of all machines; 0: not known, because one of them has no price."""
        prices = [m.spec.cost_usd_hour for m in self.machines]
        return sum(prices) if all(prices) else 0.0

    @property
    def unlike(self) -> list[str]:
        """The names of those that are not as quick or as dear as the one that stands for all."""
        like = self.like
        pace_s, usd = _pace_s(like.profile), like.spec.cost_usd_hour
        return [
            m.spec.name
            for m in self.machines
            if m.spec.cost_usd_hour != usd or abs(_pace_s(m.profile) - pace_s) > _ALIKE * pace_s
        ]


def _pace_s(profile: Profile) -> float:
    """The time of a request of usual length that meets nobody."""
    return profile.intake_s + _PROMPT_TOKENS * profile.prefill_token_s + _OUTPUT_TOKENS * profile.iteration_s


@dataclass(frozen=True, slots=True)
class Target:
    """``percentile`` of 100 requests have their first token within ``ttft_s``; one that fails never has it."""

    ttft_s: float
    percentile: float = 95.0

    def time_of(self, ttfts_s: Sequence[float]) -> float:
        """The time that this share of them does not exceed."""
        return sorted(ttfts_s)[max(0, ceil(self.percentile / 100.0 * len(ttfts_s)) - 1)] if ttfts_s else 0.0


@dataclass(slots=True)
class Found:
    """``time_s`` of the fleet at the target's percentile. ``kept``: within the target. ``proved``: every cheaper fleet
    was played and fails."""

    counts: Counts
    time_s: float
    kept: bool
    proved: bool
    runs: int


@dataclass(slots=True)
class Search:
    """``time_of`` plays a fleet, in full or only until it is certain that it misses the target, which is infinite.
    ``weights``: what a backend of each place costs."""

    time_of: Callable[[Counts, bool], float]
    weights: Sequence[float]
    target_s: float
    most: Sequence[int]
    runs_max: int = RUNS_MAX
    on_run: Callable[[Counts, float], None] | None = None
    known: dict[Counts, float] = field(default_factory=dict)
    _in_full: bool = True

    def run(self) -> Found:
        counts = self._up(tuple(0 for _ in self.weights))
        self._in_full = False
        if self._time(counts) > self.target_s:
            return Found(counts, self._time(counts), False, False, len(self.known))
        counts = self._down(counts)
        cheaper, proved = self._prove(counts)
        best = cheaper if cheaper is not None else counts
        return Found(best, self._time(best), True, proved, len(self.known))

    def cost(self, counts: Counts) -> float:
        return sum(n * weight for n, weight in zip(counts, self.weights, strict=True))

    @property
    def spent(self) -> bool:
        return len(self.known) >= self.runs_max

    def _time(self, counts: Counts) -> float:
        """Infinite for what the runs did not suffice for."""
        if counts not in self.known:
            if self.spent:
                return inf
            self.known[counts] = self.time_of(counts, self._in_full) if any(counts) else inf
            if self.on_run is not None:
                self.on_run(counts, self.known[counts])
        return self.known[counts]

    def _up(self, counts: Counts) -> Counts:
        while self._time(counts) > self.target_s and not self.spent:
            more = [_plus(counts, i, 1) for i in range(len(counts)) if counts[i] < self.most[i]]
            if not more:
                break
            best = min(more, key=lambda c: (self._time(c), self.cost(c), c))
            # As long as nearly nothing is answered nobody can say which one helps: as many again of each.
            counts = best if self._time(best) < inf else self._twice(counts)
        return min(self.known, key=lambda c: (max(self.known[c], self.target_s), self.cost(c), c), default=counts)

    def _twice(self, counts: Counts) -> Counts:
        return tuple(min(max(1, 2 * n), most) for n, most in zip(counts, self.most, strict=True))

    def _down(self, counts: Counts) -> Counts:
        """As cheap as single changes make it."""
        while True:
            fewer = [_plus(counts, i, -1) for i in range(len(counts)) if counts[i]]
            fewer += [
                _plus(less, i, 1)
                for less in list(fewer)
                for i in range(len(counts))
                if less[i] < self.most[i] and self.cost(_plus(less, i, 1)) < self.cost(counts)
            ]
            for other in sorted(dict.fromkeys(fewer), key=lambda c: (self.cost(c), c)):
                if self._time(other) <= self.target_s:
                    counts = other
                    break
            else:
                return counts

    def _prove(self, counts: Counts) -> tuple[Counts | None, bool]:
        """(a cheaper fleet that keeps the target, whether all cheaper ones than the result are known to fail)."""
        for other in self._cheapest_first(self.cost(counts)):
            if other not in self.known and self.spent:
                return None, False
            if self._time(other) <= self.target_s:
                return other, True
        return None, True

    def _cheapest_first(self, below: float) -> Iterator[Counts]:
        """Every fleet that costs less, once each, in order of cost."""
        start = tuple(0 for _ in self.weights)
        heap = [(0.0, start)]
        seen = {start}
        while heap:
            cost, counts = heappop(heap)
            if cost >= below - 1e-9:
                return
            yield counts
            for i in range(len(counts)):
                more = _plus(counts, i, 1)
                if counts[i] < self.most[i] and more not in seen:
                    seen.add(more)
                    heappush(heap, (self.cost(more), more))


def _plus(counts: Counts, i: int, more: int) -> Counts:
    return (*counts[:i], counts[i] + more, *counts[i + 1 :])


def places_of(plan: WorldPlan) -> list[Place]:
    """One for each region and set of models."""
    found: dict[tuple[str, tuple[str, ...]], list[MachinePlan]] = {}
    for m in plan.machines:
        found.setdefault((m.spec.region.name, m.spec.models), []).append(m)
    return [Place(region, models, tuple(members)) for (region, models), members in found.items()]


def fleet_of(plan: WorldPlan, places: Sequence[Place], counts: Counts) -> WorldPlan:
    """The world with that number of backends in each place."""
    machines = [
        replace(place.like, spec=replace(place.like.spec, name=f"{place.region}/{'+'.join(place.models)}-{i}"))
        for place, count in zip(places, counts, strict=True)
        for i in range(count)
    ]
    return replace(plan, machines=tuple(machines), routers=plan.homes)


def _today(plan: WorldPlan, places: Sequence[Place]) -> WorldPlan:
    return replace(plan, machines=tuple(m for place in places for m in place.machines), routers=plan.homes)


def together(places: Sequence[Place]) -> list[list[Place]]:
    """Places that share models, by way of others too, in one list each."""
    groups: list[list[Place]] = []
    for place in places:
        touching = [g for g in groups if any({*place.models} & {*other.models} for other in g)]
        merged = [*(p for g in touching for p in g), place]
        groups = [g for g in groups if g not in touching] + [merged]
    return groups


def plan_fleet(
    plan: WorldPlan,
    trace: Trace,
    target: Target,
    *,
    policy: str = "ttft",
    growth: float = 1.0,
    entry_s: float = 0.0,
    seed: int = 1,
    most: int = MOST,
    runs_max: int = RUNS_MAX,
    on_run: Callable[[str, Counts, float], None] | None = None,
) -> list[dict[str, Any]]:
    """One result for each group of places, as ``router plan --json`` prints them. The same seed gives the same. Where
    no fleet keeps the target ``places`` has the best one, and ``limit`` says why."""
    trace = trace.faster(growth) if growth != 1.0 else trace
    results = []
    for places in together(places_of(plan)):
        models = {m for p in places for m in p.models}
        asked = tuple(a for a in trace.arrivals if not plan.many_models or (a.model or plan.model) in models)
        if not asked:
            results.append(_unasked(places, target))
            continue
        part = replace(trace, arrivals=asked)

        def play(fleet: WorldPlan, in_full: bool, part: Trace = part) -> float:
            within = replace(target, ttft_s=target.ttft_s - entry_s)
            return entry_s + _played_s(fleet, part, policy, seed, within, in_full)

        def time_of(counts: Counts, in_full: bool, places: Sequence[Place] = places, play: Any = play) -> float:
            return float(play(fleet_of(plan, places, counts), in_full))

        weights = [p.usd_hour or _NO_PRICE_USD for p in places]
        name = ", ".join(sorted(models))
        told = None if on_run is None else _teller(on_run, name)
        search = Search(time_of, weights, target.ttft_s, [most] * len(places), runs_max, told)
        found = search.run()
        limit = None if found.kept else _limit(plan, places, part, target, entry_s, search)
        today_s = play(_today(plan, places), True)
        results.append(_result(name, places, found, search, len(asked), target, today_s) | {"limit": limit})
    return results


def _limit(
    plan: WorldPlan, places: Sequence[Place], trace: Trace, target: Target, entry_s: float, search: Search
) -> str:
    """In words: why no fleet that was played keeps the target."""
    alone = _alone_s(plan, places, trace)
    nowhere, alone_s = alone.count(inf), entry_s + target.time_of(alone)
    if alone_s == inf:
        return f"{nowhere} of {len(alone)} requests may go to none of these backends, or are too long for them"
    if alone_s > target.ttft_s:
        return f"a first token that meets nobody takes {alone_s:.2f} s: its way and its prompt, whatever the fleet"
    if search.spent:
        return f"{search.runs_max} fleets were played, which is the most (--runs)"
    return f"there may be no more than {max(search.most)} backends of a model in a region (--most)"


def _alone_s(plan: WorldPlan, places: Sequence[Place], trace: Trace) -> list[float]:
    """The first token of each request where it meets nobody, at the best place; infinite: it may go to none. One engine
    of each place has seen all prompts before it, so no fleet finds more in its caches."""
    engines = [(place, Engine(place.like.profile, block_tokens=trace.block_tokens)) for place in places]
    soonest_s, now_s = [inf] * len(trace.arrivals), 0.0
    for i, a in enumerate(trace.arrivals):
        home, model = plan.home_of(a.region, a.session), (a.model if plan.many_models else "") or plan.model
        for place, engine in engines:
            region, job = place.like.spec.region, Job(a.prompt_tokens, a.output_tokens, a.blocks, a.answer_blocks)
            barred = a.residency is not None and region.jurisdiction not in a.residency
            if barred or model not in place.models or not engine.fits(job):
                continue
            engine.submit(job, now_s)
            while job.ended_s is None:
                engine.advance(engine.next_event_s())
            assert job.first_token_s is not None
            soonest_s[i] = min(soonest_s[i], plan.rtt_s[home, region.name] + job.first_token_s - now_s)
        now_s += _APART_S
    return soonest_s


class _LateError(Exception):
    """More first tokens are late than the target allows: the rest need not be played."""


def _played_s(plan: WorldPlan, trace: Trace, policy: str, seed: int, target: Target, in_full: bool) -> float:
    """The time of the first token at the target's percentile."""
    world = World(plan, policy, block_tokens=trace.block_tokens, seed=seed)
    allowed = len(trace.arrivals) - ceil(target.percentile / 100.0 * len(trace.arrivals))

    def look(world: World, now_s: float) -> None:
        late = sum((now_s - f.started_s if f.ttft_s is None else f.ttft_s) > target.ttft_s for f in world.flows)
        if late > allowed:
            raise _LateError

    looks = [] if in_full else [(i * trace.duration_s / _LOOKS, look) for i in range(1, _LOOKS)]
    try:
        flows = world.run(trace, looks)
    except _LateError:
        return inf
    return target.time_of([f.ttft_s if f.error is None and f.ttft_s is not None else inf for f in flows])


def _teller(on_run: Callable[[str, Counts, float], None], name: str) -> Callable[[Counts, float], None]:
    return lambda counts, time_s: on_run(name, counts, time_s)


def _result(
    name: str,
    places: Sequence[Place],
    found: Found,
    search: Search,
    requests: int,
    target: Target,
    today_s: float,
) -> dict[str, Any]:
    priced = all(p.usd_hour_now for p in places)
    return {
        "models": name,
        "requests": requests,
        "kept": found.kept,
        "proved": found.proved,
        "runs": found.runs,
        "ttft_s": None if found.time_s == inf else found.time_s,
        "ttft_s_today": None if today_s == inf else today_s,
        "target_ttft_s": target.ttft_s,
        "percentile": target.percentile,
        "backends": sum(found.counts),
        "backends_today": sum(p.now for p in places),
        "usd_month": search.cost(found.counts) * HOURS_A_MONTH if priced and found.kept else None,
        "usd_month_today": sum(p.usd_hour_now for p in places) * HOURS_A_MONTH if priced else None,
        "places": [_place(p, n) for p, n in zip(places, found.counts, strict=True)],
    }


def _unasked(places: Sequence[Place], target: Target) -> dict[str, Any]:
    """Nobody asked for these models: the plan leaves their backends as they are."""
    hour = sum(p.usd_hour_now for p in places)
    usd = hour * HOURS_A_MONTH if all(p.usd_hour_now for p in places) else None
    return {
        "models": ", ".join(sorted({m for p in places for m in p.models})),
        "requests": 0,
        "kept": True,
        "proved": False,
        "runs": 0,
        "ttft_s": None,
        "ttft_s_today": None,
        "target_ttft_s": target.ttft_s,
        "percentile": target.percentile,
        "backends": sum(p.now for p in places),
        "backends_today": sum(p.now for p in places),
        "usd_month": usd,
        "usd_month_today": usd,
        "places": [_place(p, p.now) | {"usd_month": p.usd_hour_now * HOURS_A_MONTH or None} for p in places],
        "limit": None,
    }


def _place(place: Place, count: int) -> dict[str, Any]:
    usd = place.usd_hour * HOURS_A_MONTH * count if place.usd_hour else None
    return {
        "region": place.region,
        "models": list(place.models),
        "like": place.like.spec.name,
        "unlike": place.unlike,
        "backends": count,
        "backends_today": place.now,
        "usd_hour": place.usd_hour or None,
        "usd_month": usd,
    }
