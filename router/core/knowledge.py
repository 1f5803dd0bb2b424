"""The knowledge of a fleet as plain values: enough to play its engines in a simulator.

Times in seconds, what is unknown is None. It fades when nothing is asked: ``samples`` of a model says how many first
tokens the figures still rest on, and with none they are the first guess.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from router.core.backend import Backend
from router.core.fleet import Fleet


def knowledge_of(fleet: Fleet, now_s: float) -> dict[str, Any]:
    """``{"router_region", "backends": [...]}``. Every backend with its place, its distance and its times."""
    return {
        "router_region": fleet.router_region,
        "backends": [_backend(b, now_s) for b in fleet.backends.values()],
    }


def _backend(b: Backend, now_s: float) -> dict[str, Any]:
    service, load = b.service, b.others.load
    location = b.spec.region.location
    return {
        "name": b.name,
        "region": b.region,
        "jurisdiction": b.jurisdiction,
        "location": None if location is None else list(location),
        "engine": b.spec.engine,
        "models": sorted(b.models or ()),
        "usable": b.usable(now_s),
        "max_inflight": b.max_inflight,
        "cost_usd_hour": b.spec.cost_usd_hour,
        "rtt_s": b.rtt_s,
        "rtt_measured": b.rtt.mean_s is not None,
        "inflight_peers": b.others.peers_now(now_s),
        "kv_capacity_tokens": None if load is None else load.kv_capacity_tokens,
        "places": None if service.slots == float("inf") else service.slots,
        "itl_s": service.itl_s,
        "itl_busy_s": service.itl_busy_s,
        "answer_tokens": service.answer_tokens,
        "learned": {model: _lane(b, model) for model in b.lanes},
    }


def _lane(b: Backend, model: str) -> Mapping[str, float]:
    fit = b.lanes[model].fit
    return {
        "overhead_s": fit.line.overhead_s,
        "token_s": fit.line.token_s,
        "busy_s": fit.line.busy_s,
        "attention_s_per_mpair": fit.line.attention_s,
        "pace": fit.pace,
        "residual_s": fit.residual_s,
        "error_s": fit.error_s,
        "samples": fit.samples,
    }
