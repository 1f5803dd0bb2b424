"""router regions: regions and backends, in the running router and in the file."""

from __future__ import annotations

import os
import platform
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import units
from cli.client import segment
from cli.commands.traffic import span_s
from cli.context import AdminToken, AdminUrl, AsJson, ConfigPath, Context, context
from cli.errors import CliError, Exit, StatusError
from cli.output import Table, dotted, facts, state
from cli.region_states import backend_state, gauge, goes_on, leaving_story, leaving_words, region_state
from router.core.traits import ENGINES

if TYPE_CHECKING:
    from rich.table import Table as Grid

Json = dict[str, Any]

group = typer.Typer(help="Regions and their backends, running and in the file.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="A region, or a backend as REGION/BACKEND.")]


@dataclass(frozen=True, slots=True)
class ListOptions:
    as_json: bool


@dataclass(frozen=True, slots=True)
class NameOptions:
    name: str
    as_json: bool


@dataclass(frozen=True, slots=True)
class VerbOptions:
    verb: str  # drain | resume | probe
    name: str
    as_json: bool


@dataclass(frozen=True, slots=True)
class NoticeOptions:
    name: str
    span: str | None
    cancel: bool
    as_json: bool


@dataclass(frozen=True, slots=True)
class AddOptions:
    name: str
    config: str
    region: Json
    backend: Json


@dataclass(frozen=True, slots=True)
class RemoveOptions:
    name: str
    config: str


@dataclass(frozen=True, slots=True)
class SetOptions:
    name: str
    assignments: tuple[str, ...]
    config: str


@group.command("list")
def list_(
    ctx: typer.Context, as_json: AsJson = False, admin_url: AdminUrl = None, admin_token: AdminToken = None
) -> None:
    """Every region: its state, how far it is, and how busy."""
    context(ctx, admin_url, admin_token).run(run_list, ListOptions(as_json))


@group.command("show")
def show(
    ctx: typer.Context,
    name: Name,
    as_json: AsJson = False,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """One region and its backends in detail."""
    context(ctx, admin_url, admin_token).run(run_show, NameOptions(name, as_json))


@group.command("add")
def add(
    ctx: typer.Context,
    name: Name,
    url: Annotated[str | None, typer.Option(help="The backend's address, without /v1.")] = None,
    engine: Annotated[str | None, typer.Option(help=f"One of {', '.join(ENGINES)}.")] = None,
    model: Annotated[
        list[str] | None, typer.Option(help="A model it serves; may be repeated. Default: it is asked.")
    ] = None,
    max_inflight: Annotated[int | None, typer.Option(help="Most requests in flight there.")] = None,
    cost_usd_hour: Annotated[float | None, typer.Option(help="For the policy cheapest.")] = None,
    key_env: Annotated[str | None, typer.Option(help="The environment variable that holds its API key.")] = None,
    jurisdiction: Annotated[str | None, typer.Option(help="Of a new region: whose law the data is under.")] = None,
    location: Annotated[str | None, typer.Option(metavar="LAT,LON", help="Of a new region: where it is.")] = None,
    config: ConfigPath = "regions.toml",
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """Add a region, or a backend to one, to the file. A running router takes it over."""
    backend: Json = {"url": url, "engine": engine, "models": model or None, "max_inflight": max_inflight}
    backend |= {"cost_usd_hour": cost_usd_hour, "key_env": key_env}
    region = {"jurisdiction": jurisdiction, "location": location}
    options = AddOptions(name, config, _given(region), _given(backend))
    context(ctx, admin_url, admin_token).run(run_add, options)


@group.command("remove")
def remove(
    ctx: typer.Context,
    name: Name,
    config: ConfigPath = "regions.toml",
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """Remove a region or a backend from the file. Requests in flight there are finished."""
    context(ctx, admin_url, admin_token).run(run_remove, RemoveOptions(name, config))


@group.command("set")
def set_(
    ctx: typer.Context,
    name: Name,
    assignments: Annotated[
        list[str], typer.Argument(metavar="KEY=VALUE...", help="max_inflight=64, models=a,b; KEY= removes it.")
    ],
    config: ConfigPath = "regions.toml",
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """Change keys of a region or a backend in the file."""
    context(ctx, admin_url, admin_token).run(run_set, SetOptions(name, tuple(assignments), config))


@group.command("drain")
def drain(
    ctx: typer.Context,
    name: Name,
    as_json: AsJson = False,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """No new requests to a region or a backend, on every router. Those in flight go on."""
    context(ctx, admin_url, admin_token).run(run_verb, VerbOptions("drain", name, as_json))


@group.command("notice")
def notice(
    ctx: typer.Context,
    name: Name,
    in_: Annotated[
        str | None, typer.Option("--in", metavar="SPAN", help="When it goes away: 120s, 5m; 0 is now.")
    ] = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="It does not go away, or is back.")] = False,
    as_json: AsJson = False,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """A region or a backend goes away soon: no new requests, and answers in progress are handed over before."""
    context(ctx, admin_url, admin_token).run(run_notice, NoticeOptions(name, in_, cancel, as_json))


@group.command("resume")
def resume(
    ctx: typer.Context,
    name: Name,
    as_json: AsJson = False,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """End a drain or a notice."""
    context(ctx, admin_url, admin_token).run(run_verb, VerbOptions("resume", name, as_json))


@group.command("probe")
def probe(
    ctx: typer.Context,
    name: Name,
    as_json: AsJson = False,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """Probe a region's backends now. Exit code 4 if one does not answer."""
    context(ctx, admin_url, admin_token).run(run_verb, VerbOptions("probe", name, as_json))


def _given(values: Json) -> Json:
    return {key: value for key, value in values.items() if value is not None}


def run_list(ctx: Context, options: ListOptions) -> None:
    answer = ctx.admin.get("/admin/v1/regions")
    if options.as_json:
        ctx.out.json(answer)
    elif answer["data"]:
        ctx.out.line(regions_table(answer["data"]))
    else:
        ctx.out.note("No regions. Add one with `router regions add NAME --url http://…`.")


def run_show(ctx: Context, options: NameOptions) -> None:
    name, _, backend = options.name.partition("/")
    regions = ctx.admin.get("/admin/v1/regions")["data"]
    region = next((r for r in regions if r["name"] == name), None)
    if region is None:
        known = ", ".join(r["name"] for r in regions) or "none"
        raise CliError(f"there is no region {name}", hint=f"There are: {known}.")
    if backend:
        found = next((b for b in region["backends"] if b["name"] == options.name), None)
        if found is None:
            known = ", ".join(b["name"] for b in region["backends"]) or "none"
            raise CliError(f"there is no backend {options.name}", hint=f"There are: {known}.")
        if options.as_json:
            ctx.out.json(found)
        else:
            ctx.out.line(backend_facts(found))
    elif options.as_json:
        ctx.out.json(region)
    else:
        _print_region(ctx, region)


def run_notice(ctx: Context, options: NoticeOptions) -> None:
    if (options.span is None) is not options.cancel:
        raise CliError("say when it goes away, or that it does not", code=Exit.USAGE, hint="--in 120s, or --cancel.")
    if options.span is None:
        answer = _act(ctx, options.name, "notice", None)
    else:
        by = f"{os.environ.get('USER') or os.environ.get('LOGNAME') or 'somebody'}@{platform.node()}"
        answer = _act(ctx, options.name, "notice", {"in_s": span_s(options.span), "by": by[:200]})
    leaving = answer["leaving"]
    if options.as_json:
        ctx.out.json(answer)
    elif leaving is None:
        ctx.out.done(f"{options.name} stays ({answer['applied']})")
    else:
        left = answer["inflight"]
        rest = f"; {units.plural(left, 'request')} in flight there" if left else ""
        ctx.out.done(f"{options.name} is {leaving_words(leaving)} ({answer['applied']}){rest}")


def _act(ctx: Context, name: str, verb: str, body: Json | None) -> Json:
    """``body`` None: undo it."""
    path = f"/admin/v1/{'backends' if '/' in name else 'regions'}/{segment(name)}/{verb}"
    try:
        answer: Json = ctx.admin.delete(path) if body is None else ctx.admin.post(path, body)
    except StatusError as error:
        if error.status == 404:
            error.hint = "`router regions list` shows what there is."
        raise
    return answer


def run_verb(ctx: Context, options: VerbOptions) -> Exit:
    answer = _act(ctx, options.name, options.verb, {})
    probes = answer.get("probes") or ([answer["probe"]] if "probe" in answer else [])
    if options.as_json:
        ctx.out.json(answer)
    elif options.verb == "probe":
        ctx.out.line(probes_table(probes))
    elif options.verb == "drain":
        left = answer["inflight"]
        rest = f"; {units.plural(left, 'request')} still in flight there" if left else ""
        ctx.out.done(f"{options.name} gets no new requests ({answer['applied']}){rest}")
    else:
        ctx.out.done(f"{options.name} gets requests again ({answer['applied']})")
    return Exit.UNHEALTHY if any(not p["ok"] for p in probes) else Exit.OK


def run_add(ctx: Context, options: AddOptions) -> None:
    from cli import region_edits

    region = region_edits.region_values(options.region)
    if options.backend and "url" not in options.backend:
        raise CliError("a backend needs an address", code=Exit.USAGE, hint="Say --url http://HOST:PORT.")
    if "/" in options.name and not options.backend:
        raise CliError(f"{options.name} is a backend and needs an address", code=Exit.USAGE, hint="Say --url.")
    added = ""

    def change(document: Any) -> None:
        nonlocal added
        added = region_edits.add(document, options.name, region, options.backend)

    _edit(ctx, options.config, change, lambda: f"added {added}")


def run_remove(ctx: Context, options: RemoveOptions) -> None:
    from cli import region_edits

    _edit(
        ctx,
        options.config,
        lambda document: region_edits.remove(document, options.name),
        lambda: f"removed {options.name}",
    )


def run_set(ctx: Context, options: SetOptions) -> None:
    from cli import region_edits

    _edit(
        ctx,
        options.config,
        lambda document: region_edits.change(document, options.name, options.assignments),
        lambda: f"changed {options.name}",
    )


def _edit(ctx: Context, path: str, change: Callable[[Any], None], what: Callable[[], str]) -> None:
    """Change the file, then have a running router read it."""
    from cli import config_file
    from router.config import warnings

    config = config_file.edit(path, change)
    ctx.out.done(f"{path}: {what()}")
    for warning in warnings(config):
        ctx.out.warn(warning)
    try:
        ctx.admin.post("/admin/v1/config/reload", {})
        running = ctx.admin.get("/admin/v1/config")
    except CliError as error:
        if error.code is Exit.UNREACHABLE:
            ctx.out.note(f"No router at {ctx.admin.url}: it reads the file when it starts.")
            return
        error.message = f"the file is written, but the router does not take it: {error.message}"
        raise
    if config.regions == config_file.running(running, config).regions:
        ctx.out.done(f"the router at {ctx.admin.url} runs it, generation {running['generation']}")
    else:
        ctx.out.warn(f"the router at {ctx.admin.url} runs another file: {running['source']}; name it with --config")


def regions_table(regions: list[Json]) -> Table:
    columns = ("region", "state", "backends", "rtt", "in flight", "queue", "kv cache", "tokens/s", "age")
    right = ("backends", "rtt", "in flight", "queue", "tokens/s", "age")
    made = Table(columns, right=right, drop=("age", "tokens/s", "kv cache", "backends", "queue"))
    for region in regions:
        usable = sum(b["usable"] for b in region["backends"])
        made.add_row(
            f"[bold]{region['name']}[/]",
            region_state(region),
            f"{usable}/{len(region['backends'])}",
            units.seconds(region["rtt_s"]),
            units.count(region["inflight"]),
            units.count(region["queue"]),
            gauge(region["kv_ratio"]),
            units.rate(region["output_tokens_per_s"]),
            units.age(region["age_s"]),
        )
    return made


def backends_table(backends: list[Json]) -> Table:
    columns = ("backend", "state", "engine", "rtt", "in flight", "queue", "kv cache", "tokens/s", "age", "requests")
    right = ("rtt", "in flight", "queue", "tokens/s", "age", "requests")
    drop = ("continues", "engine", "age", "requests", "tokens/s", "failed", "url", "kv cache", "queue")
    made = Table((*columns, "failed", "continues", "url"), right=(*right, "failed"), drop=drop)
    for backend in backends:
        made.add_row(
            f"[bold]{backend['name']}[/]",
            backend_state(backend),
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
            f"[dim]{backend['url']}[/]",
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
    from rich.markup import escape

    rtt, best = units.seconds(backend["rtt_s"]), units.seconds(backend["rtt_floor_s"])
    return facts(
        {
            "backend": f"[bold]{backend['name']}[/]  {backend_state(backend)}",
            "address": f"{backend['url']}  [dim]{backend['engine']}[/]",
            "models": escape(", ".join(backend["models"])) or units.UNKNOWN,
            "round trip": f"{rtt}, at best {best}  [dim]{units.ago(backend['rtt_age_s'])}[/]",
            "requests": f"{backend['inflight']} of {backend['max_inflight']} in flight, "
            f"{units.count(backend['requests_total'])} in all, {units.count(backend['failures_total'])} failed",
            "engine says": f"{units.count(backend['running'])} running, {units.count(backend['queue'])} waiting, "
            f"KV cache {units.ratio(backend['kv_ratio'])}  [dim]{units.ago(backend['load_age_s'])}[/]",
            "speed": f"{units.rate(backend['output_tokens_per_s'])} tokens/s out, "
            f"{units.rate(backend['prefill_tokens_per_s'])} tokens/s prefill",
            "first token": f"prediction off by {units.seconds(backend['ttft_error_s'])}",
            "continues answers": goes_on(backend["continues"]),
            "price": f"{units.usd(backend['cost_usd_hour'])} an hour" if backend["cost_usd_hour"] else None,
            "leaves": leaving_story(backend["leaving"]),
            "last error": backend["last_error"] and f"[yellow]{escape(backend['last_error'])}[/]",
        }
    )


def _print_region(ctx: Context, region: Json) -> None:
    from rich.markup import escape

    where = region["location"] and "{:.1f}, {:.1f}".format(*region["location"])
    law = region["jurisdiction"] and f"jurisdiction {region['jurisdiction']}"
    distance = f"{units.seconds(region['rtt_s'])} away" if region["rtt_s"] is not None else None
    ctx.out.line(f"[bold]{region['name']}[/]  {region_state(region)}  {dotted(law, where, distance)}")
    ctx.out.line("")
    ctx.out.line(backends_table(region["backends"]))
    errors = [b for b in region["backends"] if b["last_error"]]
    if errors:
        ctx.out.line("")
    for backend in errors:
        ctx.out.line(f"[dim]last error of[/] {backend['name']}  [yellow]{escape(backend['last_error'])}[/]")
