"""Engine profiles out of what really ran: prefill, decode and KV cache, fitted to the answers in a journal.

A time of ``sim/engine`` is linear in five unknowns (``intake_s, prefill_token_s, attention_s, iteration_s,
sequence_s``):

    first token = intake + uncached·prefill + pairs·attention + iterations·(iteration + decoding·sequence)
    the rest    = (output - 1)·(iteration + (beside + 1)·sequence) + prompts computed meanwhile·(prefill, attention)

One request runs one iteration of its own, and waits for half of another one if somebody decodes. Only first tokens that
waited for themselves more than for others are taken. The engines that serve the same models have one line, found by
least squares of the relative errors, with outliers weighed down (Huber), and held to what the router has learned; each
backend has a *pace* of its own for first tokens and one for the rest. The part of first tokens that no line explains is
kept as *scatter*: simulated ones meet it by chance.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import log2
from statistics import fmean, median
from typing import Any

from router.core.learn.least_squares import solve_bounded
from router.core.params import Params
from sim.cache_size import fitted_kv_tokens, least_kv_tokens
from sim.profiles import Profile
from sim.recording import Recording, Served

_ROUNDS = 6
_HUBER = 0.25  # relative errors above this weigh less
_LEAST_S = 1e-3  # of a time that an error is relative to
#: what is believed before anything was seen weighs as much as this many answers
_PRIOR_SAMPLES = 1.0
#: a backend is as fast as the others until its own answers say otherwise: as many as these
_PACE_SAMPLES = 8.0
_SCATTER_MAX = 400
#: where nobody tells them
KV_TOKENS_ASSUMED = 400_000
SEQUENCES_ASSUMED = 256
BATCH_TOKENS_ASSUMED = 2048
#: an engine shows how much it computes at once only while more than that waits: as many answers must have met this
_CROWDED_MIN = 10

_BOUNDS = ((0.0, 5.0), (1e-7, 0.05), (0.0, 1e-6), (1e-5, 2.0), (0.0, 0.05))
Row = tuple[float, float, float, float, float]


@dataclass(slots=True)
class Observed:
    """``takes_s`` is what was measured; ``row`` times the unknowns is what the model says."""

    served: Served
    first: bool
    row: Row
    takes_s: float


@dataclass(frozen=True, slots=True)
class EngineFit:
    """How a backend is played, what that rests on, and how far it is off. Errors are medians of the relative error;
    None: nothing was seen of it."""

    backend: str
    profile: Profile
    scatter_s: tuple[float, ...]
    answers: int
    first_token_error: float | None
    decode_error: float | None
    #: "told" by the engine, "fitted" to the prompt tokens it found in its cache, "assumed"
    kv_from: str
    #: "fitted" to what was computed beside answers while prompts waited; "assumed"; "played": see ``measured``
    batch_from: str
    #: "fitted" to its own answers, "like others" that serve the same models, "learned" by the router alone
    from_: str

    def document(self) -> dict[str, Any]:
        p = self.profile
        return {
            "backend": self.backend,
            "from": self.from_,
            "answers": self.answers,
            "prefill_tokens_per_s": 1.0 / p.prefill_token_s,
            "attention_s_per_mpair": p.attention_s * 1e6,
            "intake_s": p.intake_s,
            "itl_s": p.iteration_s + p.sequence_s,
            "itl_busy_s": p.sequence_s,
            "kv_tokens": p.kv_tokens,
            "kv_from": self.kv_from,
            "batch_tokens": p.batch_tokens,
            "batch_from": self.batch_from,
            "first_token_error": self.first_token_error,
            "decode_error": self.decode_error,
            "scatter_s_p95": self.scatter_s[int(0.95 * len(self.scatter_s))] if self.scatter_s else 0.0,
        }


@dataclass(slots=True)
class _Line:
    """Of the backends that serve the same models."""

    theta: Row
    first: dict[str, float] = field(default_factory=dict)
    rest: dict[str, float] = field(default_factory=dict)

    def pace(self, o: Observed) -> float:
        return (self.first if o.first else self.rest).get(o.served.backend, 1.0)

    def says_s(self, o: Observed) -> float:
        return self.pace(o) * _times(o.row, self.theta)


def calibrate(backends: Iterable[Mapping[str, Any]], recording: Recording, block_tokens: int) -> list[EngineFit]:
    """``backends`` as ``GET /admin/v1/learned`` tells them. One fit for each, in their order."""
    groups: dict[tuple[str, ...], list[Mapping[str, Any]]] = {}
    for b in backends:
        groups.setdefault(tuple(b["models"]), []).append(b)
    by_backend: dict[str, list[Served]] = {}
    for served in recording.served:
        by_backend.setdefault(served.backend, []).append(served)
    fits: dict[str, EngineFit] = {}
    for members in groups.values():
        names = {b["name"] for b in members}
        rtt_s = {b["name"]: float(b["rtt_s"]) for b in members}
        seen = [o for s in recording.served if s.backend in names for o in observed(s, rtt_s[s.backend])]
        prior = learned_line(members)
        line = fit_line(seen, prior, {b["name"]: _learned_pace(b, members) for b in members})
        for b in members:
            own = [o for o in seen if o.served.backend == b["name"]]
            source = "fitted" if own else "like others" if seen else "learned"
            fits[b["name"]] = _fit(b, line, own, by_backend.get(b["name"], []), block_tokens, source)
    return list(fits.values())


def observed(served: Served, rtt_s: float) -> list[Observed]:
    """The lessons of one answer. ``rtt_s``: to its backend."""
    net_s = rtt_s + served.connect_s
    out: list[Observed] = []
    uncached = served.uncached_tokens
    busy = 1.5 if served.decoding else 1.0
    first: Row = (1.0, uncached + served.ahead_tokens, served.pairs, busy, busy * served.decoding)
    rest_tokens = served.output_tokens - 1.0
    rest: Row = (
        *(0.0, float(served.stalling_tokens), served.stalling_pairs),
        *(rest_tokens, rest_tokens * (served.beside + 1.0)),
    )
    itself = served.ahead_tokens <= uncached
    if served.first_s is None:
        whole = (first[0], first[1] + rest[1], first[2] + rest[2], first[3] + rest[3], first[4] + rest[4])
        if itself:
            out.append(Observed(served, False, whole, served.ended_s - served.sent_s - net_s))
        return out
    if itself:
        out.append(Observed(served, True, first, served.first_s - served.sent_s - net_s))
    if rest_tokens >= 1.0:
        out.append(Observed(served, False, rest, served.ended_s - served.first_s))
    return out


def learned_line(members: Sequence[Mapping[str, Any]]) -> Row:
    """These backends at their mean, as the router has learned them; its first guess where that is nothing."""
    lanes = [lane for b in members for lane in b["learned"].values() if lane["samples"] > 0.0]
    params = Params()
    itl_s = fmean(b["itl_s"] for b in members) if members else params.itl_prior_s
    busy_s = fmean(b["itl_busy_s"] for b in members) if members else params.itl_busy_prior_s
    if lanes:
        token_s, attention_s, overhead_s = (
            fmean(lane[name] for lane in lanes) for name in ("token_s", "attention_s_per_mpair", "overhead_s")
        )
    else:
        token_s, attention_s = 1.0 / params.prefill_prior_tokens_per_s, params.attention_prior_s
        overhead_s = params.overhead_prior_s
    return max(0.0, overhead_s - itl_s), token_s, attention_s * 1e-6, max(1e-5, itl_s - busy_s), busy_s


def _learned_pace(b: Mapping[str, Any], members: Sequence[Mapping[str, Any]]) -> tuple[float, float]:
    """(of first tokens, of the rest) beside the mean of ``members``: for a backend that answered nothing here."""
    token_s = [lane["token_s"] for other in members for lane in other["learned"].values()]
    own = [lane["token_s"] for lane in b["learned"].values()]
    first = fmean(own) / fmean(token_s) if own and token_s else 1.0
    return first, b["itl_s"] / fmean(other["itl_s"] for other in members)


def fit_line(seen: Sequence[Observed], prior: Row, paces: Mapping[str, tuple[float, float]]) -> _Line:
    """``paces``: of each backend before anything was seen of it."""
    line = _Line(prior, {b: p[0] for b, p in paces.items()}, {b: p[1] for b, p in paces.items()})
    if not seen:
        return line
    line.first, line.rest = dict.fromkeys(paces, 1.0), dict.fromkeys(paces, 1.0)
    for _ in range(_ROUNDS):
        line.theta = _least_squares(seen, line, prior)
        for backend in paces:
            line.first[backend] = _pace([o for o in seen if o.first and o.served.backend == backend], line)
            line.rest[backend] = _pace([o for o in seen if not o.first and o.served.backend == backend], line)
    return line


def _least_squares(seen: Sequence[Observed], line: _Line, prior: Row) -> Row:
    matrix = [[0.0] * 5 for _ in range(5)]
    right = [0.0] * 5
    for k, value in enumerate(prior):
        weight = _PRIOR_SAMPLES / max(value, _BOUNDS[k][1] * 1e-3) ** 2
        matrix[k][k] += weight
        right[k] += weight * value
    for o in seen:
        pace = line.pace(o)
        takes_s = max(o.takes_s, 0.0)
        off = abs(takes_s - pace * _times(o.row, line.theta)) / max(takes_s, _LEAST_S)
        weight = min(1.0, _HUBER / max(off, 1e-9)) / max(takes_s, _LEAST_S) ** 2
        row = [pace * x for x in o.row]
        for i in range(5):
            right[i] += weight * row[i] * takes_s
            for j in range(5):
                matrix[i][j] += weight * row[i] * row[j]
    a, b, c, d, e = solve_bounded(matrix, right, _BOUNDS)
    return a, b, c, d, e


def _pace(own: Sequence[Observed], line: _Line) -> float:
    said = [_times(o.row, line.theta) for o in own]
    if not said:
        return 1.0
    held_s = _PACE_SAMPLES * fmean(said)
    # Of each no more than three times what the line says: one stall is not a pace.
    took_s = sum(min(max(o.takes_s, 0.0), 3.0 * s) for o, s in zip(own, said, strict=True))
    return min(max((took_s + held_s) / (sum(said) + held_s), 0.05), 20.0) if held_s > 0.0 else 1.0


def _times(row: Row, theta: Row) -> float:
    return sum(x * value for x, value in zip(row, theta, strict=True))


def _error(own: Sequence[Observed], line: _Line) -> float | None:
    return median(abs(o.takes_s - line.says_s(o)) / max(o.takes_s, _LEAST_S) for o in own) if own else None


def _fit(
    b: Mapping[str, Any], line: _Line, own: Sequence[Observed], served: Sequence[Served], block_tokens: int, source: str
) -> EngineFit:
    name = b["name"]
    intake_s, token_s, attention_s, iteration_s, sequence_s = line.theta
    first, rest = line.first.get(name, 1.0), line.rest.get(name, 1.0)
    firsts = [o for o in own if o.first]
    alone = [o for o in firsts if not o.served.ahead_tokens]  # of others a line may be wrong in many ways
    intake_s, scatter_s = _scattered(intake_s * first, [o.takes_s - line.says_s(o) for o in alone])
    told, least = b["kv_capacity_tokens"], least_kv_tokens(served)
    fitted = None if told else fitted_kv_tokens(served, block_tokens)
    kv_tokens = int(told or fitted or KV_TOKENS_ASSUMED)
    batch_tokens = fitted_batch_tokens(served)
    profile = Profile(
        name=name,
        summary=f"as {name} was seen",
        source="a journal",
        iteration_s=iteration_s * rest,
        prefill_token_s=token_s * first,
        attention_s=attention_s * first,
        sequence_s=sequence_s * rest,
        context_token_s=0.0,
        kv_tokens=max(kv_tokens, least),
        batch_tokens=batch_tokens or BATCH_TOKENS_ASSUMED,
        sequences=max(1, round(b["places"] or SEQUENCES_ASSUMED)),
        context_tokens=max(kv_tokens, least),
        intake_s=intake_s,
        cost_usd_hour=float(b["cost_usd_hour"]),
    )
    return EngineFit(
        name,
        profile,
        scatter_s,
        len(served),
        _error(firsts, line),
        _error([o for o in own if not o.first], line),
        "told" if told else "fitted" if fitted else "assumed",
        "fitted" if batch_tokens else "assumed",
        source,
    )


def fitted_batch_tokens(served: Sequence[Served]) -> int | None:
    """The tokens that the engine computes in one iteration, as a power of two. None: too few prompts had to wait.

    While prompts wait, each token of an answer comes with a batch that is full of them.
    """
    full = [
        s.stalling_tokens / (s.output_tokens - 1) + s.beside + 1.0
        for s in served
        if s.crowded and s.first_s is not None and s.output_tokens > 5
    ]
    return min(max(1 << round(log2(median(full))), 64), 1 << 15) if len(full) >= _CROWDED_MIN else None


def _scattered(intake_s: float, residuals_s: Sequence[float]) -> tuple[float, tuple[float, ...]]:
    """An intake that is shorter, and what comes on top of it by chance: together as long on average as they were."""
    if len(residuals_s) < 2:
        return intake_s, ()
    ordered = sorted(residuals_s)
    low = ordered[len(ordered) // 20]
    step = max(1.0, len(ordered) / _SCATTER_MAX)
    picked = [ordered[min(len(ordered) - 1, int(i * step))] for i in range(min(len(ordered), _SCATTER_MAX))]
    above = [max(0.0, r - low) for r in picked]
    rest_s = intake_s + fmean(picked) - fmean(above)
    if rest_s < 0.0:
        above = [max(0.0, a + rest_s) for a in above]
    return max(0.0, rest_s), tuple(above)
