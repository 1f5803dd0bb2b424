"""What if, on a fleet that really runs: a world out of what its router has learned and of its journal.

The first row of the result was measured. The second one plays the same requests through the same policy in that world:
its *error* against the first says how much the others, each with a change of the fleet, are worth. When it is too large
nothing is compared.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, inf
from pathlib import Path
from statistics import fmean, median
from typing import Any

from router.core.params import Params
from router.core.policy import POLICIES
from router.core.types import BackendSpec, RegionSpec
from router.core.what_if import WhatIf, region_of
from router.words import plural
from sim.calibration import BATCH_TOKENS_ASSUMED, KV_TOKENS_ASSUMED, EngineFit, calibrate
from sim.recording import Recording, read_recording
from sim.replay import Outcome, run_policy
from sim.traces import Trace, TraceError, journal_trace
from sim.world_plan import MachinePlan, WorldPlan

Document = Mapping[str, Any]

#: the largest of the relative errors of p50 and p95 may be this
ERROR_MAX = 0.25
#: times below this count as this: a scheduler adds as much, and the model is not to blame
_FLOOR_S = 0.01
#: with fewer answers quantiles mean nothing
ANSWERS_MIN = 20
MEASURE = "the largest of the relative errors of p50 and p95, of first tokens and whole answers; 10 ms is the least"
_ROUTER = "(router)"
#: tokens that an engine may compute in one iteration
_BATCHES = (BATCH_TOKENS_ASSUMED, 512, 8192)


class NotComparableError(Exception):
    """There is nothing to compare with; the text says why."""


@dataclass(slots=True)
class Measured:
    """A fleet as it was measured. ``plan`` plays it. ``entry_s``: what a request takes before it is decided."""

    plan: WorldPlan
    fits: tuple[EngineFit, ...]
    trace: Trace
    recording: Recording
    policy: str
    router: Mapping[str, Any]
    rtt_measured: bool
    left_out: tuple[str, ...]
    peers: int
    entry_s: float
    #: what the backends that are left out cost; None: of one the price is not known
    left_out_usd_hour: float | None = 0.0

    @property
    def playable(self) -> Trace:
        """The requests that an engine would take."""
        return self.trace.no_longer_than(max(m.profile.context_tokens for m in self.plan.machines))

    @property
    def streams(self) -> bool:
        """First tokens were seen, and not whole answers alone."""
        return len(self.recording.ttfts_s) >= ANSWERS_MIN

    @property
    def measured(self) -> list[str]:
        """In words: what the world rests on."""
        answers = sum(fit.answers for fit in self.fits)
        fitted = [fit.backend for fit in self.fits if fit.from_ == "fitted"]
        told = [fit.backend for fit in self.fits if fit.kv_from != "assumed"]
        lines = [f"prefill and decode of {_list(fitted)}, fitted to {plural(answers, 'answer')}"] if fitted else []
        lines += ["round trips to every backend"] if self.rtt_measured else []
        lines += [f"KV cache of {_list(told)}"] if told else []
        return lines

    @property
    def assumed(self) -> list[str]:
        """In words: what nobody measured."""
        lines = ["the router's own place is the only one that requests come from", "no backend fails"]
        learned = [fit.backend for fit in self.fits if fit.from_ != "fitted"]
        no_batch = [fit.backend for fit in self.fits if fit.batch_from == "assumed"]
        played = [fit.backend for fit in self.fits if fit.batch_from == "played"]
        batch = next((fit.profile.batch_tokens for fit in self.fits if fit.batch_from == "played"), 0)
        no_kv = [fit.backend for fit in self.fits if fit.kv_from == "assumed"]
        lines += (
            [f"{_list(learned)}: nothing of it in the journal, as others or as the router guesses"] if learned else []
        )
        lines += [f"KV cache of {_list(no_kv)}: {KV_TOKENS_ASSUMED:,} tokens"] if no_kv else []
        lines += [f"{_list(no_batch)} computes {BATCH_TOKENS_ASSUMED:,} tokens at once"] if no_batch else []
        lines += [f"{_list(played)} compute as many tokens at once as played best: {batch:,}"] if played else []
        lines += [] if self.rtt_measured else ["round trips, by the distance"]
        lines += [] if self.recording.caching_told else ["no prompt was found in a cache: engines tell nothing of it"]
        lines += (
            [f"{_list(self.left_out)} is left out: it cannot be used, and answered nothing"] if self.left_out else []
        )
        lines += [f"{plural(self.peers, 'request')} of other routers: not in this journal"] if self.peers else []
        return lines


def _list(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) < 5 else f"{len(names)} backends"


def measure(learned: Document, records: Sequence[Document], *, limit: int | None = None) -> Measured:
    """``learned``: the answer of ``GET /admin/v1/learned``; ``records``: lines of the journal. Raises TraceError, and
    NotComparableError when the fleet has answered none of them."""
    records = records[-limit:] if limit is not None else records
    try:
        recording = read_recording(records)
    except ValueError as error:
        raise TraceError(str(error)) from None
    served = [b for b in learned["backends"] if b["models"] and (b["usable"] or b["name"] in recording.by_backend)]
    if not {b["name"] for b in served} & recording.by_backend.keys():
        raise NotComparableError("no backend of the router has answered a request of this journal")
    trace = journal_trace(Path("journal"), enumerate(map(dict, records), 1))
    fits = calibrate(served, recording, trace.block_tokens)
    names = {b["name"] for b in served}
    found = Measured(
        _plan(learned, served, fits, trace),
        tuple(fits),
        trace,
        recording,
        _policy(learned, recording),
        learned["router"],
        all(b["rtt_measured"] for b in served),
        tuple(b["name"] for b in learned["backends"] if b["name"] not in names),
        sum(b["inflight_peers"] for b in served),
        median(recording.entries_s) if recording.entries_s else 0.0,
        _priced([b["cost_usd_hour"] for b in learned["backends"] if b["name"] not in names]),
    )
    return _with_batches(found)


def _priced(usd_hours: Sequence[float | None]) -> float | None:
    return sum(usd or 0.0 for usd in usd_hours) if all(usd_hours) else None


def _with_batches(measured: Measured) -> Measured:
    """How much engines compute at once shows only while prompts wait. Where it does not show, that size is taken with
    which what really ran is played best."""
    if all(f.batch_from != "assumed" for f in measured.fits) or len(measured.recording.durations_s) < ANSWERS_MIN:
        return measured
    tried = [_of_batch(measured, tokens) for tokens in _BATCHES]
    errors = [_compared(m, 1, ERROR_MAX)[2]["worst"] for m in tried]
    known = [inf if error is None else error for error in errors]
    return tried[known.index(min(known))]


def _of_batch(measured: Measured, tokens: int) -> Measured:
    fits = tuple(
        replace(f, profile=replace(f.profile, batch_tokens=tokens), batch_from="played")
        if f.batch_from == "assumed"
        else f
        for f in measured.fits
    )
    machines = tuple(replace(m, profile=f.profile) for m, f in zip(measured.plan.machines, fits, strict=True))
    return replace(measured, fits=fits, plan=replace(measured.plan, machines=machines))


def _policy(learned: Document, recording: Recording) -> str:
    """The one that decided most of the requests."""
    known = {name: count for name, count in recording.policies.items() if name in POLICIES}
    return max(known, key=lambda name: known[name]) if known else learned["router"]["policy"]


def _plan(learned: Document, served: Sequence[Document], fits: Sequence[EngineFit], trace: Trace) -> WorldPlan:
    regions = {b["region"]: RegionSpec(b["region"], b["jurisdiction"], _place(b)) for b in served}
    home = learned["router_region"] or _ROUTER
    rtt_s = {(home, r): fmean(b["rtt_s"] for b in served if b["region"] == r) for r in regions}
    machines = tuple(
        MachinePlan(_spec(b, regions[b["region"]]), fit.profile, fit.scatter_s)
        for b, fit in zip(served, fits, strict=True)
    )
    models = [a.model for a in trace.arrivals]
    model = max(dict.fromkeys(models), key=models.count) if models else ""
    return WorldPlan(machines, rtt_s, model, params=_params(fits, trace), routers=(home,), many_models=True)


def _place(b: Document) -> tuple[float, float] | None:
    return tuple(b["location"]) if b["location"] else None


def _spec(b: Document, region: RegionSpec) -> BackendSpec:
    return BackendSpec(
        b["name"],
        region,
        f"http://{b['name']}",
        b["engine"],
        tuple(b["models"]),
        b["max_inflight"],
        cost_usd_hour=b["cost_usd_hour"],
    )


def _params(fits: Sequence[EngineFit], trace: Trace) -> Params:
    """The router of the world begins with what the real one knew when it had seen these requests."""
    profiles = [fit.profile for fit in fits]
    prefill_s, params = fmean(p.prefill_token_s for p in profiles), Params()
    return replace(
        params,
        overhead_prior_s=fmean(p.intake_s + p.iteration_s for p in profiles),
        prefill_prior_tokens_per_s=1.0 / prefill_s,
        attention_prior_s=fmean(p.attention_s for p in profiles) * 1e6,
        interference_prior_s=fmean(p.sequence_s for p in profiles),
        itl_prior_s=fmean(p.iteration_s + p.sequence_s for p in profiles),
        itl_busy_prior_s=fmean(p.sequence_s for p in profiles),
        answer_prior_tokens=fmean(a.output_tokens for a in trace.arrivals),
    )


def changed(plan: WorldPlan, what: WhatIf) -> WorldPlan:
    """The world without some machines, and with others that are like one of it. Its traffic is the trace's matter."""
    known = {m.spec.name: m for m in plan.machines}
    added = [replace(known[like], spec=_moved(known[like].spec, new, plan)) for new, like in what.add]
    left = [m for m in (*plan.machines, *added) if not what.takes(m.spec.name)]
    return replace(plan, machines=tuple(left))


def _moved(spec: BackendSpec, new: str, plan: WorldPlan) -> BackendSpec:
    region = next(m.spec.region for m in plan.machines if m.spec.region.name == region_of(new))
    return replace(spec, name=new, region=region, url=f"http://{new}")


def what_ifs(
    measured: Measured,
    changes: Sequence[WhatIf],
    policies: Sequence[str] = (),
    *,
    seed: int = 1,
    error_max: float = ERROR_MAX,
    on_row: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Results as ``router replay --json`` prints them. ``policies``: what other policies would have done. ``refused``
    says why nothing is compared; then there are only the first two rows. Raises KeyError for an unknown policy."""
    for policy in policies:
        POLICIES[policy]
    recorded, replayed, error = _compared(measured, seed, error_max)
    rows, refused = [recorded, replayed], _refusal(recorded, error)
    trace = measured.playable
    for name, plan, played, policy in _planned(measured, changes, policies, trace) if refused is None else ():
        if on_row is not None:
            on_row(name)
        rows.append(_play(measured, plan, played, policy, seed, name))
    return {
        "trace": {"name": "journal", "requests": len(trace.arrivals), "skipped": trace.skipped}
        | {"duration_s": trace.duration_s},
        "router": dict(measured.router),
        "error": error,
        "refused": refused,
        "rows": rows,
        "engines": [fit.document() for fit in measured.fits],
        "measured": measured.measured,
        "assumed": measured.assumed,
    }


def _planned(
    measured: Measured, changes: Sequence[WhatIf], policies: Sequence[str], trace: Trace
) -> list[tuple[str, WorldPlan, Trace, str]]:
    """(name, world, requests, policy) of each row."""
    rows = [(f"policy {p}", measured.plan, trace, p) for p in policies if p != measured.policy]
    for what in changes:
        played = trace.faster(what.scale) if what.scale != 1.0 else trace
        rows.append((what.words(), changed(measured.plan, what), played, measured.policy))
    return rows


def _compared(measured: Measured, seed: int, error_max: float) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """(as recorded, the same played again, the error of that)"""
    recorded = recorded_row(measured)
    replayed = _play(measured, measured.plan, measured.playable, measured.policy, seed, "replayed")
    times = ("ttft_s", "e2e_s") if measured.streams else ("e2e_s",)
    return recorded, replayed, _error(recorded, replayed, times, error_max)


def _play(measured: Measured, plan: WorldPlan, trace: Trace, policy: str, seed: int, name: str) -> dict[str, Any]:
    if not plan.machines:
        return _row(name, False, policy, [], [], len(trace.arrivals), {}, 0, 0)
    return _row_of(name, run_policy(trace, policy, plan, seed=seed), measured.entry_s, measured.streams)


def _row_of(name: str, outcome: Outcome, entry_s: float, streams: bool) -> dict[str, Any]:
    good = [f for f in outcome.flows if f.error is None and f.ttft_s is not None and f.ended_s is not None]
    ttfts = [f.ttft_s + entry_s for f in good if f.ttft_s is not None and (f.arrival.stream or not streams)]
    durations = [f.ended_s - f.started_s + entry_s for f in good if f.ended_s is not None]
    prompt, cached = sum(f.arrival.prompt_tokens for f in good), sum(f.cached_tokens for f in good)
    served = {name: count for name, count in outcome.requests_by_backend.items() if count}
    failed = len(outcome.flows) - len(good)
    row = _row(name, False, outcome.policy, ttfts, durations, failed, served, prompt, cached)
    return row | {"busy_ratio": outcome.busy_ratio, "busiest_ratio": outcome.busiest_ratio}


def recorded_row(measured: Measured) -> dict[str, Any]:
    r = measured.recording
    row = _row(
        *("as recorded", True, measured.policy, r.ttfts_s, r.durations_s, r.failed),
        *(r.by_backend, r.prompt_tokens, r.cached_tokens),
    )
    return row | {"busy_ratio": None, "busiest_ratio": None}


def _row(
    name: str,
    really: bool,
    policy: str,
    ttfts_s: Sequence[float],
    durations_s: Sequence[float],
    failed: int,
    served: Mapping[str, int],
    prompt_tokens: int,
    cached_tokens: int,
) -> dict[str, Any]:
    by_region: dict[str, int] = {}
    for backend, count in served.items():
        by_region[region_of(backend)] = by_region.get(region_of(backend), 0) + count
    times = {f"ttft_s_p{q}": quantile(ttfts_s, q / 100) for q in (50, 95, 99)}
    times |= {f"e2e_s_p{q}": quantile(durations_s, q / 100) for q in (50, 95)}
    return {"row": name, "measured": really, "policy": policy, **times} | {
        "prefix_hit_ratio": cached_tokens / prompt_tokens if prompt_tokens else 0.0,
        "answered": len(durations_s),
        "failed": failed,
        "requests_by_region": by_region,
        "requests_by_backend": dict(served),
    }


def quantile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that ``share`` of them do not exceed."""
    return sorted(values)[max(0, ceil(share * len(values)) - 1)] if values else None


def _error(recorded: Document, replayed: Document, times: Sequence[str], error_max: float) -> dict[str, Any]:
    found: dict[str, float | None] = {}
    for name in (f"{time}_p{q}" for time in times for q in (50, 95)):
        was, now = recorded[name], replayed[name]
        found[name] = None
        if was is not None and now is not None:
            found[name] = abs(max(now, _FLOOR_S) - max(was, _FLOOR_S)) / max(was, _FLOOR_S)
    known = [value for value in found.values() if value is not None]
    return {**found, "worst": max(known, default=None), "max": error_max, "measure": MEASURE}


def _refusal(recorded: Document, error: Document) -> str | None:
    if recorded["answered"] < ANSWERS_MIN:
        return f"{plural(recorded['answered'], 'answer')}: too few to compare with, it takes {ANSWERS_MIN}"
    if error["worst"] is None:
        return "nothing was answered when the requests were played again"
    if error["worst"] > error["max"]:
        places = 0 if round(100 * error["worst"]) > round(100 * error["max"]) else 2
        off, most = (f"{100 * error[name]:.{places}f} %" for name in ("worst", "max"))
        return f"playing what really ran is off by {off}, and {most} is the most that is compared"
    return None
