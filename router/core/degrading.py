"""Whether a new request gets a smaller variant of its model, because the model itself is overloaded everywhere.

``Degrading`` remembers for each model, and for each set of places that requests may go to, whether it is *strained*:
the first token that is predicted for a request of usual length is over the target at every backend. That begins at
once. It ends when every prediction has been well below the target for ``degrade_hold_s``; a model that is strained
again soon after has to be calm for twice as long the next time, so that load which only the variants take away does not
go to and fro.

While it is strained a new request goes to the first variant that keeps the target, else to the quickest, unless the
model itself would be as quick, or has room: its first token is predicted well within the target. So its backends stay
busy, and no more requests get a variant than have to. A conversation whose beginning a backend of the model knows stays
there as long as its first token keeps the target, or comes no later than the variant's, which has to compute that
beginning again: that is the price.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from math import inf
from typing import NamedTuple

from router.core.backend import Backend
from router.core.candidates import unfit
from router.core.cost import predicted_ttft_s
from router.core.fleet import Fleet
from router.core.params import Params
from router.core.types import Request
from router.words import plural

#: Sets of places per router; the one that was asked for the longest time ago is forgotten.
_STRAINS_MAX = 256


@dataclass(frozen=True, slots=True)
class Smaller:
    """The configuration of a model: its ``variants``, the preferred one first, and the first token that is too late."""

    model: str
    variants: tuple[str, ...]
    target_s: float


@dataclass(frozen=True, slots=True)
class Variant:
    """The answer: ``model`` instead of ``instead_of``, whose first token is predicted after ``own_s`` at the earliest,
    with a target of ``target_s``. ``predicted_s``: that of the variant."""

    model: str
    instead_of: str
    own_s: float
    predicted_s: float
    target_s: float

    def __str__(self) -> str:
        other = f"that of {self.model} after {self.predicted_s:.2f} s"
        return f"{self.instead_of} is overloaded: {_late(self.own_s)}, {other}, and {self.target_s:g} s is the target"

    def before(self, models: tuple[str, ...]) -> tuple[str, ...]:
        """``models`` to try in order, with this one first: while the variant has no place the model may have one."""
        return (self.model, *models)


class Places(NamedTuple):
    """A model, and where requests for it may go."""

    model: str
    residency: frozenset[str] | None
    pin_region: str | None

    @property
    def words(self) -> str:
        """Empty: anywhere."""
        if self.pin_region is not None:
            return f"for requests that are pinned to {self.pin_region}"
        if self.residency is not None:
            return f"for requests that may only go to {', '.join(sorted(self.residency)) or 'nowhere'}"
        return ""

    def contain(self, b: Backend) -> bool:
        if self.pin_region is not None and b.region != self.pin_region:
            return False
        return b.serves(self.model) and (self.residency is None or b.jurisdiction in self.residency)


class Swing(NamedTuple):
    """A model has become strained somewhere, or is not any more."""

    places: Places
    strained: bool
    why: str


class Strain:
    """One model in one set of places. ``look`` whenever a request for it comes. ``why``: it began, or ended at last;
    ``given``: how many requests have got a variant since it began."""

    __slots__ = ("_calm_since_s", "_ended_s", "_hold_s", "_looked_s", "_params", "given", "on", "since_s", "why")

    def __init__(self, params: Params) -> None:
        self._params = params
        self.on = False
        self.since_s = -inf
        self.why = ""
        self.given = 0
        self._looked_s = self._ended_s = -inf
        self._calm_since_s: float | None = None
        self._hold_s = params.degrade_hold_s

    def look(self, predicted_s: float, target_s: float, now_s: float) -> bool:
        """Take a prediction. Returns whether the model is strained."""
        if self.on and now_s - self._looked_s >= self._hold_s:
            self._end(now_s, self._unasked)
        self._looked_s = now_s
        if not self.on:
            if predicted_s > target_s:
                self._begin(predicted_s, target_s, now_s)
        elif predicted_s > self._params.degrade_back_ratio * target_s:
            self._calm_since_s = None
        elif self._calm_since_s is None:
            self._calm_since_s = now_s
        elif now_s - self._calm_since_s >= self._hold_s:
            ratio = self._params.degrade_back_ratio
            self._end(now_s, f"predicted below {ratio:.0%} of the target of {target_s:g} s for {self._hold_s:g} s")
        return self.on

    def stands(self, now_s: float) -> bool:
        """Whether it is strained as far as is known."""
        return self.on and now_s - self._looked_s < self._hold_s

    @property
    def _unasked(self) -> str:
        return f"nobody has asked for it for {self._hold_s:g} s"

    def ended_why(self) -> str:
        """Why it does not stand any more."""
        why = self._unasked if self.on else self.why
        return f"{why}; {plural(self.given, 'request')} got a smaller variant"

    def _begin(self, predicted_s: float, target_s: float, now_s: float) -> None:
        params = self._params
        soon = now_s - self._ended_s < 2.0 * self._hold_s
        self._hold_s = min(2.0 * self._hold_s, params.degrade_hold_max_s) if soon else params.degrade_hold_s
        self.on, self.since_s, self._calm_since_s = True, now_s, None
        self.why = f"{_late(predicted_s)}, and {target_s:g} s is the target"
        self.given = 0

    def _end(self, now_s: float, why: str) -> None:
        self.on, self._ended_s, self._calm_since_s, self.why = False, now_s, None, why


class Degrading:
    """Of one router."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._strains: dict[Places, Strain] = {}
        #: those that were told to be strained
        self._told: dict[Places, Strain] = {}
        #: the mean length of prompts, by model
        self._usual: dict[str, float] = {}
        #: requests that were given a variant, by model and variant
        self.counts: Counter[tuple[str, str]] = Counter()

    def choose(self, request: Request, rule: Smaller, now_s: float, *, dry_run: bool = False) -> Variant | None:
        """The variant that answers ``request`` for the model; None: the model does. A dry run changes nothing."""
        model, target_s = rule.model, rule.target_s
        if not any(b.usable(now_s) for b in self._fitting(request, model)):
            return None  # it is woken, or another model answers in its place
        strain = self._strain(request, model, dry_run)
        usual = self._usual_tokens(request, model, dry_run)
        typical_s = self._soonest_s(request, model, usual, now_s)
        strained = strain.stands(now_s) or typical_s > target_s if dry_run else strain.look(typical_s, target_s, now_s)
        if not strained or typical_s <= self._fleet.params.degrade_room_ratio * target_s:
            return None
        own_s, known = self._own_s(request, model, now_s)
        if known and own_s <= target_s:
            return None
        found = self._best(request, model, rule.variants, own_s, target_s, now_s)
        if found is not None and not dry_run:
            self.counts[model, found.model] += 1
            strain.given += 1
        return found

    def strained(self, now_s: float, at: Backend | None = None) -> dict[str, float]:
        """The models that are strained somewhere, or for requests that may go to one backend -> since when."""
        found: dict[str, float] = {}
        for places, strain in self._strains.items():
            if strain.stands(now_s) and (at is None or places.contain(at)):
                found[places.model] = min(strain.since_s, found.get(places.model, inf))
        return found

    def take_swings(self, now_s: float) -> list[Swing]:
        """The strains that began or ended since this was asked last."""
        swings = []
        for places, strain in list(self._told.items()):
            if not strain.stands(now_s) or self._strains.get(places) is not strain:
                del self._told[places]
                swings.append(Swing(places, False, strain.ended_why()))
        for places, strain in self._strains.items():
            if strain.stands(now_s) and places not in self._told:
                self._told[places] = strain
                swings.append(Swing(places, True, strain.why))
        return swings

    def _strain(self, request: Request, model: str, dry_run: bool) -> Strain:
        places = Places(model, request.residency, request.pin_region)
        strain = self._strains.pop(places, None) if not dry_run else self._strains.get(places)
        if strain is None:
            strain = Strain(self._fleet.params)
        if not dry_run:
            self._strains[places] = strain  # the one that was asked for last is the last
            if len(self._strains) > _STRAINS_MAX:
                del self._strains[next(iter(self._strains))]
        return strain

    def _usual_tokens(self, request: Request, model: str, dry_run: bool) -> float:
        """The length of this prompt, but no more than is usual: one long prompt strains nothing."""
        usual = self._usual.get(model, float(request.prompt_tokens))
        if not dry_run:
            self._usual[model] = usual + self._fleet.params.degrade_usual_weight * (request.prompt_tokens - usual)
        return min(usual, float(request.prompt_tokens))

    def _best(
        self, request: Request, model: str, variants: Sequence[str], own_s: float, target_s: float, now_s: float
    ) -> Variant | None:
        quickest: Variant | None = None
        for name in variants:
            predicted_s = self._own_s(request, name, now_s)[0]
            if predicted_s < (own_s if quickest is None else quickest.predicted_s):
                quickest = Variant(name, model, own_s, predicted_s, target_s)
                if predicted_s <= target_s:
                    break
        return quickest

    def _own_s(self, request: Request, model: str, now_s: float) -> tuple[float, bool]:
        """(the soonest first token of this very prompt, whether a backend of the model knows most of it)."""
        soonest_s, known = inf, False
        for b in self._open(request, model, now_s):
            cached = b.prefix.cached_tokens(request) if request.prefix_blocks else 0.0
            known = known or cached > self._fleet.params.degrade_known_ratio * request.prompt_tokens
            soonest_s = min(soonest_s, _predicted_s(b, model, request.prompt_tokens, request.prompt_tokens - cached))
        return soonest_s, known

    def _soonest_s(self, request: Request, model: str, tokens: float, now_s: float) -> float:
        """The soonest first token of a prompt of which nobody knows anything."""
        return min((_predicted_s(b, model, tokens, tokens) for b in self._open(request, model, now_s)), default=inf)

    def _open(self, request: Request, model: str, now_s: float) -> Collection[Backend]:
        """The backends of ``model`` that would take the request now."""
        return [b for b in self._fitting(request, model) if b.usable(now_s) and b.inflight < b.capacity.limit]

    def _fitting(self, request: Request, model: str) -> Iterator[Backend]:
        for b in self._fleet.backends.values():
            if b.serves(model) and not b.health.away and unfit(b, request) is None:
                yield b


def _late(predicted_s: float) -> str:
    if predicted_s == inf:
        return "every backend of it is full"
    return f"its first token was predicted after {predicted_s:.2f} s at the soonest"


def _predicted_s(b: Backend, model: str, tokens: float, uncached: float) -> float:
    """One that was never asked for the model is idle, as far as it is concerned."""
    lane = b.lanes.get(model)
    return 0.0 if lane is None else predicted_ttft_s(lane.ahead, tokens, uncached)
