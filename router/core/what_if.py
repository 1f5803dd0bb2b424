"""What if: a decision taken again as if some backends were gone, others were there, or more were asked.

It works on the candidates of a decision alone, as they are kept beside a request or explained now: nothing of the fleet
is read or altered. The costs of those that are left stay as they were. A backend that is only thought of is like
another one, idle, and with none of the prompt in its cache. More traffic multiplies the terms that come from others.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from router.core.decisions import Candidate, RejectReason, Struck
from router.core.explain import explain_choice
from router.core.params import Params
from router.core.suggest import no_such

#: terms of a cost that come from other requests, which a backend that is idle does not have
_OF_OTHERS = ("queue", "pressure", "toll")
#: terms that make the predicted first token
_FIRST_TOKEN = ("rtt", "overhead", "queue", "prefill", "pressure", "residual")
#: a request waits for these to pass
_PASSING = frozenset({Struck.SATURATED, Struck.PROBATION, Struck.NOT_BEFORE, Struck.ASLEEP})


@dataclass(frozen=True, slots=True)
class WhatIf:
    """``without``: names of backends or regions. ``add``: (a backend that is thought of, the one it is like).
    ``scale``: how many times as many requests there are."""

    without: tuple[str, ...] = ()
    add: tuple[tuple[str, str], ...] = ()
    scale: float = 1.0

    def __bool__(self) -> bool:
        return bool(self.without or self.add or self.scale != 1.0)

    def takes(self, backend: str) -> bool:
        """Whether ``backend`` is gone."""
        return backend in self.without or region_of(backend) in self.without

    def words(self) -> str:
        """``without eu-central, with us-east/d like us-east/a, 2 times the requests``"""
        parts = [f"without {name}" for name in self.without]
        parts += [f"with {new} like {like}" for new, like in self.add]
        parts += [f"{self.scale:g} times the requests"] if self.scale != 1.0 else []
        return ", ".join(parts)

    def problem(self, backends: Collection[str]) -> tuple[str, str] | None:
        """Its first mistake where ``backends`` are: (the part, in words). None: it has none."""
        known = {*backends, *map(region_of, backends)}
        for name in self.without:
            if name not in known:
                return "without", no_such("backend or region", name, known)
        seen = set(backends)
        for new, like in self.add:
            if like not in backends:
                return "add", no_such("backend", like, backends)
            if new in seen:
                return "add", f"There is a backend {new!r} already."
            if region_of(new) not in map(region_of, backends) or not new.partition("/")[2]:
                places = ", ".join(sorted(set(map(region_of, backends))))
                return "add", f"{new!r} must be REGION/NAME in a region that is there: {places}."
            seen.add(new)
        if not 0.01 <= self.scale <= 1000.0:
            return "scale", "scale must be a number from 0.01 to 1000."
        return None


def region_of(backend: str) -> str:
    return backend.partition("/")[0]


def added(words: Iterable[str]) -> tuple[tuple[str, str], ...]:
    """``NEW=LIKE`` as people write it. Raises ValueError with what is wrong."""
    pairs = []
    for text in words:
        new, equals, like = text.partition("=")
        if not (new and equals and like):
            raise ValueError(f"{text!r} must be NEW=LIKE, for example us-east/d=us-east/a.")
        pairs.append((new, like))
    return tuple(pairs)


def decide_again(candidates: Sequence[Mapping[str, Any]], what: WhatIf, params: Params) -> dict[str, Any]:
    """The decision with ``what``, in the shape of ``explain``. ``candidates`` are those of the decision as documents:
    backend, cost, terms, whether it was chosen, and why it was struck.

    Without a cost to compare, as with a policy that draws lots, the first that may be sent requests stands for all.
    """
    was = next((c["backend"] for c in candidates if c.get("chosen")), None)
    known = [_candidate(c) for c in candidates]
    twins = [_twin(new, like, known) for new, like in what.add]
    left = [_scaled(c, what.scale) for c in known if not what.takes(c.backend)]
    left += [c for c in twins if not what.takes(c.backend)]
    open_ = [c for c in left if c.struck is None] or [c for c in left if c.struck is Struck.FAILING]
    if not open_:
        return explain_choice(left, None) | _nowhere(left)
    costs = [_cost(c) for c in open_]
    best = min(costs)
    chosen = open_[costs.index(best)]
    kept = next((c for c in open_ if c.backend == was), None)
    reason = "lowest cost of those that are left"
    if best == float("inf"):
        chosen, reason = kept or open_[0], "no cost is known: chance decides among those that are left"
    elif kept is not None and (_cost(kept) <= _near(best, params) or (not what.add and what.scale == 1.0)):
        chosen, reason = kept, "as before"
    predicted_s = sum(v for name, v in chosen.terms if name in _FIRST_TOKEN) if dict(chosen.terms).get("rtt") else None
    return explain_choice(left, chosen.backend) | {
        "kind": "dispatch",
        "backend": chosen.backend,
        "reason": reason,
        "predicted_ttft_s": predicted_s,
        "was": was,
        "worse_s": _worse(known, was, chosen),
    }


def _candidate(document: Mapping[str, Any]) -> Candidate:
    cost_s, struck = document["cost_s"], document["struck"]
    terms = tuple((str(name), float(value)) for name, value in document["terms"].items())
    return Candidate(document["backend"], cost_s, terms, None if struck is None else Struck(struck))


def _cost(candidate: Candidate) -> float:
    return float("inf") if candidate.cost_s is None else candidate.cost_s


def _near(best: float, params: Params) -> float:
    """A cost up to which nobody moves for the difference, see ``policy/ttft``."""
    return best + max(params.hysteresis_s, abs(best) * params.hysteresis_ratio)


def _with_terms(candidate: Candidate, name: str, terms: dict[str, float]) -> Candidate:
    """The same candidate with other terms: its cost changes by as much as they do."""
    if candidate.cost_s is None:
        return candidate._replace(backend=name)
    cost_s = candidate.cost_s + sum(terms.values()) - sum(value for _, value in candidate.terms)
    return candidate._replace(backend=name, cost_s=cost_s, terms=tuple(terms.items()))


def _scaled(candidate: Candidate, factor: float) -> Candidate:
    terms = {name: value * factor if name in _OF_OTHERS else value for name, value in candidate.terms}
    return _with_terms(candidate, candidate.backend, terms) if factor != 1.0 else candidate


def _twin(new: str, like: str, candidates: Sequence[Candidate]) -> Candidate:
    """A backend like ``like``: idle, and with as little of the prompt in its cache as any candidate."""
    found = next(c for c in candidates if c.backend == like)
    if found.struck in (Struck.RESIDENCY, Struck.PIN, Struck.MODEL, Struck.KEPT):
        return found._replace(backend=new)  # what rules its twin out rules it out, too
    least = max((dict(c.terms).get("prefill", 0.0) for c in candidates), default=0.0)
    terms = {name: 0.0 if name in (*_OF_OTHERS, "residual") else value for name, value in found.terms}
    if "prefill" in terms:
        terms["prefill"] = max(terms["prefill"], least)
    return _with_terms(found, new, terms)._replace(struck=None)


def _nowhere(left: Sequence[Candidate]) -> dict[str, Any]:
    if any(c.struck in _PASSING for c in left):
        return {"kind": "wait", "reason": "every backend that is left is full or on its way back", "backend": None}
    bound = any(c.struck is Struck.RESIDENCY for c in left)
    reason = RejectReason.RESIDENCY if bound else RejectReason.NO_BACKEND
    detail = "No backend that is left may answer it" + (" in the jurisdictions it is bound to." if bound else ".")
    return {"kind": "reject", "reason": reason.value, "detail": detail, "retry_after_s": None, "backend": None}


def _worse(known: Sequence[Candidate], was: str | None, chosen: Candidate) -> float | None:
    """By how much the new choice costs more than the old one did."""
    before = next((c.cost_s for c in known if c.backend == was), None)
    if before is None or chosen.cost_s is None or abs(before) == float("inf"):
        return None
    return chosen.cost_s - before
