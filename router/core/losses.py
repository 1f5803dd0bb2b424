"""Losses: the models and plans that the fleet could not serve without some of its backends.

Only what stands now counts: a backend that is ejected or drained itself replaces nobody, nor does one that fails at
the moment and may be dead: its probe got no answer, or its latest attempts failed. One that sleeps does, and is a loss
itself: a request wakes it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from router.core.backend import Backend


@dataclass(frozen=True, slots=True)
class Losses:
    """Each part is sorted. ``plans``: of plans with a residency, the models that no backend may serve any more."""

    models: tuple[str, ...]
    jurisdictions: tuple[str, ...]
    plans: Mapping[str, tuple[str, ...]]
    inflight: int  # requests there now
    room: int  # free places of the backends that stay

    @property
    def any(self) -> bool:
        """Requests that are served now would be refused, or would have to wait."""
        return bool(self.models or self.jurisdictions or self.plans) or self.inflight > self.room


def losses(
    backends: Iterable[Backend],
    gone: Collection[str],
    residencies: Mapping[str, Collection[str]],
    now_s: float,
) -> Losses:
    """``gone``: names of backends. ``residencies``: the jurisdictions of each plan that has any."""
    usable = [b for b in backends if b.usable(now_s) or _can_be_woken(b)]
    staying = [b for b in usable if b.name not in gone and (b.asleep or not b.doubtful)]
    going = [b for b in usable if b.name in gone]
    plans = {}
    for plan, allowed in residencies.items():
        before = _models(b for b in going if b.jurisdiction in allowed)
        after = _models(b for b in staying if b.jurisdiction in allowed)
        if before - after:
            plans[plan] = tuple(sorted(before - after))
    served = {b.jurisdiction for b in staying}
    return Losses(
        models=tuple(sorted(_models(going) - _models(staying))),
        jurisdictions=tuple(sorted({b.jurisdiction for b in going if b.jurisdiction} - served)),
        plans=dict(sorted(plans.items())),
        inflight=sum(b.inflight for b in going),
        room=sum(max(0, b.max_inflight - b.inflight) for b in staying),
    )


def _can_be_woken(b: Backend) -> bool:
    return b.asleep and not (b.draining or b.unready or b.leaving is not None)


def _models(backends: Iterable[Backend]) -> set[str]:
    return {model for b in backends for model in b.models or ()}
