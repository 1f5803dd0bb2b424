"""Why a decision was made: the candidates as they stood, and what it would have taken for another to win."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, overload

from router.core.backend import Backend
from router.core.candidates import Strike
from router.core.decisions import Candidate, Decision, Dispatch, Reject, Wait
from router.core.policy.base import Ranking


class Candidates(Sequence[Candidate]):
    """All backends at the moment of a decision: the ranked ones, best first, then those that were struck.

    Made on first reading. Until then it holds references only: to the backends for their names, and to quotes and costs
    that are never altered.
    """

    __slots__ = ("_made", "_ranked", "_ranking", "_struck")

    def __init__(self, ranked: Sequence[Backend], ranking: Ranking | None, struck: Sequence[Strike]) -> None:
        self._ranked = ranked
        self._ranking = ranking
        self._struck = struck
        self._made: tuple[Candidate, ...] | None = None

    def _all(self) -> tuple[Candidate, ...]:
        if self._made is None:
            made: list[Candidate] = []
            ranking = self._ranking
            if ranking is not None:
                for i in sorted(range(len(self._ranked)), key=ranking.costs.__getitem__):
                    terms = ranking.render(ranking.detail, i)
                    made.append(Candidate(self._ranked[i].name, ranking.costs[i], terms, None))
            made.extend(Candidate(name, None, (), struck) for name, struck in self._struck)
            self._made = tuple(made)
        return self._made

    @overload
    def __getitem__(self, index: int) -> Candidate: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Candidate, ...]: ...
    def __getitem__(self, index: int | slice) -> Candidate | tuple[Candidate, ...]:
        return self._all()[index]

    def __len__(self) -> int:
        return len(self._struck) + (len(self._ranked) if self._ranking is not None else 0)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Candidates | tuple):
            return self._all() == tuple(other)
        return NotImplemented

    __hash__ = None  # type: ignore[assignment]

    @property
    def reason(self) -> str | None:
        """The rule that decided among the ranked ones; None if nobody was ranked."""
        return self._ranking.reason if self._ranking is not None else None

    def __repr__(self) -> str:
        return f"Candidates{self._all()!r}"


def explain(decision: Decision) -> dict[str, Any]:
    """A decision as plain values, ready for JSON.

    Each candidate has its cost, the terms of it, whether it was chosen, why it was struck, and ``behind_s``: how much
    less it would have to cost to be the cheapest (0 for the cheapest). ``terms_behind`` names the terms in which it
    loses against the chosen one, the worst first. ``to_win`` is what would have to change: see ``changes_to_win``.
    """
    chosen = decision.lease.backend if isinstance(decision, Dispatch) else None
    body = explain_choice(decision.candidates, chosen)
    if isinstance(decision, Dispatch):
        body |= {
            "kind": "dispatch",
            "policy": decision.policy,
            "backend": chosen,
            "reason": decision.reason,
            "predicted_ttft_s": decision.lease.predicted_ttft_s,
        }
    elif isinstance(decision, Wait):
        body |= {
            "kind": "wait",
            "reason": decision.reason,
            "until_s": _finite(decision.until_s),
            "again_s": _finite(decision.again_s),
        }
    else:
        body |= _reject(decision)
    return body


def explain_choice(candidates: Sequence[Candidate], chosen: str | None) -> dict[str, Any]:
    """The candidates of a decision beside the one that was ``chosen``; with one, by how much less it costs than the
    next."""
    costs = {c.backend: c.cost_s for c in candidates if c.cost_s is not None}
    best = min(costs.values(), default=0.0)
    chosen_terms = next((dict(c.terms) for c in candidates if c.backend == chosen), {})
    body: dict[str, Any] = {"candidates": [_candidate(c, chosen, best, chosen_terms) for c in candidates]}
    if chosen is not None:
        others = [cost for name, cost in costs.items() if name != chosen]
        body["margin_s"] = _finite(min(others) - costs[chosen]) if others and chosen in costs else None
    return body


def _reject(decision: Reject) -> dict[str, Any]:
    return {
        "kind": "reject",
        "reason": decision.reason.value,
        "detail": decision.detail,
        "retry_after_s": decision.retry_after_s,
    }


def _candidate(c: Candidate, chosen: str | None, best: float, chosen_terms: dict[str, float]) -> dict[str, Any]:
    terms = dict(c.terms)
    worse = {name: value - chosen_terms.get(name, 0.0) for name, value in terms.items()} if c.backend != chosen else {}
    worst_first = sorted((name for name, gap in worse.items() if gap > 0.0), key=lambda name: -worse[name])
    return {
        "backend": c.backend,
        "chosen": c.backend == chosen,
        "cost_s": None if c.cost_s is None else _finite(c.cost_s),
        "terms": terms,
        "struck": None if c.struck is None else c.struck.value,
        "behind_s": None if c.cost_s is None else _finite(c.cost_s - best),
        "terms_behind": {name: worse[name] for name in worst_first},
        "to_win": {} if c.backend == chosen else changes_to_win(terms, chosen_terms),
    }


def changes_to_win(terms: Mapping[str, float], chosen_terms: Mapping[str, float]) -> dict[str, float]:
    """By how much which terms of a candidate would have to be smaller for it to cost no more than the chosen one.

    The term that lost most comes first, down to what the chosen one has, and further ones only if that is not enough:
    ``{"queue": 0.12}`` is 0.12 s less queue. Empty when it costs no more already: then preference or chance decided.
    """
    missing = sum(terms.values()) - sum(chosen_terms.values())
    gaps = {name: value - chosen_terms.get(name, 0.0) for name, value in terms.items()}
    changes: dict[str, float] = {}
    for name in sorted(gaps, key=lambda name: -gaps[name]):
        if missing <= 0.0 or gaps[name] <= 0.0:
            break
        changes[name] = min(gaps[name], missing)
        missing -= gaps[name]
    return changes


def _finite(value: float) -> float | None:
    """JSON has no infinity."""
    return value if abs(value) != float("inf") and value == value else None
