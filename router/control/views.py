"""What the router holds, as the JSON of the admin API. Times in seconds; what is unknown is null."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from router import clock
from router.config import Config, Region
from router.control import config_views
from router.control.gpu_views import gpu
from router.control.plane import ControlPlane
from router.control.region_views import region_summary, told
from router.control.source_views import source_of
from router.core.backend import Backend
from router.core.losses import losses as core_losses
from router.core.policy import list_policies
from router.moments import iso_of
from router.store.base import Key
from router.telemetry.journal import Record, as_document, decision_document, known_of
from router.telemetry.stats import WINDOW_S, Window
from router.upstream.chaos import KINDS, Chaos, InjectedFault

TRAFFIC_WINDOW_S = WINDOW_S


def status(control: ControlPlane, store_rtt_s: float | None) -> dict[str, Any]:
    config = control.reloader.config
    now_s = control.now_s()
    backends = list(control.fleet.backends.values())
    usable = [b for b in backends if b.usable(now_s)]
    asleep = [b for b in backends if control.dormants.rests(b)]
    return {
        "router": {
            "name": config.router.name,
            "region": config.router.region,
            "version": control.version,
            "uptime_s": now_s - control.started_s,
            "workers": config.router.workers,
            "policy": config.router.policy,
            "config_generation": control.reloader.generation,
            "config_hash": control.exchange.card.get("config_hash"),
            "config_source": os.path.abspath(config.source),
            "ready": (why_not := control.ready()) is None,
            "not_ready": why_not,
            **config_views.state(control.reloader),
        },
        "store": {"kind": store_kind(config), "state": control.store.state, "rtt_s": store_rtt_s}
        | {"trouble": control.store.trouble, "notice": control.store.notice},
        "traffic": {"inflight": sum(b.inflight for b in backends), "queued": sum(control.queued().values())}
        | traffic(control.telemetry.stats.last(TRAFFIC_WINDOW_S)),
        "regions": {"total": len(config.regions), "usable": len({b.region for b in usable})}
        | {"asleep": len({b.region for b in asleep} - {b.region for b in usable})},
        "backends": {"total": len(backends), "usable": len(usable), "names": [b.name for b in backends]}
        | {"asleep": len(asleep)},
        "dormant": control.dormants.document(),
        "strained": strained(control),
    }


def strained(control: ControlPlane) -> list[dict[str, Any]]:
    """The models that are overloaded everywhere, and the smaller variants that answer for them."""
    now_s, models = control.now_s(), control.reloader.config.models
    counts = control.degrading.counts
    return [
        {
            "model": model,
            "variants": list(models[model].degrade),
            "since_s": clock.wall_s() - now_s + since_s,
            "target_ttft_s": models[model].target_ttft_s,
            "requests": sum(n for (of, _), n in counts.items() if of == model),
        }
        for model, since_s in control.degrading.strained(now_s).items()
        if model in models
    ]


def traffic(window: Window) -> dict[str, Any]:
    document = window.document()
    return {
        "requests_per_s": document["requests_per_s"],
        "output_tokens_per_s": document["output_tokens_per_s"],
        "ttft_s_p50": document["ttft_s"]["p50"],
        "ttft_s_p99": document["ttft_s"]["p99"],
        "error_ratio": document["errors"] / document["requests"] if document["requests"] else None,
    }


def store_kind(config: Config) -> str:
    if config.store.redis is None:
        return "memory"
    return "embedded" if config.store.redis == "embedded" else "redis"


def backend(control: ControlPlane, b: Backend) -> dict[str, Any]:
    now_s = control.now_s()
    load, lane = b.others.fresh_load(now_s), b.busiest_lane
    wall_s = clock.wall_s() - now_s
    return {
        "name": b.name,
        "region": b.region,
        "source": source_of(control, b),
        "url": b.spec.url,
        "engine": b.spec.engine,
        "models": sorted(b.models or ()),
        "state": b.state.value,
        "draining": b.draining,
        "drain": _drain(control, b),
        "asleep": control.dormants.rests(b),
        "strained": {m: wall_s + since_s for m, since_s in control.degrading.strained(now_s, b).items()},
        "ready": not b.unready,
        "leaving": _leaving(b, now_s),
        "burning_in_s": None if b.burning_in_since_s is None else max(0.0, now_s - b.burning_in_since_s),
        "usable": b.usable(now_s),
        **_story(control, b),
        "rtt_s": b.rtt.mean_s,
        "rtt_floor_s": b.rtt.floor_s,
        "rtt_age_s": _age(b.rtt.at_s, now_s),
        "inflight": b.inflight,
        "inflight_peers": b.others.peers_now(now_s),
        "max_inflight": b.max_inflight,
        "queue": load.waiting if load is not None else None,
        "running": load.running if load is not None else None,
        "kv_ratio": load.kv_ratio if load is not None else None,
        "load_age_s": _age(b.others.load.at_s, now_s) if b.others.load is not None else None,
        "uncached_tokens": b.prompts.tokens,
        "output_tokens_per_s": b.service.output_tokens_per_s,
        "prefill_tokens_per_s": lane.prefill_tokens_per_s if lane is not None else None,
        "ttft_error_s": lane.fit.error_s if lane is not None else None,
        "cost_usd_hour": b.spec.cost_usd_hour,
        "gpu": gpu(control, b),
        "continues": continues(control, b.name),
        "requests_total": b.requests_total,
        "failures_total": b.reputation.failures_total,
        "last_error": control.observer.last_error(b.name) or b.reputation.last_error,
    }


def losses(control: ControlPlane, name: str, answered: Mapping[str, int]) -> dict[str, Any]:
    """The losses without a backend or a region: for somebody about to drain or remove it, or to break it on
    purpose. ``answered``: requests of the last minute by backend. ``share``: of these; None: there were none."""
    config, fleet = control.reloader.config, control.fleet
    gone = {b.name for b in fleet.backends.values() if name in (b.name, b.region)}
    residencies = {plan.name: plan.residency for plan in config.plans.values() if plan.residency}
    found = core_losses(fleet.backends.values(), gone, residencies, control.now_s())
    requests, total = sum(answered.get(b, 0) for b in gone), sum(answered.values())
    return {
        "of": name,
        "backends": sorted(gone),
        "models": list(found.models),
        "jurisdictions": list(found.jurisdictions),
        "plans": [{"plan": plan, "models": list(models)} for plan, models in found.plans.items()],
        "share": requests / total if total else None,
        "requests": requests,
        "inflight": found.inflight,
        "room": found.room,
        "loses": found.any,
    }


def continues(control: ControlPlane, backend: str) -> dict[str, Any] | None:
    """Whether it can continue answers of others: ``ids``, ``text``, ``no``, or ``unknown``, which counts as no."""
    found = control.observer.continues(backend)
    if found is None:
        return None
    return {
        "how": found.word,
        "reason": found.reason,
        "model": found.model,
        "age_s": _age(found.at_s, control.now_s()),
    }


def burn_in(control: ControlPlane, backend: str) -> dict[str, Any]:
    """The latest burn-in of a backend: ``none``, ``waiting``, ``running``, ``passed`` or ``failed``."""
    known = control.burn_ins.of(backend)
    nothing = {"state": "none", "by": None, "age_s": None, "stage": "", "report": None}
    return {"backend": backend} | (nothing if known is None else known.document())


def region(control: ControlPlane, configured: Region) -> dict[str, Any]:
    spec = configured.spec
    members = [b for b in control.fleet.backends.values() if b.region == spec.name]
    place = {
        "name": spec.name,
        "jurisdiction": spec.jurisdiction,
        "location": list(spec.location) if spec.location is not None else None,
    }
    return place | region_summary([backend(control, b) for b in members])


def request_summary(record: Record) -> dict[str, Any]:
    return known_of(record) | {
        "status": record.status,
        "error": record.error,
        "cause": record.cause,
        "policy": record.policy,
        "region": record.region,
        "backend": record.backend,
        "attempts": len(record.attempts),
        "duration_s": record.duration_s,
        "held_s": record.held_s,
        "output_tokens": record.output_tokens,
        "cached_tokens": record.cached_tokens,
        "cost_usd": record.cost_usd,
    }


def request(record: Record) -> dict[str, Any]:
    """The whole record. Of the prompt's blocks only their number: the hashes mean nothing to people."""
    document = as_document(record)
    document["prefix_blocks"] = len(record.prefix_blocks)
    document["decision"] = decision_document(record)
    return document


def key(entry: Key) -> dict[str, Any]:
    now_s = clock.wall_s()
    overlaps_s = [until_s for until_s in entry.older_until_s if until_s > now_s]
    return {
        "id": entry.id,
        "name": entry.name,
        "tenant": entry.tenant,
        "plan": entry.plan.name,
        "created_s": entry.created_s,
        "revoked": entry.revoked,
        "plan_missing": entry.plan_missing,
        "expires": None if entry.expires_s is None else iso_of(entry.expires_s),
        "expires_s": entry.expires_s,
        "expired": entry.expires_s is not None and entry.expires_s <= now_s,
        "older_secrets": len(overlaps_s),
        "overlap_until_s": max(overlaps_s, default=None),
    }


def chaos(control: ControlPlane) -> dict[str, Any]:
    return {"data": [_fault(control.faults.chaos, fault, left_s) for fault, left_s in control.faults.chaos.running()]}


def _fault(chaos: Chaos, fault: InjectedFault, left_s: float) -> dict[str, Any]:
    own: dict[str, float | None] = {name: None for name, _ in KINDS.values() if name is not None}
    if (name := KINDS[fault.kind][0]) is not None:
        own[name] = int(fault.value) if name in ("after_tokens", "status") else fault.value
    return {
        "fault": fault.kind,
        "target": fault.target,
        "backends": chaos.backends(fault),
        "key": fault.key,
        "share": fault.share,
        **own,
        "says": str(fault),
        "left_s": left_s,
    }


def policies(default: str) -> list[dict[str, Any]]:
    return [
        {"name": name, "summary": summary, "source": source, "default": name == default}
        for name, summary, source in list_policies()
    ]


def _drain(control: ControlPlane, b: Backend) -> dict[str, Any] | None:
    """Since when, for how long, by whom and why; unknown parts are null."""
    drain = control.drains.of(b.name) if b.draining else None
    if drain is None:
        return None
    return {
        "since_s": drain.since_s,
        "until_s": drain.until_s,
        "by": drain.by or None,
        "reason": drain.reason or None,
    }


def _story(control: ControlPlane, b: Backend) -> dict[str, Any]:
    """Since when a backend is as it is, why, and who has wanted it so."""
    since_s: float | None
    why: str | None
    who: str | None
    now_s = control.now_s()
    if b.draining and (drain := control.drains.of(b.name)) is not None:
        since_s, who, why = drain.since_s, drain.by, drain.reason
    elif b.leaving is not None:
        since_s, why, who = clock.wall_s() - now_s + b.leaving.since_s, "it goes away", b.leaving.by
    elif b.burning_in_since_s is not None:
        since_s, why, who = clock.wall_s() - now_s + b.burning_in_since_s, "it has to prove itself", None
    elif not b.usable(now_s) and (story := control.dormants.story(b)) is not None:
        (since_s, why), who = story, None
    else:
        control.chronicle.look()
        since_s, why, who = control.chronicle.story(b)
    return told(since_s, why, who)


def _leaving(b: Backend, now_s: float) -> dict[str, Any] | None:
    """``in_s`` is below zero when it has gone and is not back."""
    if (notice := b.leaving) is None:
        return None
    wall_s = clock.wall_s() - now_s
    return {
        "in_s": notice.until_s - now_s,
        "since_s": wall_s + notice.since_s,
        "until_s": wall_s + notice.until_s,
        "by": notice.by,
    }


def _age(at_s: float | None, now_s: float) -> float | None:
    return max(0.0, now_s - at_s) if at_s is not None and at_s > float("-inf") else None


def reach(shared: bool) -> dict[str, Any]:
    """Whom a drain or a notice has reached. ``shared``: every router knows of it."""
    return {
        "shared": shared,
        "applied": "all routers" if shared else "this router, and the others once the store is back",
    }
