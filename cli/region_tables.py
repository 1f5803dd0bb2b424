"""Regions and backends as tables, and all there is to know about one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cli import units
from cli.output import Output, Table, dotted, escape, facts, state
from cli.region_states import (
    any_found,
    backend_state,
    drain_story,
    elsewhere,
    gauge,
    goes_on,
    gpu_story,
    leaving_story,
    region_state,
    since,
    source_story,
    source_words,
    sources_of,
    story,
    why,
)

if TYPE_CHECKING:
    from rich.table import Table as Grid

Json = dict[str, Any]


def regions_table(regions: list[Json]) -> Table:
    columns = ("region", "state", "since", "backends", "rtt", "in flight", "queue", "kv cache", "tokens/s", "age")
    right = ("since", "backends", "rtt", "in flight", "queue", "tokens/s", "age")
    drop = ("age", "tokens/s", "kv cache", "source", "backends", "queue", "since")
    found = any_found(b for region in regions for b in region["backends"])
    made = Table((*columns, *found, "why"), right=right, drop=drop, empty=("why",))
    for region in regions:
        usable = sum(b["usable"] for b in region["backends"])
        made.add_row(
            f"[bold]{region['name']}[/]",
            region_state(region),
            since(region),
            f"{usable}/{len(region['backends'])}",
            units.seconds(region["rtt_s"]),
            units.count(region["inflight"]),
            units.count(region["queue"]),
            gauge(region["kv_ratio"]),
            units.rate(region["output_tokens_per_s"]),
            units.age(region["age_s"]),
            *(sources_of(region["backends"]) for _ in found),
            why(region),
        )
    return made


def backends_table(backends: list[Json]) -> Table:
    columns = ("backend", "state", "since", "engine", "rtt", "in flight", "queue", "kv cache", "tokens/s", "age")
    found = any_found(backends)
    more = ("requests", "failed", "continues", *found, "url", "why")
    right = ("since", "rtt", "in flight", "queue", "tokens/s", "age", "requests", "failed")
    less = ("continues", "engine", "age", "requests", "tokens/s", "failed", "url", "kv cache")
    made = Table((*columns, *more), right=right, drop=(*less, "source", "queue", "since"), empty=("why",))
    for backend in backends:
        made.add_row(
            f"[bold]{backend['name']}[/]",
            backend_state(backend),
            since(backend),
            backend["engine"],
            units.seconds(backend["rtt_s"]),
            f"{backend['inflight']}/{backend['max_inflight']}",
            units.count(backend["queue"]),
            gauge(backend["kv_ratio"]),
            units.rate(backend["output_tokens_per_s"]),
            units.age(backend["load_age_s"]),
            units.count(backend["requests_total"]),
            units.count(backend["failures_total"]),
            backend["continues"]["how"] if backend["continues"] else units.UNKNOWN,
            *(source_words(backend) for _ in found),
            f"[dim]{backend['url']}[/]",
            why(backend),
        )
    return made


def probes_table(probes: list[Json]) -> Table:
    made = Table(("backend", "answer", "rtt", "models", ""), right=("rtt",), drop=("models",))
    for probe in probes:
        answer = state("ok", text=f"HTTP {probe['status']}") if probe["ok"] else state("down", text="no answer")
        if not probe["ok"] and probe["status"] is not None:
            answer = state("down", text=f"HTTP {probe['status']}")
        models = ", ".join(probe["models"]) or units.UNKNOWN
        made.add_row(probe["backend"], answer, units.seconds(probe["rtt_s"]), models, probe["error"] or "")
    return made


def backend_facts(backend: Json) -> Grid:
    """All facts about one backend, one line each."""
    rtt, best = units.seconds(backend["rtt_s"]), units.seconds(backend["rtt_floor_s"])
    return facts(
        {
            "backend": f"[bold]{backend['name']}[/]  {backend_state(backend)}",
            "since": story(backend),
            "elsewhere": elsewhere(backend),
            "address": f"{backend['url']}  [dim]{backend['engine']}[/]",
            "models": escape(", ".join(backend["models"])) or units.UNKNOWN,
            "round trip": f"{rtt}, at best {best}  [dim]{units.ago(backend['rtt_age_s'])}[/]",
            "requests": f"{backend['inflight']} of {backend['max_inflight']} in flight, "
            f"{units.count(backend['requests_total'])} in all, {units.count(backend['failures_total'])} failed",
            "engine says": f"{units.count(backend['running'])} running, {units.count(backend['queue'])} waiting, "
            f"KV cache {units.ratio(backend['kv_ratio'])}  [dim]{units.ago(backend['load_age_s'])}[/]",
            "GPUs": gpu_story(backend.get("gpu")),
            "speed": f"{units.rate(backend['output_tokens_per_s'])} tokens/s out, "
            f"{units.rate(backend['prefill_tokens_per_s'])} tokens/s prefill",
            "first token": f"prediction off by {units.seconds(backend['ttft_error_s'])}",
            "continues answers": goes_on(backend["continues"]),
            "price": f"{units.usd(backend['cost_usd_hour'])} an hour" if backend["cost_usd_hour"] else None,
            "drained": drain_story(backend.get("drain")),
            "leaves": leaving_story(backend["leaving"]),
            "overloaded": strained_story(backend),
            "source says": source_story(backend),
            "last error": backend["last_error"] and f"[yellow]{escape(backend['last_error'])}[/]",
        }
    )


def strained_story(backend: Json) -> str | None:
    """The models of this backend for which smaller variants answer."""
    lines = [f"[yellow]{escape(m)}[/] since {units.clock(at_s)}" for m, at_s in backend.get("strained", {}).items()]
    return dotted(*lines) if lines else None


def print_region(out: Output, region: Json) -> None:
    """A region, its backends, and what last went wrong at each."""
    where = region["location"] and "{:.1f}, {:.1f}".format(*region["location"])
    law = region["jurisdiction"] and f"jurisdiction {region['jurisdiction']}"
    distance = f"{units.seconds(region['rtt_s'])} away" if region["rtt_s"] is not None else None
    out.line(f"[bold]{region['name']}[/]  {region_state(region)}  {dotted(law, where, distance)}")
    out.line("")
    out.line(backends_table(region["backends"]))
    told = [(b["name"], gpu_story(b["gpu"])) for b in region["backends"] if b.get("gpu")]
    if told:
        out.line("")
    for name, words in told:
        out.line(f"[dim]GPUs of[/] {name}  {words}")
    overloaded = [(b["name"], story) for b in region["backends"] if (story := strained_story(b))]
    if overloaded:
        out.line("")
    for name, words in overloaded:
        out.line(f"[dim]overloaded at[/] {name}  {words}")
    errors = [b for b in region["backends"] if b["last_error"]]
    if errors:
        out.line("")
    for backend in errors:
        out.line(f"[dim]last error of[/] {backend['name']}  [yellow]{escape(backend['last_error'])}[/]")
