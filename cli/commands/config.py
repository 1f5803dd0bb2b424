"""router config: the file, and what the router runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import units
from cli.context import AdminToken, AdminUrl, AsJson, Context, context
from cli.errors import CliError, Exit
from cli.problems import located, taken_apart

if TYPE_CHECKING:
    from router.config import Config

Json = dict[str, Any]

group = typer.Typer(help="regions.toml, and what the router runs.", no_args_is_help=True)

Path_ = Annotated[str, typer.Argument(metavar="[FILE]", envvar="ROUTER_CONFIG", help="The configuration file.")]


@dataclass(frozen=True, slots=True)
class InitOptions:
    path: str
    force: bool
    engines: tuple[str, ...] = ()
    region: str | None = None
    jurisdictions: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class CheckOptions:
    path: str
    secrets: bool
    as_json: bool
    strict: bool = False


@dataclass(frozen=True, slots=True)
class ShowOptions:
    as_json: bool


@dataclass(frozen=True, slots=True)
class DiffOptions:
    path: str | None  # None: the file that the router reads
    as_json: bool


@dataclass(frozen=True, slots=True)
class ReloadOptions:
    as_json: bool


@dataclass(frozen=True, slots=True)
class SchemaOptions:
    pass


@group.command("init")
def init(
    ctx: typer.Context,
    path: Path_ = "regions.toml",
    engine: Annotated[
        list[str] | None,
        typer.Option(metavar="URL", help="An engine that runs, as URL or REGION=URL; may be repeated. It is asked."),
    ] = None,
    region: Annotated[str | None, typer.Option(help="The region of the engines that are named without one.")] = None,
    jurisdiction: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Whose law the data is under, as NAME or REGION=NAME; may be repeated. Without it you are asked.",
        ),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Overwrite; also with engines that do not answer.")] = False,
) -> None:
    """Write a first file with comments: for the engines that are named, filled in by asking them, or else an
    example."""
    context(ctx).run(run_init, InitOptions(path, force, tuple(engine or ()), region, tuple(jurisdiction or ())))


@group.command("check")
def check(
    ctx: typer.Context,
    path: Path_ = "regions.toml",
    secrets: Annotated[
        bool, typer.Option("--secrets/--no-secrets", help="Require the environment variables it names.")
    ] = True,
    strict: Annotated[bool, typer.Option("--strict", help="Exit code 2 for warnings too.")] = False,
    as_json: AsJson = False,
) -> None:
    """Every problem of the file at once, each with its place. Exit code 2 if there is one. Needs no router."""
    context(ctx).run(run_check, CheckOptions(path, secrets, as_json, strict))


@group.command("show")
def show(
    ctx: typer.Context, as_json: AsJson = False, admin_url: AdminUrl = None, admin_token: AdminToken = None
) -> None:
    """What the router runs, defaults filled in, secrets left out."""
    context(ctx, admin_url, admin_token).run(run_show, ShowOptions(as_json))


@group.command("diff")
def diff(
    ctx: typer.Context,
    path: Annotated[
        str | None,
        typer.Argument(metavar="[FILE]", envvar="ROUTER_CONFIG", help="Default: the file that the router reads."),
    ] = None,
    as_json: AsJson = False,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """What a reload of the file would change in the running router. Exit code 1 if it changes anything."""
    context(ctx, admin_url, admin_token).run(run_diff, DiffOptions(path, as_json))


@group.command("reload")
def reload(
    ctx: typer.Context, as_json: AsJson = False, admin_url: AdminUrl = None, admin_token: AdminToken = None
) -> None:
    """Have the router read its file again. A file with a problem is refused whole."""
    context(ctx, admin_url, admin_token).run(run_reload, ReloadOptions(as_json))


@group.command("schema")
def schema(ctx: typer.Context, as_json: AsJson = False) -> None:
    """The file as JSON Schema, for editors, with --json and without. Needs no router."""
    context(ctx).run(run_schema, SchemaOptions())


def run_init(ctx: Context, options: InitOptions) -> None:
    from cli import config_file
    from router.config import EXAMPLE

    if Path(options.path).exists() and not options.force:
        raise CliError(f"{options.path} exists", code=Exit.USAGE, hint="Name another file, or say --force.")
    if options.engines:
        from router.config import parse
        from router.errors import ConfigError

        text = _for_engines(ctx, options)
        try:
            parse(text, options.path, secrets=False)
        except ConfigError as error:
            raise config_file.refused(error, "these flags make no valid file, so nothing was written") from error
        config_file.write(options.path, text)
        ctx.out.done(f"wrote {options.path}")
        ctx.out.note(
            "No key is needed on this machine, and nothing is shared: see [auth] and [store]. Then `router serve`."
        )
        return
    config_file.write(options.path, EXAMPLE)
    ctx.out.done(f"wrote {options.path}")
    ctx.out.note("Put your engines in, then `router config check` and `router serve`.")


def _for_engines(ctx: Context, options: InitOptions) -> str:
    """The text for the engines that were named. Raises CliError if one does not answer, unless by force."""
    from cli import asking, first_file

    named = list(dict.fromkeys(first_file.named(text, options.region) for text in options.engines))
    found = asking.survey([asking.spec_of(f"{n.region}/{i}", n.url) for i, n in enumerate(named)], ctx.env)
    dead = [f"{n.url}: {f.problem}" for n, f in zip(named, found, strict=True) if f.problem is not None]
    if dead and not options.force:
        message = f"{units.plural(len(dead), 'engine')} cannot be used, so nothing was written"
        raise CliError(message, details=dead, hint="Start them, or say --force.")
    for n, f in zip(named, found, strict=True):
        ctx.out.note(f"{n.url}: {f.problem or asking.words(f)}")
    told = dict(first_file.of_region(text) for text in options.jurisdictions)
    jurisdictions = {}
    for region in dict.fromkeys(n.region for n in named):
        if answer := told.get(region) or told.get("") or _asked_jurisdiction(ctx, region):
            jurisdictions[region] = answer
    return first_file.text(list(zip(named, found, strict=True)), jurisdictions)


def _asked_jurisdiction(ctx: Context, region: str) -> str:
    """Of the person at the terminal; empty if there is nobody, or no answer."""
    if not ctx.can_ask:
        return ""
    return ctx.ask(f"Jurisdiction of {region}, for plans with a residency (eu, us, …; empty for none): ").strip()


def run_check(ctx: Context, options: CheckOptions) -> Exit:
    from cli import config_file
    from router.config import load, warnings
    from router.errors import ConfigError

    if not Path(options.path).exists():
        raise config_file.missing(options.path)
    try:
        config = load(options.path, secrets=options.secrets)
        if options.secrets:
            _check_operators(config)
    except ConfigError as error:
        if not options.as_json:
            raise config_file.refused(error) from error
        problems = [taken_apart(problem, error.source) for problem in error.problems]
        ctx.out.json({"source": error.source, "ok": False, "problems": problems, "warnings": []})
        return Exit.USAGE
    noted = located(warnings(config), config)
    if options.as_json:
        told = [taken_apart(warning, config.source) for warning in noted]
        ctx.out.json({"source": config.source, "ok": True, "problems": [], "warnings": told})
        return Exit.USAGE if noted and options.strict else Exit.OK
    regions = units.plural(len(config.regions), "region")
    ctx.out.done(f"{options.path} is valid: {regions}, {units.plural(len(config.backends), 'backend')}")
    for warning in noted:
        ctx.out.warn(warning)
    return Exit.USAGE if noted and options.strict else Exit.OK


def _check_operators(config: Config) -> None:
    """Raises ConfigError if the file of operators is there and wrong: the router would not start."""
    from router.control.operators import file_problem
    from router.errors import ConfigError

    path = config.auth.operators
    if path is not None and (problem := file_problem(path)) is not None:
        raise ConfigError(config.source, [f"{config.source}: [auth] operators: {problem}"])


def run_show(ctx: Context, options: ShowOptions) -> None:
    answer = ctx.admin.get("/admin/v1/config")
    if options.as_json:
        ctx.out.json(answer)
        return
    import tomlkit

    from cli import config_file

    loaded = units.clock(answer["loaded_s"])
    ctx.out.note(f"# {answer['source']}, generation {answer['generation']}, in force since {loaded}")
    ctx.out.plain(tomlkit.dumps(config_file.known(answer["config"])))
    _warn_refused(ctx, answer)
    warn_pending(ctx, answer)


def run_diff(ctx: Context, options: DiffOptions) -> Exit:
    from cli import config_file

    answer = ctx.admin.get("/admin/v1/config")
    path = answer["source"] if options.path is None else options.path
    changes = config_file.differences(answer, config_file.read(path, secrets=False))
    if options.as_json:
        pending = answer.get("pending", [])
        ctx.out.json({"source": path, "running": answer["source"], "changes": changes, "pending": pending})
        return Exit.FAILED if changes else Exit.OK
    if changes:
        from rich.markup import escape

        for change in changes:
            ctx.out.line(coloured(escape(change)))
        ctx.out.note(_how_to_apply(path, answer["source"]))
    else:
        ctx.out.done(f"the router runs what {path} says, generation {answer['generation']}")
    _warn_refused(ctx, answer)
    warn_pending(ctx, answer)
    return Exit.FAILED if changes else Exit.OK


def run_reload(ctx: Context, options: ReloadOptions) -> None:
    answer = ctx.admin.post("/admin/v1/config/reload", {})
    if options.as_json:
        ctx.out.json(answer)
        return
    from rich.markup import escape

    if answer["changed"]:
        ctx.out.done(f"generation {answer['generation']} is in force")
    else:
        ctx.out.done(f"nothing has changed, generation {answer['generation']}")
    for change in answer["changes"]:
        ctx.out.line(f"  {coloured(escape(change))}")
    for warning in answer.get("warnings", ()):
        ctx.out.warn(warning)
    if answer["changed"]:
        from cli import applying

        applying.say_who_differs(ctx)


def run_schema(ctx: Context, options: SchemaOptions) -> None:
    from router.config import json_schema as made

    ctx.out.json(made())


def _how_to_apply(path: str, source: str) -> str:
    if Path(path).resolve() == Path(source).resolve():
        return "`router config reload` puts this in force."
    return f"The router reads {source}; `router config apply {path}` puts it there and in force."


def coloured(change: str) -> str:
    place, colon, text = change.partition(":")
    colour = "green" if text.startswith(" added") else "red" if text.startswith(" removed") else "yellow"
    return f"[{colour}]{place}[/]{colon}{text}"


def warn_pending(ctx: Context, answer: Json) -> None:
    """What the router's file says and the router does not do before it is started again."""
    waiting = answer.get("pending")
    if waiting:
        ctx.out.warn("pending until the router is restarted:")
        for line in waiting:
            ctx.out.warn(f"  {line}")


def _warn_refused(ctx: Context, answer: Json) -> None:
    refused = answer.get("refused")
    if refused:
        at, generation = units.clock(refused["at_s"]), answer["generation"]
        ctx.out.warn(f"{answer['source']} was refused at {at}; generation {generation} stays in force:")
        for problem in refused["problems"]:
            ctx.out.warn(f"  {problem}")
