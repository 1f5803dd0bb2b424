"""Who may take a request, and why the others may not: the filters that come before any score.

Two steps. ``sort_out`` looks at a model's backends and is done again only when one of them has changed. ``strike``
looks at one request and is skipped when nothing about the request or the backends calls for it.
"""

from __future__ import annotations

from collections.abc import Collection

from router.core.backend import Backend
from router.core.decisions import Struck
from router.core.health import State
from router.core.lane import Lineup
from router.core.params import Params
from router.core.types import Request, Rng

#: a backend's name and why it is not a candidate
Strike = tuple[str, Struck]


class Roster:
    """The backends of one model, sorted out for one generation of the fleet."""

    __slots__ = ("down", "generation", "panic", "plain", "ready", "struck")

    def __init__(self, generation: int) -> None:
        self.generation = generation
        self.ready = Lineup()
        self.struck: tuple[Strike, ...] = ()
        #: ejected ones, for when nothing else is left
        self.down: tuple[Backend, ...] = ()
        #: ``ready`` has backends, and none is in probation, in its slow start or in doubt
        self.plain = False
        #: ready ones were so few that judgement is ignored
        self.panic = False


def sort_out(backends: Collection[Backend], model: str, params: Params, generation: int, now_s: float) -> Roster:
    """List the backends of ``model`` that may be used at all, and why the others may not. Each has a lane for it.

    Panic: when fewer than ``panic_ratio`` of them are left, those that were ejected by judgement are used again. Those
    that are certainly down are not.
    """
    ready: list[Backend] = []
    ejected: list[Backend] = []
    struck: list[Strike] = []
    spare = any(b.serves(model) and not b.denials.holds(model) for b in backends)
    for b in backends:
        if not b.serves(model):
            struck.append((b.name, Struck.MODEL))
        elif spare and b.denials.holds(model):
            struck.append((b.name, Struck.DENIED))
        elif b.draining:
            struck.append((b.name, Struck.DRAINING))
        elif b.asleep:
            struck.append((b.name, Struck.ASLEEP))
        elif b.leaving is not None:
            struck.append((b.name, Struck.LEAVING))
        elif b.unready:
            struck.append((b.name, Struck.NOT_READY))
        elif b.burning_in_since_s is not None:
            struck.append((b.name, Struck.BURNING_IN))
        elif now_s < b.capacity.not_before_s:  # holds for one that is ejected and tried all the same, too
            struck.append((b.name, Struck.NOT_BEFORE))
        elif b.state is State.EJECTED:
            ejected.append(b)
        else:
            ready.append(b)
    roster = Roster(generation)
    if ejected and len(ready) < params.panic_ratio * (len(ready) + len(ejected)):
        judged = [b for b in ejected if not b.health.down]
        roster.panic = bool(judged)
        ready += judged
        ejected = [b for b in ejected if b.health.down]
    struck += [(b.name, Struck.EJECTED) for b in ejected]
    roster.ready, roster.struck, roster.down = Lineup.of(ready, model), tuple(struck), tuple(ejected)
    served = (State.HEALTHY, State.SUSPECT)
    steady = [b.state in served and b.health.share(now_s) == 1.0 and not b.doubtful for b in ready]
    roster.plain = bool(steady) and all(steady)
    return roster


def strike(
    roster: Roster,
    request: Request,
    exclude: Collection[str],
    params: Params,
    rng: Rng,
    now_s: float,
    shunned: Collection[str] = (),
) -> tuple[list[Backend], list[Strike]]:
    """Strike the backends that do not fit ``request`` now. The others may take it."""
    kept: list[Backend] = []
    struck = list(roster.struck)
    full = False
    for b in roster.ready:
        why = unfit(b, request, exclude, shunned)
        if why is None and not request.light:
            if b.inflight >= b.capacity.limit:
                why = Struck.SATURATED
            elif b.state is State.PROBATION and len(b.trials) >= params.trial_places:
                why = Struck.PROBATION
            full = full or why is not None
        if why is None:
            kept.append(b)
        else:
            struck.append((b.name, why))
    if kept and not roster.plain:
        kept = _put_last(kept, struck, params, now_s, retry=bool(exclude))
        _hold_back(kept, struck, rng, now_s)
    elif not kept and not full:
        # Nothing is left to lose: an ejected backend may be back, and a failed try is invisible to the client.
        kept = [
            b
            for b in roster.down
            if unfit(b, request, exclude, shunned) is None
            and len(b.trials) < params.trial_places
            and b.inflight < b.capacity.limit
        ]
        names = {b.name for b in kept}
        struck = [entry for entry in struck if entry[0] not in names]
    return kept, struck


def comes_last(b: Backend, params: Params, now_s: float, *, retry: bool) -> bool:
    """It failed lately, or its probe fails and nothing comes, or never has: others are preferred. A retry is not a
    trial."""
    health = b.health
    if health.state is State.EJECTED and not health.gray:  # used in panic only
        return True
    if retry and health.state is State.PROBATION:
        return True
    unanswered = b.requests_total - b.answered_total
    unheard = not b.answered_total and b.rtt.mean_s is None
    silent = health.last_probe_ok is False and (unheard or unanswered >= params.trial_places)
    return b.reputation.comes_last(now_s, silent=silent, retry=retry)


def _put_last(kept: list[Backend], struck: list[Strike], params: Params, now_s: float, *, retry: bool) -> list[Backend]:
    """Those that failed lately come last: without them, if others are left. A retry does not go there at all: when all
    fail, trying again only multiplies the load."""
    last = {b for b in kept if comes_last(b, params, now_s, retry=retry)}
    if not last or (len(last) == len(kept) and not retry):
        return kept
    if len(last) == len(kept):
        last = {b for b in kept if comes_last(b, params, now_s, retry=False)}
    struck += [(b.name, Struck.FAILING) for b in kept if b in last]
    return [b for b in kept if b not in last]


def _hold_back(kept: list[Backend], struck: list[Strike], rng: Rng, now_s: float) -> None:
    """Slow start: a backend that is new or back takes part in a share of the decisions, or if it is the only one. A new
    one takes part in all of them until its first request, which shows whether it serves."""
    for b in list(kept):
        share = b.health.share(now_s) if b.requests_total else 1.0
        if share < 1.0 and rng.random() >= share and len(kept) > 1:
            kept.remove(b)
            struck.append((b.name, Struck.PROBATION))


def unfit(b: Backend, request: Request, exclude: Collection[str] = (), shunned: Collection[str] = ()) -> Struck | None:
    """Why the request itself rules ``b`` out, whatever its state. None if it does not. ``exclude``: where it was;
    ``shunned``: where it does not go as long as others are left."""
    if request.residency is not None and b.jurisdiction not in request.residency:
        return Struck.RESIDENCY
    if request.pin_region is not None and b.region != request.pin_region:
        return Struck.PIN
    if request.pin_backend is not None and b.name != request.pin_backend:
        return Struck.KEPT
    if request.continues > b.continues:
        return Struck.CONTINUES
    if b.name in exclude:
        return Struck.TRIED
    return Struck.SHUNNED if b.name in shunned else None


def who_serves(backends: Collection[Backend], model: str) -> tuple[Backend, ...]:
    """Those that list ``model``, without those that deny it unless all do."""
    listed = tuple(b for b in backends if b.serves(model))
    return tuple(b for b in listed if not b.denials.holds(model)) or listed


def may_answer(backends: Collection[Backend], request: Request, model: str) -> list[Backend]:
    """Those that may answer ``request`` with ``model``, at once or after a wait. Those that get nothing new count only
    where no others are left: they may be back by then."""
    serving = who_serves(backends, model) or tuple(b for b in backends if b.models is None)
    fit = [b for b in serving if unfit(b, request) is None]
    return [b for b in fit if not b.withdrawn and b.burning_in_since_s is None] or fit


def may_yet_be_told(backends: Collection[Backend], params: Params, now_s: float) -> bool:
    """Whether a model that nobody lists may be one of a backend that has never listed any.

    Not for ever: one backend that is gone would make every misspelt name worth waiting for. But as long as no backend
    at all has told its models, nobody can say that a name is wrong.
    """
    silent = [b for b in backends if b.models is None]
    if silent and len(silent) == len(backends):
        return True
    return any(now_s - b.born_s < params.models_unknown_s for b in silent)


def doing_better(b: Backend, request: Request, exclude: Collection[str], params: Params) -> bool:
    """Whether a retry of ``request`` may hope for ``b``: it can be asked, now or after the moment that it asked for,
    and does not fail most of what it gets."""
    open_ = not b.withdrawn and b.burning_in_since_s is None and b.state is not State.EJECTED
    return open_ and unfit(b, request, exclude) is None and b.reputation.failure_chance < params.retry_hope_chance


def next_return_s(backends: Collection[Backend], params: Params, now_s: float) -> float:
    """End the denials whose time is over. Returns when next a backend may get requests again, or more of them."""
    times_s: list[float] = []
    for b in backends:
        b.denials.expire(now_s)
        times_s += (b.capacity.not_before_s, b.denials.due_s(), b.health.welcome_s + params.slow_start_s)
    return min((time_s for time_s in times_s if time_s > now_s), default=float("inf"))
