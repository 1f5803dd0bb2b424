"""router keys: who may use the router."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any

import typer

from cli import confirm, units
from cli.client import Remote, segment, utf8
from cli.confirm import Force
from cli.context import AdminToken, AdminUrl, AsJson, Context, context
from cli.errors import CliError, Exit, StatusError, unknown
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
    expires: str | None = None


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
    force: bool = False


@dataclass(frozen=True, slots=True)
class RotateOptions:
    key: str
    overlap: str | None
    as_json: bool


Expires = Annotated[
    str | None, typer.Option(metavar="WHEN", help="When it expires: 30d, an ISO time such as 2027-01-31, or never.")
]


@group.command("create")
def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(help="What to call it.")],
    plan: Annotated[str | None, typer.Option(help="The plan whose limits it has. Default: default.")] = None,
    tenant: Annotated[str | None, typer.Option(help="Who it belongs to. Default: its name.")] = None,
    expires: Expires = None,
    as_json: AsJson = False,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """Make a key. Its secret is shown this once."""
    context(ctx, admin_url, admin_token).run(run_create, CreateOptions(name, plan, tenant, as_json, expires))


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
    expires: Expires = None,
    as_json: AsJson = False,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """Give a key another plan, tenant, name or expiry; its secret stays, and what it has used stays used."""
    asked = {"plan": plan, "tenant": tenant, "name": name, "expires": expires}
    options = SetOptions(key, {what: text for what, text in asked.items() if text is not None}, as_json)
    context(ctx, admin_url, admin_token).run(run_set, options)


@group.command("rotate")
def rotate(
    ctx: typer.Context,
    key: KeyName,
    overlap: Annotated[
        str | None, typer.Option(metavar="SPAN", help="How long older secrets still work: 1h, 7d, 0. Default: 24h.")
    ] = None,
    as_json: AsJson = False,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """Give a key a new secret, shown this once. The old one works on for a while; both have one account."""
    context(ctx, admin_url, admin_token).run(run_rotate, RotateOptions(key, overlap, as_json))


@group.command("revoke")
def revoke(
    ctx: typer.Context,
    key: KeyName,
    force: Force = False,
    as_json: AsJson = False,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """Revoke a key: every router refuses it within a second or so. Asks first if the key is in use."""
    context(ctx, admin_url, admin_token).run(run_revoke, KeyOptions(key, as_json, force))


def run_create(ctx: Context, options: CreateOptions) -> None:
    asked = {"name": options.name, "plan": options.plan, "tenant": options.tenant, "expires": options.expires}
    made = ctx.admin.post("/admin/v1/keys", {name: text for name, text in asked.items() if text is not None})
    if options.as_json:
        ctx.out.json(made)
        return
    until = f", expires {made['expires']}" if made.get("expires") else ""
    ctx.out.done(f"key {made['name']}, id {made['id']}, plan {made['plan']}{until}", beside=True)
    ctx.out.note("Secret (shown only once):")
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

    columns = ("id", "name", "tenant", "plan", "created", "expires", "")
    made = Table(columns, drop=("created", "tenant", "expires"))
    for key in found:
        name, tenant, expires = escape(key["name"]), escape(key["tenant"]), _expires(key)
        created = units.clock(key["created_s"])
        made.add_row(key["id"], f"[bold]{name}[/]", tenant, key["plan"], created, expires, _word(key))
    ctx.out.line(made)


def _expires(key: Json) -> str:
    return "never" if key.get("expires_s") is None else units.clock(key["expires_s"])


def _word(key: Json) -> str:
    """Why a key is refused, or that it is changing its secret; else empty."""
    if key["revoked"]:
        return state("down", text="revoked")
    if key.get("expired"):
        return state("down", text="expired")
    if key.get("plan_missing"):
        return state("down", text="plan missing")
    return f"old secret until {units.clock(key['overlap_until_s'])}" if key.get("older_secrets") else ""


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
        "expires": key.get("expires") or "never",
    }
    ctx.out.line(facts(rows))
    ctx.out.note(f"`router quota show {key['id']}` shows how far its limits are used.")


def run_set(ctx: Context, options: SetOptions) -> None:
    if not options.changes:
        raise CliError("change what?", code=Exit.USAGE, hint="Say --plan, --tenant, --name or --expires.")
    key = find_key(ctx.admin, options.key)
    changed = ctx.admin.patch(f"/admin/v1/keys/{segment(key['id'])}", options.changes)
    if options.as_json:
        ctx.out.json(changed)
        return
    name, tenant = changed["name"], changed["tenant"]
    until = f", expires {changed['expires']}" if changed.get("expires") else ""
    ctx.out.done(f"key {name}, id {changed['id']}, tenant {tenant}, plan {changed['plan']}{until}")


def run_rotate(ctx: Context, options: RotateOptions) -> None:
    key = find_key(ctx.admin, options.key)
    asked = {} if options.overlap is None else {"overlap": options.overlap}
    made = ctx.admin.post(f"/admin/v1/keys/{segment(key['id'])}/rotate", asked)
    if options.as_json:
        ctx.out.json(made)
        return
    until_s = made["overlap_until_s"]
    old = "older secrets no longer work" if until_s is None else f"older secrets work until {units.clock(until_s)}"
    if made.get("expired"):
        old = "the key is expired: neither this secret nor an older one works"
        ctx.out.warn(f"`router keys set {made['id']} --expires WHEN` lets it work again")
    ctx.out.done(f"key {made['name']}, id {made['id']}, has a new secret; {old}", beside=True)
    ctx.out.note("New secret (shown only once):")
    ctx.out.plain(made["key"])


def run_revoke(ctx: Context, options: KeyOptions) -> None:
    key = find_key(ctx.admin, options.key)
    confirm.confirm(ctx, f"revoke {key['name']} ({key['id']})", _in_use(ctx, key), force=options.force)
    gone = ctx.admin.delete(f"/admin/v1/keys/{segment(key['id'])}")
    if options.as_json:
        ctx.out.json(gone)
        return
    ctx.out.done(f"key {key['name']}, id {key['id']}, is revoked")


def _in_use(ctx: Context, key: Json) -> list[str]:
    """Whose requests would be refused from now on, if there are any."""
    if key["revoked"]:
        return []
    try:
        quotas = ctx.admin.get("/admin/v1/quotas", key=key["id"])["data"]
    except StatusError:
        return []  # it can be revoked all the same
    use = quotas[0].get("last_minute") if quotas else None
    if not use or not use["requests"]:
        return []
    sent, tokens = units.plural(use["requests"], "request"), units.count(use["tokens"])
    who = f"{key['name']} (tenant {key['tenant']}, plan {key['plan']})"
    return [f"{who} is in use: {sent} and {tokens} tokens in the last minute; its requests would get 401"]


def find_key(admin: Remote, text: str) -> Json:
    """The key with this id, or the only live one with this name. Raises CliError."""
    try:
        found: Json = admin.get(f"/admin/v1/keys/{segment(text)}")
    except StatusError as error:
        if error.status != 404:
            raise
    else:
        return found
    live = [key for key in admin.get("/admin/v1/keys")["data"] if not key["revoked"]]
    named = [key for key in live if utf8(key["name"]) == utf8(text)]
    if len(named) == 1:
        return named[0]  # type: ignore[no-any-return]
    if named:
        ids = [f"{key['id']}  tenant {key['tenant']}, plan {key['plan']}" for key in named]
        raise CliError(f"{units.plural(len(named), 'key')} named {text!r}: say which id", code=Exit.USAGE, details=ids)
    raise unknown("key", text, [key["name"] for key in live])


def names_of_keys(admin: Remote) -> dict[str, str]:
    """Id -> ``name (id)``. Empty where the router does not tell: the id serves."""
    try:
        return {key["id"]: f"{key['name']} ({key['id']})" for key in admin.get("/admin/v1/keys")["data"]}
    except CliError:
        return {}
