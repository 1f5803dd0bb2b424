"""router ctx: names for the routers that somebody operates."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import typer

from cli import contexts, private_files, units
from cli.context import AdminToken, AdminUrl, AsJson, Context, context
from cli.contexts import Contexts, NamedRouter
from cli.errors import CliError, Exit
from cli.output import Table, escape, facts

group = typer.Typer(help="Contexts: routers by name, and the one that commands ask.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The context's name.")]


@dataclass(frozen=True, slots=True)
class LookOptions:
    as_json: bool


@dataclass(frozen=True, slots=True)
class NameOptions:
    name: str


@dataclass(frozen=True, slots=True)
class AddOptions:
    place: NamedRouter
    token: str | None
    force: bool
    use: bool


@group.command("list")
def list_(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Every context; the current one has a star."""
    context(ctx).run(run_list, LookOptions(as_json))


@group.command("use")
def use(ctx: typer.Context, name: Name) -> None:
    """Make it the current context: the router that commands ask when nothing else says which."""
    context(ctx).run(run_use, NameOptions(name))


@group.command("add")
def add(
    ctx: typer.Context,
    name: Name,
    address: Annotated[str, typer.Option("--admin-url", metavar="URL", help="The router's admin address.")],
    token_file: Annotated[
        str | None, typer.Option(metavar="FILE", help="A file of mode 0600 with the admin token.")
    ] = None,
    token: Annotated[
        str | None,
        typer.Option("--admin-token", metavar="TOKEN", help="Or: the admin token, for a file that is made here."),
    ] = None,
    force: Annotated[bool, typer.Option("--force", help="Replace the context of this name.")] = False,
    use: Annotated[bool, typer.Option("--use", help="Make it the current context.")] = False,
) -> None:
    """Add a context. The first one becomes the current one."""
    place = NamedRouter(name, address, token_file)
    context(ctx).run(run_add, AddOptions(place, token, force, use))


@group.command("remove")
def remove(ctx: typer.Context, name: Name) -> None:
    """Remove a context, and the token file if it was made here."""
    context(ctx).run(run_remove, NameOptions(name))


@group.command("show")
def show(
    ctx: typer.Context, as_json: AsJson = False, admin_url: AdminUrl = None, admin_token: AdminToken = None
) -> None:
    """Which router commands ask now, and what says so: a flag, the environment, the current context, the default."""
    context(ctx, admin_url, admin_token).run(run_show, LookOptions(as_json))


def run_list(ctx: Context, options: LookOptions) -> None:
    found = contexts.load(ctx.env)
    if options.as_json:
        told = [_document(place) | {"current": place.name == found.current} for place in found.places.values()]
        ctx.out.json({"data": told, "current": found.current, "file": str(found.path) if found.path else None})
        return
    if not found.places:
        ctx.out.note("No contexts. Add one with `router ctx add NAME --admin-url URL`.")
        return
    made = Table(("", "context", "admin address", "token file"), empty=("token file",))
    for place in found.places.values():
        star = "[green]*[/]" if place.name == found.current else ""
        made.add_row(star, f"[bold]{escape(place.name)}[/]", escape(place.admin_url), escape(place.token_file or ""))
    ctx.out.line(made)


def run_use(ctx: Context, options: NameOptions) -> None:
    found = _own(ctx)
    place = found.get(options.name)
    found.current = place.name
    found.save()
    ctx.out.done(f"commands ask {place.name} at {place.admin_url}")
    for variable in ("ROUTER_ADMIN_URL", "ROUTER_CONTEXT"):
        if ctx.env.get(variable):
            ctx.out.warn(f"{variable} is set and wins over the current context")


def run_add(ctx: Context, options: AddOptions) -> None:
    from router.config.names import name_problem

    found, place = _own(ctx), options.place
    if (problem := name_problem(place.name)) is not None:
        raise CliError(f'a context\'s name {problem}, not "{place.name}"', code=Exit.USAGE)
    if (problem := contexts.url_problem(place.admin_url)) is not None:
        raise CliError(problem, code=Exit.USAGE)
    if place.name in found.places and not options.force:
        raise CliError(f"there is a context {place.name} already", code=Exit.USAGE, hint="Say --force to replace it.")
    if place.token_file is not None and options.token is not None:
        raise CliError("say --token-file or --admin-token, not both", code=Exit.USAGE)
    if place.token_file is not None:
        path = Path(place.token_file).expanduser().absolute()
        private_files.read_secret(path)
        place = NamedRouter(place.name, place.admin_url, str(path))
    elif options.token is not None:
        path = _made_here(found, place.name)
        private_files.write(path, options.token + "\n")
        place = NamedRouter(place.name, place.admin_url, str(path))
    found.places[place.name] = place
    first = found.current is None
    if first or options.use:
        found.current = place.name
    found.save()
    now = ", the current one" if found.current == place.name else f"; `router ctx use {place.name}` makes it current"
    ctx.out.done(f"context {place.name} is {place.admin_url}{now}")


def run_remove(ctx: Context, options: NameOptions) -> None:
    found = _own(ctx)
    place = found.get(options.name)
    del found.places[place.name]
    was_current = found.current == place.name
    if was_current:
        found.current = None
    found.save()
    made = _made_here(found, place.name)
    if place.token_file == str(made):
        made.unlink(missing_ok=True)
    ctx.out.done(f"context {place.name} is removed")
    if was_current:
        ctx.out.note("No context is current now.")


def run_show(ctx: Context, options: LookOptions) -> None:
    now = ctx.chosen
    if options.as_json:
        told = {"context": now.context, "admin_url": now.url, "from": now.why}
        ctx.out.json(told | {"token": now.token is not None, "token_from": now.token_why})
        return
    ctx.out.line(
        facts(
            {
                "context": f"[bold]{escape(now.context)}[/]" if now.context else units.UNKNOWN,
                "admin address": escape(now.url),
                "says": now.why,
                "token": f"of {escape(now.token_why)}" if now.token_why else "none",
            }
        )
    )


def _own(ctx: Context) -> Contexts:
    """The contexts of this user, to change and save. Raises CliError where no folder can hold them."""
    found = contexts.load(ctx.env)
    if found.path is None:
        raise CliError(
            "contexts cannot be kept: this user has no home folder",
            code=Exit.USAGE,
            hint="Set HOME or XDG_CONFIG_HOME.",
        )
    return found


def _made_here(found: Contexts, name: str) -> Path:
    assert found.path is not None
    return found.path.parent / "tokens" / name


def _document(place: NamedRouter) -> dict[str, object]:
    return {"name": place.name, "admin_url": place.admin_url, "token_file": place.token_file}
