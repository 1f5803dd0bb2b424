"""How regions and backends are, in a word or a small bar."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from cli import charts, units
from cli.output import dotted, escape, state

Json = Mapping[str, Any]


def region_state(region: Json) -> str:
    return _leaving(region["leaving"]) if region["state"] == "leaving" else state(region["state"])


def backend_state(backend: Json) -> str:
    if backend["draining"]:
        return state("draining")
    if backend["asleep"]:
        return state("asleep")
    if backend["leaving"]:
        return _leaving(backend["leaving"])
    if not backend.get("ready", True):
        return state("leaving", text="not ready")
    if backend["burning_in_s"] is not None:
        return state("probation", text=f"burning in, since {units.age(backend['burning_in_s'])}")
    return state(backend["state"], text=backend["state"] if backend["usable"] else f"{backend['state']}, unusable")


def _leaving(leaving: Json | None) -> str:
    """None: of a region, some of whose backends are drained."""
    if leaving is None:
        return state("leaving")
    return state("leaving" if leaving["in_s"] > 0 else "left", text=leaving_words(leaving))


def leaving_words(leaving: Json) -> str:
    """When it goes away, or when it has."""
    in_s = leaving["in_s"]
    return f"leaving in {units.seconds(in_s)}" if in_s > 0 else f"gone, {units.ago(-in_s)}"


def leaving_story(leaving: Json | None) -> str | None:
    """When it goes away, since when that is known, and who said so."""
    if leaving is None:
        return None
    when = f"in {units.seconds(leaving['in_s'])}" if leaving["in_s"] > 0 else units.ago(-leaving["in_s"])
    return dotted(when, f"said at {units.clock(leaving['since_s'])}", f"by {escape(leaving['by'])}")


def drain_story(drain: Json | None) -> str | None:
    """Since when it is drained, for how long, who wished it and why."""
    if drain is None:
        return None
    ends = units.clock(drain["until_s"]) if drain["until_s"] is not None else None
    return dotted(
        f"since {units.clock(drain['since_s'])}" if drain["since_s"] is not None else "draining",
        f"until {ends}" if ends else "until it is resumed",
        f"by {escape(drain['by'])}" if drain["by"] else None,
        escape(drain["reason"]) if drain["reason"] else None,
    )


def any_found(backends: Iterable[Json]) -> tuple[str, ...]:
    """The title of a column for sources, if it would say more than "file"."""
    return ("source",) if any(b.get("source") and b["source"]["name"] != "file" for b in backends) else ()


def sources_of(backends: Iterable[Json]) -> str:
    """How many backends each source has brought: ``file 2, gpus 5``."""
    counts = Counter(b["source"]["name"] for b in backends if b.get("source"))
    return ", ".join(f"{name} {count}" for name, count in counts.items())


def source_words(backend: Json) -> str:
    """The source of a backend, and what it says, unless that is what one expects."""
    source = backend["source"]
    return str(source["name"]) + ("" if source["says"] == "ready" else f": {_SAYS[source['says']]}")


def source_story(backend: Json) -> str | None:
    """All that the source of a backend says; None: the file, which says what it says."""
    source = backend.get("source")
    if not source or source["name"] == "file":
        return None
    facts = [f"{name} {escape(value)}" for name, value in source["facts"].items()]
    lease = source["lease_s"]
    return dotted(
        f"{_SAYS[source['says']]}, says {' '.join(dict.fromkeys((source['kind'], source['name'])))}",
        f"heard {units.ago(source['heard_s'])}" if source["heard_s"] is not None else None,
        f"on the roll since {units.age(source['since_s'])}" if source["since_s"] is not None else None,
        f"lease ends in {units.seconds(lease)}" if lease is not None else None,
        *facts,
    )


_SAYS = {"ready": "ready", "not_ready": "not ready", "leaving": "leaving", "not_listed": "not listed any more"}


def goes_on(found: Json | None) -> str:
    """Whether it can continue an answer that another backend began."""
    if found is None:
        return units.UNKNOWN
    words = {"ids": "[green]after tokens and text[/]", "text": "[green]after a text[/]", "no": "[yellow]no[/]"}
    return f"{words.get(found['how'], 'not known yet')}  [dim]{escape(found['reason'])}[/]"


def since(thing: Json) -> str:
    """How long a region or a backend has been as it is."""
    at_s = thing.get("since_s")
    return units.age(max(0.0, time.time() - at_s)) if at_s is not None else units.UNKNOWN


def why(thing: Json) -> str:
    """Why it is not as it should be, and who wanted it so; empty when all is well."""
    from rich.markup import escape

    well = thing["state"] in ("ok", "healthy") and not thing["draining"] and thing.get("usable", True)
    if well and not thing["leaving"] and not thing.get("asleep"):
        return ""
    by = thing.get("who")
    return escape("; ".join(filter(None, (thing.get("why"), f"by {by}" if by else None))))


def story(thing: Json) -> str | None:
    """The same as one sentence: since when, and why."""
    from rich.markup import escape

    if thing.get("since_s") is None:
        return None
    return dotted(
        f"{units.clock(thing['since_s'])}, {since(thing)}",
        escape(thing["why"] or ""),
        f"by {escape(thing['who'])}" if thing["who"] else "",
    )


def elsewhere(backend: Json) -> str | None:
    """How routers see it that do not see it as the first one does."""
    seen = backend.get("routers") or []
    others = [s for s in seen[1:] if (s["state"], s["usable"]) != (seen[0]["state"], seen[0]["usable"])]
    return dotted(*(f"{escape(s['state'])} for {escape(s['router'])}" for s in others)) or None


def gauge(share: float | None) -> str:
    """A small bar and its number, coloured by how full it is."""
    if share is None:
        return units.UNKNOWN
    colour = "green" if share < 0.7 else "yellow" if share < 0.9 else "red"
    return f"[{colour}]{charts.bar(share, 6)}[/] {units.ratio(share):>5}"


GPU_COLOURS = {"saturated": "red", "starved": "yellow", "working": "green"}


def gpu_story(gpu: Json | None) -> str | None:
    """The GPUs of a backend in a line: how many, how they stand and why, and what idle ones cost."""
    if gpu is None:
        return None
    if gpu["gpus"] is None:
        return f"[yellow]unknown[/]: {escape(gpu['problem'] or 'not read yet')}"
    colour = GPU_COLOURS.get(gpu["state"], "dim")
    parts = [f"{gpu['gpus']}", f"[{colour}]{gpu['state']}[/]: {escape(gpu['reason'])}"]
    if gpu["memory_ratio"] is not None:
        parts.append(f"memory {units.ratio(gpu['memory_ratio'])}")
    if gpu["power_w"] is not None:
        parts.append(f"{gpu['power_w']:.0f} W")
    if gpu["idle_usd_hour"]:
        parts.append(f"{units.usd(gpu['idle_usd_hour'])} an hour for doing nothing")
    return dotted(*parts)
