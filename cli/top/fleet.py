"""The tables of regions, backends and models."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cli import units
from cli.output import escape
from cli.region_states import GPU_COLOURS, backend_state, gauge, region_state, since, why
from cli.top.alarms import is_down
from cli.top.sheets import Cell, Column, Row, Sheet
from cli.top.view import View

Json = Mapping[str, Any]

#: From this share on the failures of a region or a model are red.
_MANY = 0.05

REGIONS = (
    Column("region", text=True),
    Column("state"),
    Column("since", right=True, leaves=5, largest=True),
    Column("backends", right=True, leaves=6),
    Column("in flight", right=True, largest=True),
    Column("queue", right=True, leaves=9, largest=True),
    Column("req/s", right=True, leaves=8, largest=True),
    Column("p50", right=True, leaves=12, largest=True),
    Column("p99", right=True, leaves=11, largest=True),
    Column("failed", right=True, leaves=10, largest=True),
    Column("tok/s", right=True, leaves=7, largest=True),
    Column("rtt", right=True, leaves=4, largest=True),
    Column("kv cache", leaves=3, largest=True),
    Column("p50 trend", trend=True, leaves=1),
    Column("why", text=True, leaves=2),
)

BACKENDS = (
    Column("backend", text=True),
    Column("state"),
    Column("since", right=True, leaves=8, largest=True),
    Column("engine", leaves=2),
    Column("in flight", right=True, largest=True),
    Column("queue", right=True, leaves=9, largest=True),
    Column("kv cache", leaves=6, largest=True),
    Column("p50", right=True, leaves=11, largest=True),
    Column("p99", right=True, leaves=10, largest=True),
    Column("failed", right=True, leaves=12, largest=True),
    Column("tok/s", right=True, leaves=7, largest=True),
    Column("rtt", right=True, leaves=5, largest=True),
    Column("age", right=True, leaves=3, largest=True),
    Column("models", text=True, leaves=1),
    Column("why", text=True, leaves=4),
)

#: Of backends, before the last two columns, where the configuration names pages of GPUs.
GPUS = (
    Column("gpu", right=True, leaves=8, largest=True),
    Column("gpu mem", right=True, leaves=4, largest=True),
    Column("idle $/h", right=True, leaves=5, largest=True),
)

MODELS = (
    Column("model", text=True),
    Column("region", text=True),
    Column("there", right=True, largest=True),
    Column("needed", right=True, leaves=8, largest=True),
    Column("short", right=True, leaves=9, largest=True),
    Column("in flight", right=True, leaves=6, largest=True),
    Column("waiting", right=True, leaves=7, largest=True),
    Column("req/s", right=True, leaves=5, largest=True),
    Column("p95 expected", right=True, leaves=4, largest=True),
    Column("target", right=True, leaves=3),
    Column("idle $/h", right=True, leaves=2, largest=True),
    Column("because", text=True, leaves=1),
)


def number(value: float | None, told: str | None = None) -> Cell:
    """``told``: how it looks; else as a count."""
    return Cell(units.count(value) if told is None else told, value)


def seconds(value: float | None) -> Cell:
    return Cell(units.seconds(value), value)


def text(value: str | None) -> Cell:
    return Cell(escape(value or units.UNKNOWN), (value or "").lower() or None)


def failed(errors: int | None, requests: int | None) -> Cell:
    """The share of requests that failed."""
    if not requests:
        return Cell(units.UNKNOWN)
    ratio = (errors or 0) / requests
    colour = "red" if ratio >= _MANY else "yellow" if ratio > 0 else "dim"
    return Cell(f"[{colour}]{units.ratio(ratio)}[/]", ratio)


def regions(view: View) -> Sheet:
    stats = view.stats_by("region")
    rows = []
    for region in view.regions:
        told = stats.get(region["name"]) or {}
        ttft = told.get("ttft_s") or {}
        members = region["backends"]
        usable = sum(b["usable"] for b in members)
        lost = sum(map(is_down, members))
        alarm = 2 if region["state"] == "down" and lost else 1 if lost or region["state"] == "degraded" else 0
        cells = (
            Cell(f"[bold]{escape(region['name'])}[/]", region["name"]),
            Cell(region_state(region), region["state"]),
            Cell(since(region), _ago(region)),
            Cell(f"{usable}/{len(members)}", usable),
            number(region["inflight"]),
            number(region["queue"]),
            number(told.get("requests_per_s"), units.rate(told.get("requests_per_s"))),
            seconds(ttft.get("p50")),
            seconds(ttft.get("p99")),
            failed(told.get("errors"), told.get("requests")),
            number(told.get("output_tokens_per_s"), units.rate(told.get("output_tokens_per_s"))),
            seconds(region["rtt_s"]),
            Cell(gauge(region["kv_ratio"]), region["kv_ratio"]),
            Cell(""),
            Cell(why(region), why(region) or None),
        )
        about = {"region": region["name"], "state": region["state"]}
        trend = tuple(view.ttft_of.get(region["name"], ()))
        rows.append(Row(region["name"], cells, alarm, trend, about))
    return Sheet(REGIONS, rows, "no regions: add one with `router regions add NAME --url http://…`")


def backends(view: View) -> Sheet:
    use = view.used_by("backend use", "backend")
    watched = any(b.get("gpu") for b in view.backends)
    rows = []
    for b in view.backends:
        told = use.get(b["name"]) or {}
        ttft = told.get("ttft_s") or {}
        wrong = b["state"] != "healthy" or not b["usable"] or gpu_of(b)["state"] == "starved"
        speed = b["output_tokens_per_s"]
        cells = (
            Cell(f"[bold]{escape(b['name'])}[/]", b["name"]),
            Cell(backend_state(b), b["state"]),
            Cell(since(b), _ago(b)),
            text(b["engine"]),
            Cell(f"{units.count(b['inflight'])}/{units.count(b['max_inflight'])}", b["inflight"]),
            number(b["queue"]),
            Cell(gauge(b["kv_ratio"]), b["kv_ratio"]),
            seconds(ttft.get("p50")),
            seconds(ttft.get("p99")),
            failed(told.get("errors"), told.get("requests")),
            number(speed, units.rate(speed)),
            seconds(b["rtt_s"]),
            number(b["load_age_s"], units.age(b["load_age_s"])),
            *(_gpu_cells(gpu_of(b)) if watched else ()),
            text(", ".join(b["models"])),
            _why(b),
        )
        about = {"region": b["region"], "backend": b["name"], "state": b["state"], "engine": b["engine"]}
        about |= {"model": " ".join(b["models"])}
        rows.append(Row(b["name"], cells, 2 if is_down(b) else 1 if wrong else 0, (), about))
    columns = (*BACKENDS[:-2], *GPUS, *BACKENDS[-2:]) if watched else BACKENDS
    return Sheet(columns, rows, "no backends: add one with `router regions add REGION --url http://…`")


def gpu_of(backend: Json) -> Json:
    """Unknown figures are None, and so are all where no page of GPUs is named."""
    return backend.get("gpu") or dict.fromkeys(("state", "reason", "busy_ratio", "memory_ratio", "idle_usd_hour"))


def _gpu_cells(gpu: Json) -> tuple[Cell, ...]:
    busy, idle = gpu["busy_ratio"], gpu["idle_usd_hour"]
    colour = GPU_COLOURS.get(gpu["state"], "dim")
    return (
        Cell(f"[{colour}]{' '.join(filter(None, (units.ratio(busy), gpu['state'])))}[/]", busy),
        Cell(units.ratio(gpu["memory_ratio"]), gpu["memory_ratio"]),
        number(idle, units.usd(idle)),
    )


def _why(backend: Json) -> Cell:
    """Why it is as it is; of one that is well, why its GPUs have too much or too little to do."""
    told, gpu = why(backend), gpu_of(backend)
    if not told and gpu["state"] in ("saturated", "starved"):
        told = f"[{GPU_COLOURS[gpu['state']]}]GPUs[/] {escape(gpu['reason'])}"
    return Cell(told, told or None)


def models(view: View) -> Sheet:
    rows = []
    for group in view.listed("capacity"):
        short, there, known = group["short"], group["there"], group["known"]
        speed, p95_s = group["requests_per_s"], group["predicted_ttft_s_p95"]
        late = p95_s is not None and group["kept_ttft_s"] is not None and p95_s > group["kept_ttft_s"]
        cells = (
            Cell(f"[bold]{escape(group['model'])}[/]", group["model"]),
            text(group["region"]),
            Cell(str(there) if there == known else f"[yellow]{there}[/] of {known}", there),
            number(group["needed"]),
            Cell(f"[red]{short}[/]" if short else units.count(short), short),
            number(group["inflight"]),
            number(group["waiting"]),
            number(speed, units.rate(speed)),
            Cell(f"[red]{units.seconds(p95_s)}[/]" if late else units.seconds(p95_s), p95_s),
            seconds(group["target_ttft_s"]),
            number(group["idle_usd_hour"], units.usd(group["idle_usd_hour"])),
            text(group["meaning"]),
        )
        alarm = 2 if not there else 1 if short else 0
        about = {"model": group["model"], "region": group["region"]}
        rows.append(Row(f"{group['region']} {group['model']}", cells, alarm, (), about))
    return Sheet(MODELS, rows, "no backend has reported its models yet")


def _ago(thing: Json) -> float | None:
    """Later moments are smaller: the longest time comes first in falling order."""
    at_s = thing.get("since_s")
    return -at_s if at_s is not None else None
