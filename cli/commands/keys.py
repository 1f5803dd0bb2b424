"""router keys: who may use the router."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from cli import units
from cli.client import Remote, segment, utf8
from cli.context import AdminToken, AdminUrl, AsJson, Context, context
from cli.errors import CliError, Exit, StatusError
from cli.output import Table, facts, state

Json = dict[str, Any]

group = typer.Typer(help="API keys: who may use the router.", no_args_is_help=True)

KeyName = Annotated[str, typer.Argument(metavar="KEY", help="The key's id, or its name.")]


@dataclass(frozen=True, slots=True)
class CreateOptions:
    name: str
    plan: str | None
    tenant: str | None
    as_json: bool


@dataclass(frozen=True, slots=True)
class ListOptions:
    revoked: bool
    as_json: bool


@dataclass(frozen=True, slots=True)
class SetOptions:
    key: str
    changes: dict[str, str]
    as_json: bool


@dataclass(frozen=True, slots=True)
class KeyOptions:
    key: str
    as_json: bool


@group.command("create")
def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="What to call it.")],
    plan: Annotated[str | None, typer.Option(help="The plan whose limits it has. Default: default.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Who it belongs to. Default: its name.")] = None,
    as_json: AsJson = False,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """Make a key. Its secret is shown this once."""
    context(ctx, admin_url, admin_token).run(run_create, CreateOptions(name, plan, tenant, as_json))


@group.command("list")
def list_(
    ctx: typer.Context,
    revoked: Annotated[bool, typer.Option("--all", help="Also those that are revoked.")] = False,
    as_json: AsJson = False,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """Every key, without its secret."""
    context(ctx, admin_url, admin_token).run(run_list, ListOptions(revoked, as_json))


@group.command("show")
def show(
    ctx: typer.Context,
    key: KeyName,
    as_json: AsJson = False,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """One key."""
    context(ctx, admin_url, admin_token).run(run_show, KeyOptions(key, as_json))


@group.command("set")
def set_(
    ctx: typer.Context,
    key: KeyName,
    plan: Annotated[str | None, typer.Option(help="Another plan.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Another owner.")] = None,
    name: Annotated[str | None, typer.Option(help="Another name.")] = None,
    as_json: AsJson = False,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """Give a key another plan, tenant or name; its secret stays, and what it has used stays used."""
    asked = {"plan": plan, "tenant": tenant, "name": name}
    options = SetOptions(key, {what: text for what, text in asked.items() if text is not None}, as_json)
    context(ctx, admin_url, admin_token).run(run_set, options)


@group.command("revoke")
def revoke(
    ctx: typer.Context,
    key: KeyName,
    as_json: AsJson = False,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """Revoke a key: every router refuses it within a second or so."""
    context(ctx, admin_url, admin_token).run(run_revoke, KeyOptions(key, as_json))


def run_create(ctx: Context, options: CreateOptions) -> None:
    asked = {"name": options.name, "plan": options.plan, "tenant": options.tenant}
    made = ctx.admin.post("/admin/v1/keys", {name: text for name, text in asked.items() if text is not None})
    if options.as_json:
        ctx.out.json(made)
        return
    from rich.markup import escape

    ctx.out.done(f"key [bold]{escape(made['name'])}[/], id {made['id']}, plan {made['plan']}")
    ctx.out.note("Its secret, which is not shown again:")
    ctx.out.plain(made["key"])


def run_list(ctx: Context, options: ListOptions) -> None:
    answer = ctx.admin.get("/admin/v1/keys")
    if options.as_json:
        ctx.out.json(answer)
        return
    found = [k for k in answer["data"] if options.revoked or not k["revoked"]]
    if not found:
        ctx.out.note("No keys. Make one with `router keys create NAME`.")
        return
    from rich.markup import escape

    made = Table(("id", "name", "tenant", "plan", "created", ""), drop=("created", "tenant"))
    for key in found:
        word = _word(key)
        name, tenant = escape(key["name"]), escape(key["tenant"])
        made.add_row(key["id"], f"[bold]{name}[/]", tenant, key["plan"], units.clock(key["created_s"]), word)
    ctx.out.line(made)


def _word(key: Json) -> str:
    """Why a key is refused; empty when it is not."""
    if key["revoked"]:
        return state("down", text="revoked")
    return state("down", text="plan missing") if key.get("plan_missing") else ""


def run_show(ctx: Context, options: KeyOptions) -> None:
    key = find_key(ctx.admin, options.key)
    if options.as_json:
        ctx.out.json(key)
        return
    from rich.markup import escape

    rows = {
        "key": f"[bold]{escape(key['name'])}[/]  {_word(key) or state('ok')}",
        "id": key["id"],
        "tenant": escape(key["tenant"]),
        "plan": key["plan"],
        "created": units.clock(key["created_s"]),
    }
    ctx.out.line(facts(rows))
    ctx.out.note(f"`router quota show {key['id']}` shows how far its limits are used.")


def run_set(ctx: Context, options: SetOptions) -> None:
    if not options.changes:
        raise CliError("change what?", code=Exit.USAGE, hint="Say --plan, --tenant or --name.")
    key = find_key(ctx.admin, options.key)
    changed = ctx.admin.patch(f"/admin/v1/keys/{segment(key['id'])}", options.changes)
    if options.as_json:
        ctx.out.json(changed)
        return
    from rich.markup import escape

    name, tenant = escape(changed["name"]), escape(changed["tenant"])
    ctx.out.done(f"key [bold]{name}[/], id {changed['id']}, tenant {tenant}, plan {changed['plan']}")


def run_revoke(ctx: Context, options: KeyOptions) -> None:
    key = find_key(ctx.admin, options.key)
    gone = ctx.admin.delete(f"/admin/v1/keys/{segment(key['id'])}")
    if options.as_json:
        ctx.out.json(gone)
        return
    from rich.markup import escape

    ctx.out.done(f"key [bold]{escape(key['name'])}[/], id {key['id']}, is revoked")


def find_key(admin: Remote, text: str) -> Json:
    """The key with this id, or the only live one with this name. Raises CliError."""
    try:
        found: Json = admin.get(f"/admin/v1/keys/{segment(text)}")
    except StatusError as error:
        if error.status != 404:
            raise
    else:
        return found
    named = [
        key for key in admin.get("/admin/v1/keys")["data"] if utf8(key["name"]) == utf8(text) and not key["revoked"]
    ]
    if len(named) == 1:
        return named[0]  # type: ignore[no-any-return]
    if named:
        ids = [f"{key['id']}  tenant {key['tenant']}, plan {key['plan']}" for key in named]
        raise CliError(f"{len(named)} keys are named {text!r}: say which id", code=Exit.USAGE, details=ids)
    raise CliError(f"there is no key {text!r}", hint="`router keys list` shows what there is.")
