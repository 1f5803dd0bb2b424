"""A region as the JSON of the admin API: what the views of its backends say about it."""

from __future__ import annotations

from statistics import fmean
from typing import Any

from router.core.health import State
from router.telemetry.history import iso


def region_summary(members: list[dict[str, Any]]) -> dict[str, Any]:
    """A region as the views of its backends tell of it."""
    return {
        "state": region_state(members),
        "asleep": bool(members) and all(b["asleep"] for b in members),
        "draining": bool(members) and all(b["draining"] for b in members),
        "leaving": _first_to_leave(members),
        **_story_of_region(members),
        "rtt_s": min(_known(members, "rtt_s"), default=None),
        "inflight": sum(b["inflight"] for b in members),
        "queue": _sum(_known(members, "queue")),
        "kv_ratio": _mean(_known(members, "kv_ratio")),
        "output_tokens_per_s": sum(b["output_tokens_per_s"] for b in members),
        "age_s": max(_known(members, "load_age_s"), default=None),
        "backends": members,
    }


def region_state(members: list[dict[str, Any]]) -> str:
    """``draining``, ``leaving``, ``asleep``: all of it, or the rest of it; ``down``: none is usable; ``degraded``: some
    is not, or is watched; else ``ok``. One that sleeps on purpose is missed nowhere."""
    members = [b for b in members if not b["asleep"] or b["draining"]] or members
    if members and all(b["asleep"] and not b["draining"] for b in members):
        return "asleep"
    if members and all(b["draining"] for b in members):
        return "draining"
    if members and all(b["draining"] or b["leaving"] for b in members):
        return "leaving"
    if not any(b["usable"] for b in members):
        return "down"
    if any(b["state"] != State.HEALTHY.value or not b["usable"] for b in members):
        return "degraded"
    return "ok"


def told(since_s: float | None, why: str | None, who: str | None) -> dict[str, Any]:
    """Since when, why, and who has wanted it so, as every view has it."""
    since = None if since_s is None else iso(since_s)
    return {"since": since, "since_s": since_s, "why": why or None, "who": who or None}


def _story_of_region(members: list[dict[str, Any]]) -> dict[str, Any]:
    """The same of a region: that of the backend which made it what it is."""
    state = region_state(members)
    members = [m for m in members if not m["asleep"]] or members
    if state == "down":
        found = [m for m in members if not m["usable"]]
    elif state == "degraded":
        found = [m for m in members if m["state"] != State.HEALTHY.value or not m["usable"]]
    else:
        found = members
    known = [m for m in found if m["since_s"] is not None]
    if state == "ok":  # one that is new and well has changed nothing: the others were well before it came
        known = [m for m in known if m["why"]] or sorted(known, key=lambda m: float(m["since_s"]))[:1]
    if not known:
        return told(None, None, None)
    first = state == "degraded"
    decisive = min(known, key=lambda m: float(m["since_s"])) if first else max(known, key=lambda m: float(m["since_s"]))
    story = {name: decisive[name] for name in ("since", "since_s", "why", "who")}
    if len(members) > 1 and first and story["why"]:
        story["why"] = f"{decisive['name']}: {story['why']}"
    return story


def _first_to_leave(members: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The first notice, if all of them leave."""
    found: list[dict[str, Any]] = [b["leaving"] for b in members if b["leaving"] is not None]
    return min(found, key=lambda leaving: float(leaving["in_s"])) if found and len(found) == len(members) else None


def _known(views: list[dict[str, Any]], name: str) -> list[float]:
    return [view[name] for view in views if view[name] is not None]


def _sum(values: list[float]) -> float | None:
    return sum(values) if values else None


def _mean(values: list[float]) -> float | None:
    return fmean(values) if values else None
