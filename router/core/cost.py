"""A backend's quote: what a request would cost there, in seconds, term by term.

    cost_s(b) = rtt_s·k(b) + overhead_s + queue_s + prefill_s + pressure_s + residual_s + risk_s + decode_s + toll_s

- rtt_s·k: the round trip, once on a warm connection, once more per handshake on a cold one;
- overhead_s: what the engine needs before it computes (learned);
- queue_s: the work ahead: uncached tokens (ours exactly, peers' aged, the scrape beyond ours) times the learned time
  per token, and their attention, at the learned speed of the backlog; or the wait for a place, if that is longer, when
  more requests are there than the engine serves at once;
- prefill_s: the work w it brings along: u = prompt - cached prefix tokens times the learned time per token, plus the
  learned time per pair times the u·(2·prompt - u)/2 pairs that attention computes: a long prompt costs more per token;
- pressure_s: the learned interference of the batch, and a barrier λ·kv/(1-kv) as the KV cache fills;
- residual_s: what the learned line does not explain at the moment, or how late pending first tokens already are;
- risk_s: the chance that the attempt fails, times what a failure costs. So failing fast never looks fast;
- decode_s: what the batch costs the later tokens, κ times their time: o·(itl + 2·n·δ) for the o tokens of a mean
  answer, n requests there and the learned time between tokens itl + n·δ. Once n·δ is what the others cost this answer,
  once what this one costs the others. κ is small: the first token comes first;
- toll_s: what it costs those after it. Work w stalls each of the n answers in the batch: κ·n·w. And work w that meets
  a queue q keeps the engine busy for (q + w) / (1 - ρ) and makes the λ requests per second that come meanwhile wait w
  longer each: η·λ·w·(q + w) / (1 - ρ), with the mean λ and ρ of the model's backends, since those who come later go
  where the queue is short by then. For the same reason q is only half the queue there: as far as later requests are
  free to go anywhere, the backends work off one queue, and the other half is their mean. Without the toll each request
  does what is best for itself, spreads its prefix over more backends than needed, and everybody waits longer.

All but pressure's barrier, risk, decode and toll together are the predicted time to the first token, which is learned
from and shown to operators beside the real one.

Sources: GORGO's cost of network + queue + uncached prefill; SMG's least_load barrier; Linkerd's PenaltyPeakEwma;
Pigou's toll, here the externality of the M/G/1 busy period.

A ``Quote`` is a plain tuple, replaced when a backend changes and never altered: a decision keeps the quotes it saw and
can be explained later at no cost now. It is in seconds; dollars are a *price*. The backends of a model differ in pace
only, so the work at pace 1 is the same at all of them, except for what they have cached: ``plain_s`` = u * (token_s +
(2 * prompt - u) * pair_s). With that and τ = η·λ / (1 - ρ):

    cost_s = fixed_s + plain_s * (rate + plain_s * curve)
    rate = pace * (1 + τ * q + κ·n), curve = pace² * τ
"""

from __future__ import annotations

from math import asin, cos, radians, sin, sqrt

import msgspec

from router.core.params import Params

#: (fixed_s, rate, curve, Ahead). A tuple, because a decision unpacks one for every candidate (ADR 14).
Quote = tuple[float, float, float, "Ahead"]

Terms = tuple[tuple[str, float], ...]


class Rates(msgspec.Struct, frozen=True, gc=False):
    """All that a quote needs besides what is ahead of the request. Replaced when time has passed."""

    rtt_s: float = 0.0  # times k
    overhead_s: float = 0.0
    pressure_s: float = 0.0
    residual_s: float = 0.0
    risk_s: float = 0.0
    #: of the first token, what is neither queue nor prefill nor pressure: the round trip, overhead and residual
    first_token_s: float = 0.0
    #: the model's line: per uncached token, and per token and token before it
    token_s: float = 0.0
    pair_s: float = 0.0
    pace: float = 1.0
    #: how many times slower the backlog is worked off than the engine can
    slowness: float = 1.0
    #: per request there: wait for the first token, and the cost of later tokens
    busy_s: float = 0.0
    decode_each_s: float = 0.0
    decode_alone_s: float = 0.0
    #: toll per second of work that meets a second of work of its own, and of the queue there; the same for all backends
    #: of a model
    toll: float = 0.0
    queue_toll: float = 0.0
    #: toll per second of work for the mean queue of the model's backends
    shared_toll: float = 0.0
    #: toll per second of work and request there
    stall_ratio: float = 0.0


class Ahead(msgspec.Struct, frozen=True, gc=False):
    """The work ahead of a request that is sent now, and the rates: all that a quote was made of."""

    queue_s: float = 0.0
    tokens: float = 0.0
    mpairs: float = 0.0
    #: in the engine, ours and those of others
    requests: float = 0.0
    rates: Rates = Rates()


def prompt_pairs(prompt_tokens: int, uncached_tokens: int) -> int:
    """How many pairs of tokens attention computes: each uncached one with all that come before it."""
    return uncached_tokens * (2 * prompt_tokens - uncached_tokens) // 2


def work_s(rates: Rates, prompt_tokens: float, uncached_tokens: float) -> float:
    """How long the prefill takes."""
    plain_s = uncached_tokens * (rates.token_s + (2.0 * prompt_tokens - uncached_tokens) * rates.pair_s)
    return rates.pace * plain_s


def cost_terms(ahead: Ahead, prompt_tokens: float, uncached_tokens: float) -> Terms:
    """The terms of a request's cost, by its prompt tokens and those of them that are uncached."""
    queue_s, requests, rates = ahead.queue_s, ahead.requests, ahead.rates
    prefill_s = work_s(rates, prompt_tokens, uncached_tokens)
    tolls = rates.toll * prefill_s + rates.queue_toll * queue_s + rates.shared_toll
    return (
        ("rtt", rates.rtt_s),
        ("overhead", rates.overhead_s),
        ("queue", queue_s),
        ("prefill", prefill_s),
        ("pressure", requests * rates.busy_s + rates.pressure_s),
        ("residual", rates.residual_s),
        ("risk", rates.risk_s),
        ("decode", rates.decode_alone_s + requests * rates.decode_each_s),
        ("toll", prefill_s * (requests * rates.stall_ratio + tolls)),
    )


def predicted_ttft_s(ahead: Ahead, prompt_tokens: float, uncached_tokens: float) -> float:
    """When the first token is expected: the cost without barrier, risk, decode and toll."""
    rates = ahead.rates
    plain_s = uncached_tokens * (rates.token_s + (2.0 * prompt_tokens - uncached_tokens) * rates.pair_s)
    return rates.first_token_s + ahead.queue_s + rates.pace * plain_s + ahead.requests * rates.busy_s


def kv_pressure_s(kv_ratio: float, params: Params) -> float:
    """A barrier: nothing while the KV cache is empty, steep when it is nearly full."""
    kv_ratio = min(max(kv_ratio, 0.0), params.kv_ratio_max)
    return params.kv_pressure_s * kv_ratio / (1.0 - kv_ratio)


def distance_km(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Great-circle distance of two (latitude, longitude) in degrees."""
    lat_a, lon_a, lat_b, lon_b = map(radians, (*a, *b))
    h = sin((lat_b - lat_a) / 2) ** 2 + cos(lat_a) * cos(lat_b) * sin((lon_b - lon_a) / 2) ** 2
    return 2 * 6371.0 * asin(sqrt(min(h, 1.0)))


def prior_rtt_s(
    home: tuple[float, float] | None, there: tuple[float, float] | None, params: Params, *, local: bool
) -> float | None:
    """The round trip before one was measured, by the map; None: nobody knows where it is."""
    if local:
        return params.rtt_same_region_s
    return None if home is None or there is None else distance_rtt_s(home, there, params)


def distance_rtt_s(a: tuple[float, float], b: tuple[float, float], params: Params) -> float:
    """The round trip to expect over that distance, before anything was measured."""
    return params.rtt_access_s + distance_km(a, b) * params.rtt_s_per_km


def peers_share(age_s: float, params: Params) -> float:
    """How much of a peer's report still holds: all of it while fresh, then less and less, then nothing."""
    if age_s <= params.peers_full_s:
        return 1.0
    return max(0.0, (params.peers_gone_s - age_s) / (params.peers_gone_s - params.peers_full_s))
