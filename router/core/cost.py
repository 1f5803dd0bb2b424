"""The price of a backend: what a request would cost there, in seconds, term by term.

    cost_s(b) = rtt_s·k(b) + overhead_s + queue_s + prefill_s + pressure_s + residual_s + risk_s + toll_s

- rtt_s·k: the round trip, once on a warm connection, once more per handshake on a cold one;
- overhead_s: what the engine needs before it computes (learned);
- queue_s: uncached tokens ahead (ours exactly, peers' aged, the scrape beyond ours) times the learned time per token,
  plus the wait for a place when more requests are there than the engine serves at once;
- prefill_s: (prompt - cached prefix) tokens times the learned time per token: the work w it brings along;
- pressure_s: the learned interference of the batch, and a barrier λ·kv/(1-kv) as the KV cache fills;
- residual_s: what the learned line does not explain at the moment, or how late pending first tokens already are;
- risk_s: the chance that the attempt fails, times what a failure costs. So failing fast never looks fast;
- toll_s: what it costs those after it. Work w that meets a queue q keeps the engine busy for (q + w) / (1 - ρ) and
  makes the λ requests per second that come meanwhile wait w longer each: η·λ·w·(q + w) / (1 - ρ). Without it each
  request does what is best for itself, spreads its prefix over more backends than needed, and everybody waits longer.

All but pressure's barrier, risk and toll together are the predicted time to the first token, which is learned from and
shown to operators beside the real one.

Sources: GORGO's cost of network + queue + uncached prefill; SMG's least_load barrier; Linkerd's PenaltyPeakEwma;
Pigou's toll, here the externality of the M/G/1 busy period.

A ``Price`` is a plain tuple, made anew when a backend changes and never altered: a decision keeps the prices it saw and
can be explained later at no cost now. With its first four places and the work w = uncached_tokens * token_s:

    cost_s = fixed_s + w * (rise + toll * w), where toll = η·λ / (1 - ρ) and rise = 1 + toll * queue_s
"""

from __future__ import annotations

from math import asin, cos, radians, sin, sqrt

from router.core.params import Params

#: (fixed_s, token_s, rise, toll, Detail)
Price = tuple[float, float, float, float, "Detail"]

#: (queue_s, busy_s, tokens ahead, requests there, Steady): what ``fixed_s`` consists of
Detail = tuple[float, float, float, float, "Steady"]

#: (rtt_s·k, overhead_s, kv pressure_s, residual_s, risk_s): the terms that do not change with each request
Steady = tuple[float, float, float, float, float]

Terms = tuple[tuple[str, float], ...]


def price_terms(price: Price, uncached_tokens: float) -> Terms:
    """The terms of what a request with so many uncached tokens costs. Their sum is its cost."""
    _, token_s, _, toll, (queue_s, busy_s, _, _, steady) = price
    rtt_s, overhead_s, pressure_s, residual_s, risk_s = steady
    prefill_s = uncached_tokens * token_s
    return (
        ("rtt", rtt_s),
        ("overhead", overhead_s),
        ("queue", queue_s),
        ("prefill", prefill_s),
        ("pressure", busy_s + pressure_s),
        ("residual", residual_s),
        ("risk", risk_s),
        ("toll", prefill_s * (queue_s + prefill_s) * toll),
    )


def predicted_ttft_s(price: Price, uncached_tokens: float) -> float:
    """When the first token is expected: the cost without what is no time (barrier, risk, toll)."""
    steady = price[4][4]
    return price[0] + uncached_tokens * price[1] - steady[2] - steady[4]


def kv_pressure_s(kv_ratio: float, params: Params) -> float:
    """A barrier: nothing while the KV cache is empty, steep when it is nearly full."""
    kv_ratio = min(max(kv_ratio, 0.0), params.kv_ratio_max)
    return params.kv_pressure_s * kv_ratio / (1.0 - kv_ratio)


def distance_km(a: tuple[float, float], b: tuple[float, float]) -> float:
    """Great-circle distance of two (latitude, longitude) in degrees."""
    lat_a, lon_a, lat_b, lon_b = map(radians, (*a, *b))
    h = sin((lat_b - lat_a) / 2) ** 2 + cos(lat_a) * cos(lat_b) * sin((lon_b - lon_a) / 2) ** 2
    return 2 * 6371.0 * asin(sqrt(min(h, 1.0)))


def distance_rtt_s(a: tuple[float, float], b: tuple[float, float], params: Params) -> float:
    """The round trip to expect over that distance, before anything was measured."""
    return params.rtt_access_s + distance_km(a, b) * params.rtt_s_per_km


def peers_share(age_s: float, params: Params) -> float:
    """How much of a peer's report still holds: all of it while fresh, then less and less, then nothing."""
    if age_s <= params.peers_full_s:
        return 1.0
    return max(0.0, (params.peers_gone_s - age_s) / (params.peers_gone_s - params.peers_full_s))
