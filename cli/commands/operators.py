"""router operators: who may operate the router."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from cli.client import segment
from cli.context import AdminToken, AdminUrl, AsJson, Context, context
from cli.errors import StatusError, unknown
from cli.output import Table

Json = dict[str, Any]

group = typer.Typer(help="Who may operate the router: names, roles, tokens.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(metavar="NAME", help="The operator's name; the history shows it.")]
_PATH = "/admin/v1/operators"


@dataclass(frozen=True, slots=True)
class ListOptions:
    as_json: bool


@dataclass(frozen=True, slots=True)
class AddOptions:
    name: str
    role: str
    as_json: bool


@dataclass(frozen=True, slots=True)
class NameOptions:
    name: str
    as_json: bool


@group.command("list")
def list_(
    ctx: typer.Context, as_json: AsJson = False, admin_url: AdminUrl = None, admin_token: AdminToken = None
) -> None:
    """Every operator and role."""
    context(ctx, admin_url, admin_token).run(run_list, ListOptions(as_json))


@group.command("add")
def add(
    ctx: typer.Context,
    name: Name,
    role: Annotated[str, typer.Option(help="read, operate or admin.")] = "read",
    as_json: AsJson = False,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """Let somebody operate this router. Prints the token; it is written into the file of [auth] operators."""
    context(ctx, admin_url, admin_token).run(run_add, AddOptions(name, role, as_json))


@group.command("remove")
def remove(
    ctx: typer.Context,
    name: Name,
    as_json: AsJson = False,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """Take an operator's token out of force, at once."""
    context(ctx, admin_url, admin_token).run(run_remove, NameOptions(name, as_json))


@group.command("whoami")
def whoami(
    ctx: typer.Context, as_json: AsJson = False, admin_url: AdminUrl = None, admin_token: AdminToken = None
) -> None:
    """The name and the role that the router knows you by."""
    context(ctx, admin_url, admin_token).run(run_whoami, ListOptions(as_json))


def run_list(ctx: Context, options: ListOptions) -> None:
    answer = ctx.admin.get(_PATH)
    if options.as_json:
        ctx.out.json(answer)
        return
    if not answer["data"]:
        ctx.out.note(
            "Anybody on the machine of the router may operate it; the key operators in the section auth changes that."
        )
        return
    made = Table(("operator", "role"))
    for operator in answer["data"]:
        made.add_row(f"[bold]{operator['name']}[/]", operator["role"])
    ctx.out.line(made)


def run_add(ctx: Context, options: AddOptions) -> None:
    answer = ctx.admin.post(_PATH, {"name": options.name, "role": options.role})
    if options.as_json:
        ctx.out.json(answer)
        return
    ctx.out.note(f"Token of {answer['name']}, role {answer['role']}:")
    ctx.out.plain(answer["token"])


def run_remove(ctx: Context, options: NameOptions) -> None:
    try:
        answer = ctx.admin.delete(f"{_PATH}/{segment(options.name)}")
    except StatusError as error:
        if error.status != 404:
            raise
        known = [operator["name"] for operator in ctx.admin.get(_PATH)["data"]]
        raise unknown("operator", options.name, known) from None
    if options.as_json:
        ctx.out.json(answer)
    else:
        ctx.out.done(f"{options.name} may not operate any more")


def run_whoami(ctx: Context, options: ListOptions) -> None:
    answer = ctx.admin.get("/admin/v1/whoami")
    if options.as_json:
        ctx.out.json(answer)
    else:
        need = "" if answer["token_needed"] else " (no token is needed here)"
        ctx.out.plain(f"{answer['name']}, role {answer['role']}{need}")
