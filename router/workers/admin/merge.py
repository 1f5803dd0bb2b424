"""Puts the answers of several workers together as the answer of one router. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from statistics import fmean
from typing import Any

from router.control.dormants import merged as merged_dormants
from router.control.filters import SUMMARY_ORDERS, oldest_first
from router.control.fleetwide import merged_strains
from router.control.region_views import region_summary
from router.core.health import State
from router.core.traits import Continues
from router.telemetry.formats import END, Format
from router.telemetry.metrics import ACROSS_WORKERS, SPECS, GaugeSample

Document = dict[str, Any]

_SUMMED = (
    "inflight",
    "max_inflight",
    "uncached_tokens",
    "output_tokens_per_s",
    "requests_total",
    "failures_total",
)
_FROM_LAST_PROBE = ("rtt_s", "rtt_floor_s", "rtt_age_s")
_FROM_LAST_SCRAPE = ("queue", "running", "kv_ratio", "load_age_s")
_WORST_LAST = (State.HEALTHY, State.PROBATION, State.SUSPECT, State.EJECTED)


def status(answers: Sequence[Document]) -> Document:
    """Merge the statuses. Of their traffic only counts: rates and percentiles come from the merged window."""
    first = answers[0]
    rtts_s = [a["store"]["rtt_s"] for a in answers if a["store"]["rtt_s"] is not None]
    store = next((a["store"] for a in answers if a["store"]["state"] == "down"), first["store"])
    return {
        "router": max((a["router"] for a in answers), key=lambda r: bool(r["ready"])),
        "store": store | {"rtt_s": max(rtts_s, default=None)},
        "traffic": {name: sum(a["traffic"][name] for a in answers) for name in ("inflight", "queued")},
        "fleet": first["fleet"],
        "differences": [],
        "troubles": [],
        "dormant": merged_dormants(a.get("dormant", ()) for a in answers),
        "strained": merged_strains(a.get("strained", ()) for a in answers),
        "regions": max((a["regions"] for a in answers), key=lambda r: r["usable"]),
        "backends": max((a["backends"] for a in answers), key=lambda b: b["usable"]),
    }


def backend(views: Sequence[Document]) -> Document:
    """One backend as several workers see it: their own counts are added, and of readings the latest holds. Its state is
    the worst that a worker sees, and it is usable if one worker may use it."""
    merged = dict(views[0])
    merged |= {name: sum(v[name] for v in views) for name in _SUMMED}
    merged |= _latest(views, "rtt_age_s", _FROM_LAST_PROBE)
    merged |= _latest(views, "load_age_s", _FROM_LAST_SCRAPE)
    merged["models"] = sorted({model for v in views for model in v["models"]})
    worst = max(views, key=lambda v: [s.value for s in _WORST_LAST].index(v["state"]))
    merged |= {name: worst[name] for name in ("state", "since", "since_s", "why", "who")}
    merged["usable"] = any(v["usable"] for v in views)
    merged["asleep"] = all(v["asleep"] for v in views)
    merged["strained"] = _first(v["strained"] for v in views)
    merged["leaving"] = next((v["leaving"] for v in views if v["leaving"] is not None), None)
    merged["burning_in_s"] = max((s for v in views if (s := v["burning_in_s"]) is not None), default=None)
    merged["draining"] = any(v["draining"] for v in views)
    merged["ready"] = all(v["ready"] for v in views)
    for name in ("prefill_tokens_per_s", "ttft_error_s"):
        known = [v[name] for v in views if v[name] is not None]
        merged[name] = fmean(known) if known else None
    merged["continues"] = _least_certain([v["continues"] for v in views if v["continues"] is not None])
    merged["last_error"] = next((v["last_error"] for v in views if v["last_error"]), None)
    return merged


def _first(since_s: Iterable[Mapping[str, float]]) -> dict[str, float]:
    """Since the first of them saw it."""
    found: dict[str, float] = {}
    for model, at_s in (item for each in since_s for item in each.items()):
        found[model] = min(at_s, found.get(model, at_s))
    return found


def backends(lists: Sequence[Sequence[Document]]) -> list[Document]:
    return [backend(views) for views in _by_name(lists)]


def region(views: Sequence[Document]) -> Document:
    return views[0] | region_summary(backends([v["backends"] for v in views]))


def regions(lists: Sequence[Sequence[Document]]) -> list[Document]:
    return [region(views) for views in _by_name(lists)]


def capacity(answers: Sequence[Document]) -> Document:
    """Each worker counts the requests of all, and some may be late with news: the one that sees most is right."""
    groups: dict[tuple[str, str], list[Document]] = {}
    for answer in answers:
        for group in answer["data"]:
            groups.setdefault((group["region"], group["model"]), []).append(group)
    merged = []
    for found in groups.values():
        most = max(found, key=lambda g: (g["needed"] or 0, g["there"]))
        merged.append(most | {"waiting": max(g["waiting"] for g in found)})
    whole = {"data": merged, "idle_usd_hour": sum(g["idle_usd_hour"] for g in merged)}
    dormant = [a["dormant"] for a in answers if "dormant" in a]
    strained = merged_strains(a.get("strained", ()) for a in answers)
    return whole | {"strained": strained} | ({"dormant": merged_dormants(dormant)} if dormant else {})


def learned(answers: Sequence[Document]) -> Document:
    """Of each backend what the worker says that has seen the most of it: every one learns from its own requests."""
    merged = dict(answers[0])
    merged["backends"] = [max(views, key=_samples) for views in _by_name([a["backends"] for a in answers])]
    return merged


def _samples(view: Document) -> float:
    return float(sum(lane["samples"] for lane in view["learned"].values()))


def requests(lists: Iterable[Sequence[Document]], limit: int, order: str = "time") -> list[Document]:
    """The requests of all workers, the largest first in the order of ``control/filters``; ``time``: the newest."""
    every = [entry for entries in lists for entry in entries]
    every.sort(key=SUMMARY_ORDERS[order], reverse=True)
    return every[:limit]


def in_flight(answers: Sequence[Document], limit: int) -> Document:
    """The requests in flight of all workers, the oldest first."""
    data = oldest_first([entry for answer in answers for entry in answer["data"]], limit)
    return {"data": data, "count": sum(answer["count"] for answer in answers)}


def events(lists: Iterable[Sequence[Document]], limit: int) -> list[Document]:
    """The events that any worker knows, the newest first. All of them know those that the store shares."""
    every = {entry["id"]: entry for entries in lists for entry in entries}
    return sorted(every.values(), key=lambda e: float(e["at_s"]), reverse=True)[:limit]


def metrics(pages: Mapping[int, str], own: Iterable[GaugeSample] = (), form: Format = Format.TEXT) -> str:
    """The pages of the workers, by their number, as one page; see ``ACROSS_WORKERS``. ``own``: what only the process in
    front of them knows."""
    comments: dict[str, list[str]] = {}
    lines: dict[str, list[str]] = {}
    merged: dict[str, dict[str, float]] = {}
    for worker, page in pages.items():
        family = ""
        for line in page.splitlines():
            if line.startswith("# EOF"):
                break
            if line.startswith("# "):
                kind, family, _ = line[2:].split(" ", 2)
                known = comments.setdefault(family, [])
                if not any(c.startswith(f"# {kind} ") for c in known):
                    known.append(line)
            elif family in ACROSS_WORKERS:
                series, _, value = line.rpartition(" ")
                values = merged.setdefault(family, {})
                number = float(value)
                values[series] = ACROSS_WORKERS[family](values[series], number) if series in values else number
            elif line:
                lines.setdefault(family, []).append(_labelled(line, worker))
    for family, values in merged.items():
        lines[family] = [f"{series} {value!r}" for series, value in values.items()]
    parts = ["\n".join([*comments[family], *lines[family]]) for family in comments if family in lines]
    for sample in own:
        spec = SPECS[sample.name]
        parts += [*form.heading(spec.name, spec.kind, spec.help), f"{spec.name} {sample.value + 0!r}"]
    return "\n".join(parts) + "\n" + (END if form is Format.OPENMETRICS else "")


def _labelled(line: str, worker: int) -> str:
    name, brace, rest = line.partition("{")
    if brace:
        return f'{name}{{worker="{worker}",{rest}'
    name, _, value = line.rpartition(" ")
    return f'{name}{{worker="{worker}"}} {value}'


def _latest(views: Sequence[Document], age: str, names: Sequence[str]) -> Document:
    latest = min(views, key=lambda v: v[age] if v[age] is not None else float("inf"))
    return {name: latest[name] for name in names}


def _least_certain(views: Sequence[Document]) -> Document | None:
    """Each worker asks for itself: what the one says that believes least."""
    words = ("unknown", *(c.word for c in Continues))
    return min(views, key=lambda v: words.index(v["how"]), default=None)


def _by_name(lists: Sequence[Sequence[Document]]) -> list[list[Document]]:
    """The entries of the same name together, in the order of the first list."""
    groups: dict[str, list[Document]] = {}
    for entries in lists:
        for entry in entries:
            groups.setdefault(entry["name"], []).append(entry)
    return list(groups.values())
