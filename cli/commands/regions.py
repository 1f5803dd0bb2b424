"""router regions: regions and backends, in the running router and in the file."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import applying, asking, config_file, confirm, units
from cli.client import segment
from cli.commands.events import print_history
from cli.commands.traffic import span_s
from cli.confirm import Force
from cli.context import AdminToken, AdminUrl, AsJson, Context, OwnConfigPath, Router, context, operator
from cli.errors import CliError, Exit, StatusError, nobody_runs, unknown
from cli.region_states import leaving_words
from cli.region_tables import backend_facts, print_region, probes_table, regions_table
from router.core.traits import ENGINES

if TYPE_CHECKING:
    from router.config import Config
    from router.core.types import BackendSpec

Json = dict[str, Any]

group = typer.Typer(help="Regions and their backends, running and in the file.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="A region, or a backend as REGION/BACKEND.")]


@dataclass(frozen=True, slots=True)
class ListOptions:
    as_json: bool
    router: str | None = None


@dataclass(frozen=True, slots=True)
class NameOptions:
    name: str
    as_json: bool
    router: str | None = None


@dataclass(frozen=True, slots=True)
class VerbOptions:
    verb: str  # resume | probe
    name: str
    as_json: bool


@dataclass(frozen=True, slots=True)
class NoticeOptions:
    name: str
    span: str | None
    cancel: bool
    as_json: bool
    force: bool = False


@dataclass(frozen=True, slots=True)
class AddOptions:
    name: str
    config: str | None  # None: the running router's
    region: Json
    backend: Json
    force: bool = False


@dataclass(frozen=True, slots=True)
class RemoveOptions:
    name: str
    config: str | None
    force: bool = False


@dataclass(frozen=True, slots=True)
class SetOptions:
    name: str
    assignments: tuple[str, ...]
    config: str | None


@group.command("list")
def list_(
    ctx: typer.Context,
    router: Router = None,
    as_json: AsJson = False,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """Every region: its state, how far it is, and how busy."""
    context(ctx, admin_url, admin_token).run(run_list, ListOptions(as_json, router))


@group.command("show")
def show(
    ctx: typer.Context,
    name: Name,
    router: Router = None,
    as_json: AsJson = False,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """One region and its backends in detail."""
    context(ctx, admin_url, admin_token).run(run_show, NameOptions(name, as_json, router))


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
    force: Annotated[bool, typer.Option("--force", help="Also an address where no engine answers.")] = False,
    config: OwnConfigPath = None,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """Add a region, or a backend to one, to the file. The backend is asked first what it is; a running router checks
    the file before it is written, and picks it up."""
    backend: Json = {"url": url, "engine": engine, "models": model or None, "max_inflight": max_inflight}
    backend |= {"cost_usd_hour": cost_usd_hour, "key_env": key_env}
    region = {"jurisdiction": jurisdiction, "location": location}
    options = AddOptions(name, config, _given(region), _given(backend), force)
    context(ctx, admin_url, admin_token).run(run_add, options)


@group.command("remove")
def remove(
    ctx: typer.Context,
    name: Name,
    force: Force = False,
    config: OwnConfigPath = None,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """Remove a region or a backend from the file. Requests in flight there finish normally."""
    context(ctx, admin_url, admin_token).run(run_remove, RemoveOptions(name, config, force))


@group.command("set")
def set_(
    ctx: typer.Context,
    name: Name,
    assignments: Annotated[
        list[str], typer.Argument(metavar="KEY=VALUE...", help="max_inflight=64, models=a,b; KEY= removes it.")
    ],
    config: OwnConfigPath = None,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """Change keys of a region or a backend in the file."""
    context(ctx, admin_url, admin_token).run(run_set, SetOptions(name, tuple(assignments), config))


@group.command("notice")
def notice(
    ctx: typer.Context,
    name: Name,
    in_: Annotated[
        str | None, typer.Option("--in", metavar="SPAN", help="When it goes away: 120s, 5m; 0 is now.")
    ] = None,
    cancel: Annotated[bool, typer.Option("--cancel", help="It does not go away, or is back.")] = False,
    force: Force = False,
    as_json: AsJson = False,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """A region or a backend goes away soon: no new requests, and answers in progress are handed over before.

    If a model, a jurisdiction or a plan would lose its last backend, it says so, and asks a person at a terminal.
    """
    context(ctx, admin_url, admin_token).run(run_notice, NoticeOptions(name, in_, cancel, as_json, force))


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
    answer = ctx.admin.get("/admin/v1/regions", router=options.router)
    if options.as_json:
        ctx.out.json(answer)
    elif answer["data"]:
        ctx.out.line(regions_table(answer["data"]))
        ctx.scope(answer)
    else:
        ctx.out.note("No regions. Add one with `router regions add NAME --url http://…`.")


def run_show(ctx: Context, options: NameOptions) -> None:
    name, _, backend = options.name.partition("/")
    regions = ctx.admin.get("/admin/v1/regions", router=options.router)["data"]
    region = next((r for r in regions if r["name"] == name), None)
    if region is None:
        raise unknown("region", name, [r["name"] for r in regions])
    if backend:
        found = next((b for b in region["backends"] if b["name"] == options.name), None)
        if found is None:
            raise unknown("backend", options.name, [b["name"] for b in region["backends"]])
        if options.as_json:
            ctx.out.json(found)
        else:
            ctx.out.line(backend_facts(found))
            print_history(ctx, backend=options.name)
    elif options.as_json:
        ctx.out.json(region)
    else:
        print_region(ctx.out, region)
        print_history(ctx, region=name)


def run_notice(ctx: Context, options: NoticeOptions) -> None:
    if (options.span is None) is not options.cancel:
        raise CliError("say when it goes away, or that it does not", code=Exit.USAGE, hint="--in 120s, or --cancel.")
    if options.span is None:
        answer = act(ctx, options.name, "notice", None)
    else:
        in_s, losses = span_s(options.span), confirm.lost(confirm.place_losses(ctx, options.name))
        # A hook of a machine that is taken away cannot be asked, and refusing would keep the machine no longer.
        confirm.confirm(ctx, f"notice for {options.name}", losses, force=options.force or not ctx.can_ask)
        answer = act(ctx, options.name, "notice", {"in_s": in_s, "by": operator()})
    leaving = answer["leaving"]
    if options.as_json:
        ctx.out.json(answer)
    elif leaving is None:
        ctx.out.done(f"{options.name} stays ({answer['applied']})")
    else:
        left = answer["inflight"]
        rest = f"; {units.plural(left, 'request')} in flight there" if left else ""
        ctx.out.done(f"{options.name} is {leaving_words(leaving)} ({answer['applied']}){rest}")


def act(ctx: Context, name: str, verb: str, body: Json | None) -> Json:
    """Do something with a region or a backend; ``body`` None: undo it."""
    path = f"/admin/v1/{'backends' if '/' in name else 'regions'}/{segment(name)}/{verb}"
    try:
        answer: Json = ctx.admin.delete(path) if body is None else ctx.admin.post(path, body)
    except StatusError as error:
        if error.status == 404:
            error.hint = "`router regions list` shows what there is."
        raise
    return answer


def run_verb(ctx: Context, options: VerbOptions) -> Exit:
    answer = act(ctx, options.name, options.verb, {})
    probes = answer.get("probes") or ([answer["probe"]] if "probe" in answer else [])
    if options.as_json:
        ctx.out.json(answer)
    elif options.verb == "probe":
        ctx.out.line(probes_table(probes))
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
    path = options.config or applying.default_path(ctx)
    backend, added = dict(options.backend), ""

    def change(document: Any) -> None:
        nonlocal added
        added = region_edits.add(document, options.name, region, backend)

    if backend:
        _, config = config_file.edited(path, change)
        found = _found(ctx, next(b for b in config.backends if b.name == added), force=options.force)
        if "engine" not in backend and found is not None:
            backend["engine"] = found
    _edit(ctx, path, change, lambda: f"added {added}")


def _found(ctx: Context, spec: BackendSpec, *, force: bool) -> str | None:
    """The engine that answers there, told to the operator. Raises CliError if none does, unless by ``force``."""
    from router.observe.survey import UNTOLD

    (found,) = asking.survey([spec], ctx.env)
    if found.problem is not None and not force:
        where = f"nothing is added: {spec.name} at {asking.host_of(spec.url)}: {found.problem}"
        raise CliError(where, hint="--force adds it all the same.")
    if found.problem is not None:
        ctx.out.warn(f"{spec.name}: {found.problem}")
    if found.engine is not None:
        ctx.out.note(f"{spec.name}: {asking.words(found)}")
    if missing := [model for model in spec.models if found.models and model not in found.models]:
        ctx.out.warn(f"{spec.name} does not list {', '.join(missing)}")
    if found.engine not in (None, UNTOLD, spec.engine) and spec.engine != UNTOLD:
        ctx.out.warn(f"{spec.name} says that it is {found.engine}, not {spec.engine}")
    return found.engine


def run_remove(ctx: Context, options: RemoveOptions) -> None:
    from cli import region_edits

    confirm.confirm(ctx, f"remove {options.name}", _lost_without(ctx, options.name), force=options.force)
    _edit(
        ctx,
        options.config,
        lambda document: region_edits.remove(document, options.name),
        lambda: f"removed {options.name}",
    )


def _lost_without(ctx: Context, name: str) -> list[str]:
    """As the running router sees it. Without one nothing is lost now."""
    try:
        return confirm.lost(confirm.place_losses(ctx, name))
    except CliError as error:
        if not nobody_runs(error):
            raise
        return []


def run_set(ctx: Context, options: SetOptions) -> None:
    from cli import region_edits

    _edit(
        ctx,
        options.config,
        lambda document: region_edits.change(document, options.name, options.assignments),
        lambda: f"changed {options.name}",
    )


def _edit(ctx: Context, path: str | None, change: Callable[[Any], None], what: Callable[[], str]) -> None:
    """Change the file, and have the running router read it; a file of its own the router checks before."""
    from router.config import warnings

    path = path or applying.default_path(ctx)
    text, config = config_file.edited(path, change)
    try:
        running = ctx.admin.get("/admin/v1/config")
        if own := applying.is_own(running, path):
            applying.check(ctx, text, path)
            running = applying.put(ctx, path, text)
    except CliError as error:
        if not nobody_runs(error):
            raise
        running, own = None, False
    if not own:
        config_file.write(path, text)
    ctx.out.done(f"{path}: {what()}")
    for warning in warnings(config):
        ctx.out.warn(warning)
    if running is None:
        ctx.out.note(f"No router at {ctx.admin.url}: it reads the file when it starts.")
    elif own:
        _runs_it(ctx, running)
    else:
        _reload_another(ctx, config)


def _reload_another(ctx: Context, config: Config) -> None:
    """The router's file may be this one under a name that cannot be told from here."""
    try:
        ctx.admin.post("/admin/v1/config/reload", {})
        running = ctx.admin.get("/admin/v1/config")
    except CliError as error:
        error.message = f"the file is written, but the router does not take it: {error.message}"
        raise
    if config.regions == config_file.running(running, config).regions:
        _runs_it(ctx, running)
    else:
        ctx.out.warn(f"the router at {ctx.admin.url} runs another file: {running['source']}; name it with --config")


def _runs_it(ctx: Context, running: Json) -> None:
    ctx.out.done(f"the router at {ctx.admin.url} runs it, generation {running['generation']}")
    applying.say_who_differs(ctx)
