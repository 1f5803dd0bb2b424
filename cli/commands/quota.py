"""router quota: how far limits are used, and whose they are."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import charts, confirm, units
from cli.client import segment
from cli.commands import spending
from cli.commands.keys import find_key
from cli.confirm import Force
from cli.context import AdminToken, AdminUrl, AsJson, Context, context
from cli.errors import CliError, Exit, StatusError, UnknownNameError
from cli.output import Table, escape

if TYPE_CHECKING:
    from router.core.limits import LimitKind

Json = dict[str, Any]

group = typer.Typer(help="Limits of keys, tenants and models, and how much is used.", no_args_is_help=True)
group.command("top")(spending.top)
group.command("export")(spending.export)


@dataclass(frozen=True, slots=True)
class ShowOptions:
    key: str | None
    as_json: bool


@dataclass(frozen=True, slots=True)
class ResetOptions:
    key: str
    as_json: bool
    minute: bool = False
    month: bool = False
    force: bool = False


@group.command("show")
def show(
    ctx: typer.Context,
    key: Annotated[
        str | None,
        typer.Argument(
            metavar="[KEY|TENANT]",
            help="A key's id or name, a tenant, tenant:NAME, model:NAME, or all. Default: all.",
        ),
    ] = None,
    as_json: AsJson = False,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """Limits, how much of each is used, when it resets, and the forecast of budgets for the end of the day or month."""
    context(ctx, admin_url, admin_token).run(run_show, ShowOptions(key, as_json))


@group.command("reset")
def reset(
    ctx: typer.Context,
    key: Annotated[
        str,
        typer.Argument(
            metavar="KEY|TENANT",
            help="A key's id or name, a tenant, tenant:NAME, model:NAME, or all. Of a tenant without limits: its keys.",
        ),
    ],
    minute: Annotated[bool, typer.Option("--minute", help="The limits per minute.")] = False,
    month: Annotated[bool, typer.Option("--month", help="What was spent this month.")] = False,
    force: Force = False,
    as_json: AsJson = False,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """Reset limits; all of them without --minute or --month. Asks before the record of spending is lost."""
    options = ResetOptions(key, as_json, minute, month, force)
    context(ctx, admin_url, admin_token).run(run_reset, options)


def run_show(ctx: Context, options: ShowOptions) -> None:
    query: dict[str, str] = {}
    if options.key is not None:
        key = _key(ctx, options.key)
        group = ":" in options.key or options.key == "all"
        query = {"account" if group else "tenant": options.key} if key is None else {"key": key["id"]}
    answer = _quotas(ctx, options.key, query)
    if options.as_json:
        ctx.out.json(answer)
    elif answer["data"]:
        ctx.out.line(quota_table(answer["data"]))
        _tell_share(ctx, answer["data"])
        ctx.scope(answer)
    else:
        ctx.out.note("No keys. Make one with `router keys create NAME`.")


def run_reset(ctx: Context, options: ResetOptions) -> None:
    named = _accounts(ctx, options.key)
    both = options.minute == options.month
    what = "all" if both else "minute" if options.minute else "month"
    if what != "minute":
        lost = [loss for account, (_, query) in named.items() for loss in _spent(ctx, account, query)]
        confirm.confirm(ctx, f"reset {', '.join(name for name, _ in named.values())}", lost, force=options.force)
    answers = [_found(options.key, partial(ctx.admin.delete, path)) for path in _paths(named, what)]
    if options.as_json:
        ctx.out.json(answers[0] if len(answers) == 1 else {"data": answers})
    else:
        ctx.out.line(quota_table(answers, future=False))


def _paths(accounts: Iterable[str], what: str) -> list[str]:
    query = "" if what == "all" else f"?what={what}"
    names = [segment(account).replace("/", "%2F") for account in accounts]  # names of models have slashes
    return [f"/admin/v1/quotas/{name}{query}" for name in names]


def _accounts(ctx: Context, text: str) -> dict[str, tuple[str, dict[str, str]]]:
    """The accounts that are meant, with what to call each and how to ask for it. Of a tenant: its own, else its
    keys'."""
    if (key := _key(ctx, text)) is not None:
        return {key["id"]: (f"{key['name']} ({key['id']})", {"key": key["id"]})}
    if ":" in text or text == "all":
        return {text: (text, {"account": text})}
    quotas = _quotas(ctx, text, {"tenant": text})["data"]
    own = [each for each in quotas if each.get("scope") == "tenant"] or quotas
    if not own:
        raise CliError(f"the tenant {text!r} has no limits and no keys", code=Exit.USAGE)
    return {_account(each): (_whose(each), {"account": _account(each)}) for each in own}


def _key(ctx: Context, text: str) -> Json | None:
    """None: no key has this id or name, or it is how an account of something else is named. Raises CliError if several
    keys have it."""
    from router.core.scopes import is_account

    if is_account(text):
        return None
    try:
        return find_key(ctx.admin, text)
    except UnknownNameError:
        return None


def _quotas(ctx: Context, text: str | None, query: dict[str, str]) -> Json:
    """The limits of whoever ``query`` says. A tenant that nobody is may be a model with limits."""

    def ask() -> Json:
        found: Json
        try:
            found = ctx.admin.get("/admin/v1/quotas", **query)
        except StatusError as error:
            if error.status != 404 or "tenant" not in query:
                raise
            try:
                found = ctx.admin.get("/admin/v1/quotas", account=f"model:{text}")
            except StatusError:
                raise error from None
        return found

    return _found(text, ask)


def _found(text: str | None, ask: Callable[[], Json]) -> Json:
    try:
        return ask()
    except StatusError as error:
        if error.status != 404:
            raise
        hint, said = "`router quota show` shows what there is.", str(error)
        like = [said[said.index("did you mean") :]] if "did you mean" in said else []
        what = f"there is no key, tenant or model with limits named {text!r}"
        raise CliError(what, code=Exit.USAGE, hint=hint, details=like) from None


def _spent(ctx: Context, account: str, query: dict[str, str]) -> list[str]:
    """The sums that a reset would forget."""
    try:
        quotas = [q for q in ctx.admin.get("/admin/v1/quotas", **query)["data"] if _account(q) == account]
    except StatusError:
        return []
    sums = [
        (_whose(q), e, kind.period)
        for q in quotas
        for e in q["limits"]
        if e["used"] and (kind := _kind(e)) is not None and kind.period
    ]
    return [
        f"{who} has used {_amount(e)(e['used'])} of {_amount(e)(e['max'])} this {period.name}; nothing else keeps that "
        "figure (--minute leaves it alone)"
        for who, e, period in sums
    ]


def _tell_share(ctx: Context, quotas: list[Json]) -> None:
    """While the store is away a router enforces its part of a limit."""
    if any((e.get("plan_max") or e["max"]) > e["max"] for q in quotas for e in q["limits"]):
        ctx.out.warn("the store is away: this router enforces its share of each limit, not all of it")


def quota_table(quotas: list[Json], *, future: bool = True) -> Table:
    """Used and left are the limit together. The account of a rate empties while requests keep coming, so what was
    asked for in the last minute of all routers stands beside it, and what they hold ahead of need. ``future``: show
    forecasts, where there are some."""
    future = future and any("forecast" in entry for quota in quotas for entry in quota["limits"])
    columns = ("whose", "id", "limit", "used", "", "of", "left", "resets in", *(["forecast"] * future), "counted by")
    made = Table(columns, right=("used", "of", "left", "forecast"), drop=("counted by", "", "id", "left"))
    for quota in quotas:
        name, key_id = f"[bold]{escape(_whose(quota))}[/]{_plans(quota)}", f"[dim]{escape(_account(quota))}[/]"
        if quota.get("plan_missing"):
            gone = f"[red]its plan {escape(quota['plan'])} is gone: all is refused[/]"
            made.add_row(name, key_id, gone, *[""] * (len(columns) - 3))
        elif not quota["limits"]:
            recent = units.count((quota.get("last_minute") or {}).get("requests"))
            made.add_row(name, key_id, "[dim]none[/] (requests in the last minute)", recent, *[""] * (len(columns) - 4))
        for entry in quota["limits"]:
            cells = _cells(entry, quota.get("last_minute") or {})
            made.add_row(name, key_id, *cells[:-1], *([_forecast(entry)] * future), cells[-1])
            name = key_id = ""
    return made


def _whose(quota: Json) -> str:
    from router.core.scopes import BY_NAME, KEY

    scope = BY_NAME.get(quota.get("scope", KEY.name), KEY)
    return str(quota["key"]["name"]) if scope is KEY else scope.called(str(quota["name"])).replace('"', "")


def _plans(quota: Json) -> str:
    """JWTs of one tenant may have several plans. The limits of one are shown: name it, and the others."""
    others = [plan for plan in quota.get("plans") or [] if plan != quota["plan"]]
    return f" [dim](plan {escape(quota['plan'])}; also {escape(', '.join(others))})[/]" if others else ""


def _account(quota: Json) -> str:
    return str(quota.get("account") or quota["key"]["id"])


def _kind(entry: Json) -> LimitKind | None:
    """None: the router is newer than this program."""
    from router.core.limits import KINDS  # takes time to import

    return next((kind for kind in KINDS if kind.name == entry["limit"]), None)


def _amount(entry: Json) -> Callable[[float | None], str]:
    kind = _kind(entry)
    return units.usd if kind is not None and kind.money else units.count


def _forecast(entry: Json) -> str:
    """The use of a budget at its end, at the pace of the last days."""
    if (value := entry.get("forecast")) is None:
        return units.UNKNOWN if "forecast" in entry else ""
    colour = "red" if value > entry["max"] else "yellow" if value > 0.8 * entry["max"] else "green"
    return f"[{colour}]{units.usd(value)}[/]"


def _cells(entry: Json, minute: Json) -> list[str]:
    from router.core.limits import Shape

    kind, amount = _kind(entry), _amount(entry)
    reset = units.seconds(entry["reset_s"]) if entry["used"] else ""
    share = entry["used"] / entry["max"] if entry["max"] else 1.0
    colour = "green" if share < 0.7 else "yellow" if share < 1 else "red"
    rate = kind is not None and kind.shape is Shape.RATE
    recent = minute.get(kind.counts) if kind is not None and rate else None
    held = entry.get("held")
    notes = [f"{amount(recent)} in the last"] * bool(recent) + [f"{amount(held)} held ahead"] * bool(held)
    beside = f" [dim]({', '.join(notes)})[/]" if notes else ""
    most, whole = amount(entry["max"]), entry.get("plan_max") or entry["max"]
    return [
        str(entry["limit"]) if kind is None else kind.label + beside,
        amount(entry["used"]),
        f"[{colour}]{charts.bar(share, 12)}[/]",
        most if whole <= entry["max"] else f"{most} of {amount(whole)}",
        amount(entry["remaining"]),
        reset,
        f"[dim]{entry['scope']}[/]",
    ]
