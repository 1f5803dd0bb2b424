"""How the backends of a model in a region stand: what they are asked, and which of them are saturated or starved.

Read off the hot path: everything here is made of what decisions have learned anyway. A backend that serves several
models is asked for all of them, so its whole load counts for each.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from math import inf
from statistics import fmean

from router.core.backend import Backend
from router.core.common import Common
from router.core.health import State
from router.core.lane import Lane
from router.core.needed import Asked
from router.core.params import Params
from router.words import plural

#: nobody is starved where requests come more seldom than this
_BUSY_PER_S = 0.2


@dataclass(frozen=True, slots=True)
class BackendStanding:
    """One backend. ``state``: ``saturated``, ``starved``, ``idle``, ``working`` or ``away``; ``reason`` in words."""

    backend: str
    state: str
    reason: str
    #: requests per second, those of other routers included
    per_s: float
    inflight: float
    #: the share of the time that its prefill takes
    busy_ratio: float
    cost_usd_hour: float


def asked_of(
    backends: Collection[Backend], model: str, waiting: float, common: Common, params: Params, now_s: float
) -> Asked:
    """The demand on the backends of ``model`` in one region. ``waiting``: requests in routers' queues."""
    usable = [b for b in backends if b.usable(now_s)]
    able = [(b, lane) for b in usable if (lane := b.lanes.get(model)) is not None]
    if not able:
        line = common.line(model)
        tokens = params.prior_spread_tokens
        work_s = tokens * line.token_s
        return Asked(
            backends=len(usable),
            work_s=work_s,
            work_square=work_s * work_s,
            base_s=line.overhead_s,
            busy_s=line.busy_s,
            answer_s=params.service_prior_s,
            waiting=waiting,
        )
    demands = [b.service.demand(lane.fit.line, b.others_inflight) for b, lane in able]
    per_s = sum(rate for rate, _ in demands)
    inflight = sum(b.inflight + b.others_inflight for b, _ in able)
    work_s, work_square = _work(able, per_s, sum(work for _, work in demands), params)
    each_s = fmean([b.service.expected_tokens * b.service.itl_busy_s for b, _ in able])
    loads = [load.kv_ratio for b, _ in able if (load := b.others.fresh_load(now_s)) is not None and load.kv_ratio]
    return Asked(
        backends=len(usable),
        per_s=per_s,
        work_s=work_s,
        work_square=work_square,
        base_s=fmean([_base_s(b, lane, params) for b, lane in able]),
        busy_s=fmean([lane.fit.line.busy_s for _, lane in able]),
        answer_s=max(params.service_min_s, fmean([b.service.mean_s for b, _ in able]) - each_s * inflight / len(able)),
        answer_busy_s=each_s,
        inflight=inflight,
        places=fmean([min(b.service.slots, b.capacity.limit) for b, _ in able]),
        kv_ratio=fmean(loads) if loads else None,
        waiting=waiting,
    )


def _base_s(b: Backend, lane: Lane, params: Params) -> float:
    """Of a first token that meets nobody, without its prefill. A region is judged by those who are near: that a router
    is far away is nothing that more backends would mend."""
    rates = lane.rates
    rtt_s = rates.rtt_s if b.local else params.rtt_same_region_s
    return rtt_s + max(0.0, rates.overhead_s + rates.residual_s)


def _work(able: Sequence[tuple[Backend, Lane]], per_s: float, busy: float, params: Params) -> tuple[float, float]:
    """(prefill of a mean request, mean of its square). The mean is that of what is asked now; how far requests
    differ, the samples of the fit tell, in which the work ahead of some is counted, too."""
    line = able[0][1].fit.common
    n = mean = square = 0.0
    for _, lane in able:
        seen, sx, _, sz, sxx, _, sxz, _, _, szz, *_ = lane.fit.sums
        n += seen
        mean += sx * line.token_s + sz * line.attention_s
        square += sxx * line.token_s**2 + 2.0 * sxz * line.token_s * line.attention_s + szz * line.attention_s**2
    # Before samples: prompts of any length below twice the mean.
    spread = square * n / (mean * mean) if n > 1.0 and mean > 0.0 else 4.0 / 3.0
    work_s = (
        busy / per_s if per_s > 0.0 and busy > 0.0 else mean / n if n else params.prior_spread_tokens * line.token_s
    )
    return work_s, work_s * work_s * max(1.0, spread)


def standings(backends: Collection[Backend], model: str, params: Params, now_s: float) -> list[BackendStanding]:
    """Each of the backends of ``model`` in one region."""
    asked = {b.name: _asked(b, model) for b in backends}
    mean = fmean([rate for rate, _ in asked.values()]) if asked else 0.0
    found = []
    for b in backends:
        per_s, busy = asked[b.name]
        state, reason = _state(b, per_s, busy, mean, params, now_s)
        inflight = b.inflight + b.others_inflight
        found.append(BackendStanding(b.name, state, reason, per_s, inflight, busy, b.spec.cost_usd_hour))
    return found


def _asked(b: Backend, model: str) -> tuple[float, float]:
    lane = b.lanes.get(model)
    return (0.0, 0.0) if lane is None else b.service.demand(lane.fit.line, b.others_inflight)


def _state(b: Backend, per_s: float, busy: float, mean: float, params: Params, now_s: float) -> tuple[str, str]:
    away = _away(b, now_s)
    if away is not None:
        return "away", away
    full = _full(b, busy, params, now_s)
    if full is not None:
        return "saturated", full
    if mean >= _BUSY_PER_S and per_s < params.starved_ratio * mean:
        return "starved", _why_starved(b, now_s)
    if not b.inflight and b.others_inflight < 0.5 and per_s < _BUSY_PER_S:
        return "idle", "hardly any requests come"
    return "working", f"{busy:.0%} of the time in prefill"


def _away(b: Backend, now_s: float) -> str | None:
    if b.draining:
        return "it is drained"
    if b.asleep:
        return "it sleeps"
    if b.leaving is not None:
        return "it is leaving"
    if b.burning_in_since_s is not None:
        return "it has not passed its burn-in"
    if b.state is State.EJECTED:
        return "nobody answers there" if b.health.down else "ejected: it answers badly"
    return "it asked to be left alone" if now_s < b.capacity.not_before_s else None


def _full(b: Backend, busy: float, params: Params, now_s: float) -> str | None:
    inflight = b.inflight + b.others_inflight
    if b.inflight >= b.capacity.limit:
        why = "the limit that its refusals taught" if b.capacity.lowered else "max_inflight"
        return f"{plural(b.inflight, 'request')} in flight: {why}"
    if b.service.slots < inf and inflight >= b.service.slots:
        return f"all of its {b.service.slots:.0f} places are taken"
    load = b.others.fresh_load(now_s)
    if load is not None and load.kv_ratio is not None and load.kv_ratio >= params.needed_kv_ratio:
        return f"its KV cache is {load.kv_ratio:.0%} full"
    if busy >= params.saturated_ratio:
        return f"prefill takes {busy:.0%} of the time"
    return None


def _why_starved(b: Backend, now_s: float) -> str:
    """The likeliest first: what keeps requests away from one that may have them."""
    if b.health.last_probe_ok is False:
        return "its probe fails"
    if b.reputation.doubtful:
        return "its latest attempts failed: others come first"
    if b.state is State.PROBATION:
        return "on its way back: a few trials at a time"
    if b.health.share(now_s) < 1.0:
        return "slow start"
    lane = b.busiest_lane
    if lane is not None and lane.fit.pace > 1.5:
        return f"it takes {lane.fit.pace:.1f} times as long as its siblings"
    return "others have the prefixes, or are nearer"
