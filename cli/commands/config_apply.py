"""router config apply | rollback: another text in the place of the router's file, and back."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from cli import applying, confirm, units
from cli.commands.config import coloured, warn_pending
from cli.context import AdminToken, AdminUrl, AsJson, Context, context
from cli.errors import CliError, Exit
from cli.output import Table, escape

Json = dict[str, Any]

Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]


@dataclass(frozen=True, slots=True)
class ApplyOptions:
    path: str
    yes: bool
    as_json: bool


@dataclass(frozen=True, slots=True)
class RollbackOptions:
    back: int
    list: bool
    yes: bool
    as_json: bool


def apply(
    ctx: typer.Context,
    path: Annotated[str, typer.Argument(metavar="FILE", help="The file whose text the router is to run.")],
    yes: Yes = False,
    as_json: AsJson = False,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """Put a file in force: the router checks it, the changes are shown, and after a yes the router's own file is
    replaced in one step. The text before is kept for `router config rollback`. On the router's machine only."""
    context(ctx, admin_url, admin_token).run(run_apply, ApplyOptions(path, yes, as_json))


def rollback(
    ctx: typer.Context,
    back: Annotated[int, typer.Argument(metavar="[N]", min=1, help="How many texts back.")] = 1,
    list_: Annotated[bool, typer.Option("--list", help="Only list the texts that are kept.")] = False,
    yes: Yes = False,
    as_json: AsJson = False,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """Put the text back in force that was before, or the Nth before. The last ten are kept beside the router's file, in
    FILE.generations. A second rollback undoes the first."""
    context(ctx, admin_url, admin_token).run(run_rollback, RollbackOptions(back, list_, yes, as_json))


def run_apply(ctx: Context, options: ApplyOptions) -> None:
    running, own = applying.target(ctx)
    _put(ctx, running, own, applying.read(options.path), options.path, yes=options.yes, as_json=options.as_json)


def run_rollback(ctx: Context, options: RollbackOptions) -> None:
    running, own = applying.target(ctx)
    kept = applying.kept(own, applying.read(own))
    if options.list:
        _list(ctx, own, kept, as_json=options.as_json)
        return
    if len(kept) < options.back:
        there = f"there are {len(kept)}" if kept else "there is none: `router config apply` keeps them"
        raise CliError(f"no text is kept from {units.plural(options.back, 'step')} before; {there}", code=Exit.USAGE)
    chosen = kept[options.back - 1]
    text = applying.read(str(chosen.path))
    _put(ctx, running, own, text, str(chosen.path), yes=options.yes, as_json=options.as_json)


def _put(ctx: Context, running: Json, own: str, text: str, path: str, *, yes: bool, as_json: bool) -> None:
    """Check, show, ask, replace, and say what is in force then."""
    found = applying.check(ctx, text, path)
    same = text == applying.read(own)
    changes = found["changes"]
    if not as_json:
        _show(ctx, found)
    if changes and not yes:
        _ask(ctx, changes, own)
    if changes or not same or running.get("refused"):
        running = applying.put(ctx, own, text)
    if as_json:
        told = {"changed": bool(changes), "changes": changes, "warnings": found["warnings"], "file": own}
        ctx.out.json(told | {name: running[name] for name in ("generation", "refused", "pending")})
        return
    if not changes and same:
        ctx.out.done(f"the router runs this already, generation {running['generation']}")
        return
    ctx.out.done(f"{own}: replaced; generation {running['generation']} is in force")
    applying.say_who_differs(ctx)
    warn_pending(ctx, running)


def _show(ctx: Context, found: Json) -> None:
    for change in found["changes"]:
        ctx.out.line(coloured(escape(change)))
    for warning in found["warnings"]:
        ctx.out.warn(warning)


def _ask(ctx: Context, changes: list[str], own: str) -> None:
    """Raises CliError unless the changes are meant."""
    if not ctx.can_ask:
        hint = "--yes does it without a question."
        raise CliError(f"{units.plural(len(changes), 'change')} to {own}: nothing was done", code=Exit.USAGE, hint=hint)
    for name in applying.removed(changes):
        for line in confirm.lost(confirm.place_losses(ctx, name)):
            ctx.out.warn(line)
    if ctx.ask(f"make {units.plural(len(changes), 'change')} to {own}? [y/N] ").strip().lower() not in ("y", "yes"):
        raise CliError("nothing was done")


def _list(ctx: Context, own: str, kept: list[applying.KeptText], *, as_json: bool) -> None:
    if as_json:
        ctx.out.json({"file": own, "data": [{"n": k.number, "file": str(k.path), "at_s": k.at_s} for k in kept]})
        return
    if not kept:
        ctx.out.note(f"No other text of {own} is kept.")
        return
    made = Table(("N", "was in force at", "file"), right=("N",))
    for entry in kept:
        made.add_row(str(entry.number), units.clock(entry.at_s), escape(str(entry.path)))
    ctx.out.line(made)
