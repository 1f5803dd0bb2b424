"""What is down, as one line that is always on the screen, however many rows the tables have."""

from __future__ import annotations

import time
from typing import Any

from cli import units

Json = dict[str, Any]

#: Words of an engine's or a probe's error that are worth a place in the line.
_WHY_MAX = 40


def is_down(backend: Json) -> bool:
    """It gets no requests, and nobody wanted it so."""
    on_purpose = backend["draining"] or backend["asleep"] or backend["leaving"]
    return not backend["usable"] and not on_purpose and backend["burning_in_s"] is None


def down(regions: list[Json]) -> list[tuple[str, Json]]:
    """Names of what is down, the longest first: a region where all of it is, else its backends."""
    found: list[tuple[str, Json]] = []
    for region in regions:
        lost = [b for b in region["backends"] if is_down(b)]
        if lost and region["state"] == "down":
            found.append((region["name"], region))
        else:
            found += [(b["name"], b) for b in lost]
    return sorted(found, key=lambda entry: entry[1].get("since_s") or 0.0)


def alarm(regions: list[Json], room: int, now_s: float | None = None) -> str:
    """``3 down: eu-central (4m, connection refused), us-east/b (12 s)``, as much as fits; empty when nothing is down.
    The number is always there."""
    found = down(regions)
    if not found:
        return ""
    now_s = time.time() if now_s is None else now_s
    head = f"{len(found)} down: "
    for told in (_whole, _aged, _named):
        text = head + ", ".join(told(name, thing, now_s) for name, thing in found)
        if len(text) <= room:
            return text
    kept: list[str] = []
    for number, (name, _) in enumerate(found, 1):
        left = len(found) - number
        text = head + ", ".join([*kept, name]) + (f" and {left} more" if left else "")
        if len(text) > room:
            break
        kept.append(name)
    if not kept:
        return head.rstrip(": ")
    return f"{head}{', '.join(kept)} and {len(found) - len(kept)} more"


def _whole(name: str, thing: Json, now_s: float) -> str:
    why = str(thing.get("why") or thing.get("last_error") or "")[:_WHY_MAX]
    told = ", ".join(filter(None, (_age(thing, now_s), why)))
    return f"{name} ({told})" if told else name


def _aged(name: str, thing: Json, now_s: float) -> str:
    age = _age(thing, now_s)
    return f"{name} ({age})" if age else name


def _named(name: str, thing: Json, now_s: float) -> str:
    return name


def _age(thing: Json, now_s: float) -> str:
    since_s = thing.get("since_s")
    return units.age(max(0.0, now_s - since_s)) if since_s is not None else ""
