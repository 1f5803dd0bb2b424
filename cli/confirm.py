"""Before something is taken away: what that would be, and whether it is meant.

At a terminal the person is asked; elsewhere a command that would take something away wants ``--force``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any

import typer

from cli import units
from cli.client import segment
from cli.context import Context
from cli.errors import CliError, Exit, StatusError

Json = dict[str, Any]

Force = Annotated[bool, typer.Option("--force", help="Do not ask, whatever it takes away.")]


def confirm(ctx: Context, what: str, losses: Sequence[str], *, force: bool) -> None:
    """Go on, or raise CliError. ``what`` is the command in words: ``drain us-east``. Without losses nobody is asked."""
    if not losses:
        return
    if not force and not ctx.can_ask:
        raise CliError(
            f"this would take something away, so nothing was done: {what}",
            code=Exit.USAGE,
            details=losses,
            hint="--force does it all the same.",
        )
    for line in losses:
        ctx.out.warn(line)
    if not force and ctx.ask(f"{what}? [y/N] ").strip().lower() not in ("y", "yes"):
        raise CliError("nothing was done")


def place_losses(ctx: Context, name: str) -> Json | None:
    """What would be lost without a region or a backend. None: there is none of that name, or the router is too old to
    tell."""
    try:
        found: Json = ctx.admin.get(f"/admin/v1/{'backends' if '/' in name else 'regions'}/{segment(name)}/losses")
    except StatusError as error:
        if error.status != 404:
            raise
        return None
    return found


def lost(found: Json | None) -> list[str]:
    """The lines for ``confirm``; none if others can serve all that is served there."""
    if found is None or not found["loses"]:
        return []
    name, lines = found["of"], []
    if found["models"]:
        lines.append(f"no other usable backend serves {', '.join(found['models'])}: such requests would get 503")
    lines.append(jurisdictions(found))
    for entry in found["plans"]:
        models = ", ".join(entry["models"])
        lines.append(f"the residency of the plan {entry['plan']} would leave its keys no backend for {models}")
    if found["inflight"] > found["room"]:
        there = units.plural(found["inflight"], "request")
        lines.append(f"{there} in flight there, and the other backends have room for {found['room']}")
    lines.append(traffic(found))
    return [line for line in lines if line] or [f"{name} would be missed"]


def jurisdictions(found: Json) -> str:
    """Those that would have no backend any more; empty if there is none."""
    names = ", ".join(found["jurisdictions"])
    return f"no other usable backend is in the jurisdiction {names}" if names else ""


def traffic(found: Json) -> str:
    """Its share of the traffic, in words; empty when there was none."""
    if not found["requests"]:
        return ""
    answered = units.plural(found["requests"], "request")
    return f"{found['of']} answered {units.ratio(found['share'])} of the last minute's requests ({answered})"
