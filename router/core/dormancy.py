"""Models of which nothing need run: what counts as asleep, where one is woken, and what is known of a wake that fails.

A backend *rests* when it sleeps on purpose: its engine was told to, or was ended; or nobody answers there while nothing
runs of all that it serves, and nothing need run. That is a failure only if nothing can wake it either.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from router.core.backend import Backend
from router.core.candidates import unfit
from router.core.health import State
from router.core.types import RegionSpec, Request

#: Calls that fail in a row before those who wait are sent away, and new ones are until the next call.
TRIES = 5


def is_off(b: Backend) -> bool:
    """It does not run, or is about to end."""
    return b.asleep or b.leaving is not None or _nobody_answers(b)


def _nobody_answers(b: Backend) -> bool:
    return b.health.away or (b.state is State.EJECTED and b.health.down)


def rests(b: Backend, backends: Collection[Backend], dormant: Collection[str], now_s: float) -> bool:
    """It does not run, on purpose. ``backends``: of the whole fleet. ``dormant``: the models of which nothing need run.

    One that does not answer while others of its models run is missed there.
    """
    if b.asleep or not dormant or not _nobody_answers(b):
        return b.asleep
    models = b.models or ()
    if not models or not all(model in dormant for model in models):
        return False
    return not any(other.usable(now_s) and any(map(other.serves, models)) for other in backends)


def unserved(held: Iterable[Request], backends: Collection[Backend], now_s: float) -> list[Request]:
    """The requests that no running backend may take; one for each kind, in their order."""
    running = [b for b in backends if b.usable(now_s) and not b.health.away]
    kinds = {(r.residency, r.pin_region, r.pin_backend): r for r in reversed(list(held))}
    left = {id(r) for r in kinds.values() if all(unfit(b, r) is not None for b in running)}
    return [r for r in reversed(kinds.values()) if id(r) in left]


def region_to_wake(
    wanted: Sequence[Request],
    backends: Collection[Backend],
    places: Collection[RegionSpec],
    home: str | None,
) -> str | None:
    """The region in which a backend is woken for the requests: one that most of them may go to, the nearest of these.

    ``backends``: of the model, without those that somebody has drained. ``places``: regions in which others may turn up
    that nobody knows yet. ``home``: the region of this router; the answer where nothing else is known.
    """
    known: dict[str, tuple[str | None, float]] = {}
    for b in backends:
        rtt_s = 0.0 if b.region == home else b.rtt_s
        _, known_s = known.get(b.region, (None, rtt_s))
        known[b.region] = (b.jurisdiction, min(known_s, rtt_s))
    if not known:
        known = {place.name: (place.jurisdiction, 0.0 if place.name == home else 1.0) for place in places}
    if not known:
        return next((r.pin_region for r in wanted if r.pin_region is not None), home)

    def rank(region: str) -> tuple[int, float, str]:
        jurisdiction, rtt_s = known[region]
        return -sum(_may_go(r, region, jurisdiction) for r in wanted), rtt_s, region

    return min(known, key=rank)


def _may_go(request: Request, region: str, jurisdiction: str | None) -> bool:
    if request.pin_region is not None and request.pin_region != region:
        return False
    return request.residency is None or jurisdiction in request.residency


@dataclass(frozen=True, slots=True)
class Hindrance:
    """Why a model cannot be woken. ``why`` is for operators, ``told`` for clients. ``again_s``: the next call."""

    why: str
    told: str
    since_s: float
    again_s: float
    tries: int = 1

    def refuses(self, now_s: float) -> bool:
        """Requests are not held: ``TRIES`` calls or more have failed, and the next one is not due."""
        return self.tries >= TRIES and now_s < self.again_s

    def wait_s(self, takes_s: float, now_s: float) -> float:
        """How long it takes until a backend runs, if the next call succeeds."""
        return max(0.0, self.again_s - now_s) + takes_s
