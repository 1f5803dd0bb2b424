"""The price of a backend: what a first token there would cost a request, in seconds, term by term.

    ttft_s(b) = rtt_s·k(b) + overhead_s + queue_s + prefill_s + pressure_s + residual_s + risk_s

- rtt_s·k: the round trip, once on a warm connection, once more per handshake on a cold one;
- overhead_s: what the engine needs before it computes (learned);
- queue_s: uncached tokens ahead (ours exactly, peers' aged, the scrape beyond ours) times the learned time per token,
  plus the wait for a place when more requests are there than the engine serves at once;
- prefill_s: (prompt - cached prefix) tokens times the learned time per token;
- pressure_s: the learned interference of the batch, and a barrier λ·kv/(1-kv) as the KV cache fills;
- residual_s: what the learned line does not explain at the moment, and how late pending first tokens already are;
- risk_s: the chance that the attempt fails, times what a failure costs. So failing fast never looks fast.

Sources: GORGO's cost of network + queue + uncached prefill; SMG's least_load barrier; Linkerd's PenaltyPeakEwma.

A ``Price`` is a plain tuple, made anew when a backend changes and never altered: a decision keeps the prices it saw
and can be explained later at no cost now. ``Price[0]`` is the cost of a request without any uncached token,
``Price[1]`` the cost of one uncached token: cost_s = price[0] + uncached_tokens * price[1].
"""

from __future__ import annotations

from math import asin, cos, radians, sin, sqrt

from router.core.params import Params

#: (fixed_s, token_s, queue_s, busy_s, Steady, tokens ahead, requests there)
Price = tuple[float, float, float, float, "Steady", float, float]

#: (rtt_s·k, overhead_s, kv pressure_s, residual_s, risk_s): the terms that do not change with each request
Steady = tuple[float, float, float, float, float]

Terms = tuple[tuple[str, float], ...]


def price_terms(price: Price, uncached_tokens: float) -> Terms:
    """The terms of ``price[0] + uncached_tokens * price[1]``."""
    _, token_s, queue_s, busy_s, (rtt_s, overhead_s, pressure_s, residual_s, risk_s), _, _ = price
    return (
        ("rtt", rtt_s),
        ("overhead", overhead_s),
        ("queue", queue_s),
        ("prefill", uncached_tokens * token_s),
        ("pressure", busy_s + pressure_s),
        ("residual", residual_s),
        ("risk", risk_s),
    )


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
