"""router explain: where a prompt would go, or why a request went where it went."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

import typer

from cli import units
from cli.commands.replay import Add, Without
from cli.context import AdminToken, AdminUrl, AsJson, Context, context
from cli.decision_view import DecisionTable, changes, chosen, in_seconds
from cli.errors import CliError, Exit, unknown
from cli.output import dotted, escape
from cli.waterfall import waterfall
from cli.why import sentence

Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class ExplainOptions:
    request_id: str | None
    dry_run: Json
    as_json: bool
    what_if: Json = field(default_factory=dict)


def command(
    ctx: typer.Context,
    request_id: Annotated[str | None, typer.Argument(metavar="[ID]", help="A request's id, or 'last'.")] = None,
    model: Annotated[str | None, typer.Option(help="Or: a model, to ask where a prompt would go.")] = None,
    prompt: Annotated[str, typer.Option(help="The prompt; nothing is sent to a backend.")] = "Hello",
    max_tokens: Annotated[int | None, typer.Option(help="The longest answer wanted.")] = None,
    region: Annotated[str | None, typer.Option(help="Only this region.")] = None,
    from_region: Annotated[
        str | None, typer.Option("--from", metavar="REGION", help="As if client and router stood in this region.")
    ] = None,
    residency: Annotated[list[str] | None, typer.Option(help="Only this jurisdiction; may be repeated.")] = None,
    policy: Annotated[str | None, typer.Option(help="Another policy than the router's.")] = None,
    without: Without = None,
    add: Add = None,
    scale: Annotated[
        float | None, typer.Option(min=0.01, max=1000, help="As if there were this many times as many requests.")
    ] = None,
    as_json: AsJson = False,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """Why a request went where it went. With --model: where a prompt would go now; nothing is sent.

    With --without, --add or --scale the decision is taken again as if that were so. Nothing of the fleet changes.
    """
    asked: Json = {"model": model, "max_tokens": max_tokens, "region": region, "residency": residency, "policy": policy}
    asked["from"] = from_region
    what_if: Json = {"without": without, "add": add, "scale": scale}
    dry_run: Json = {name: value for name, value in asked.items() if value}
    dry_run["messages"] = [{"role": "user", "content": prompt}]
    context(ctx, admin_url, admin_token).run(
        run_explain,
        ExplainOptions(request_id, dry_run, as_json, {name: value for name, value in what_if.items() if value}),
    )


def run_explain(ctx: Context, options: ExplainOptions) -> None:
    if options.request_id is not None and "model" in options.dry_run:
        raise CliError("say a request's ID or --model, not both", code=Exit.USAGE)
    if options.request_id is not None and "from" in options.dry_run:
        raise CliError("--from is for prompts: a request was decided where it was", code=Exit.USAGE)
    if options.request_id is None and "model" not in options.dry_run:
        hint = "`router explain ID` explains a request, `router explain --model M --prompt P` a prompt."
        raise CliError("explain what?", code=Exit.USAGE, hint=hint)
    asked = options.dry_run
    if options.request_id is not None:
        asked = {"request_id": request_id_of(ctx, options.request_id)}
    answer = ctx.admin.post("/admin/v1/explain", asked | options.what_if)
    if options.request_id is None and answer["decision"].get("reason") == "unknown_model":
        raise unknown("model", asked["model"], _models(ctx))
    if options.as_json:
        ctx.out.json(answer)
        return
    if answer.get("request"):
        record = answer["request"] | {"decision": answer["decision"]}
        ctx.out.line(escape(sentence(record)))
        ctx.out.line("")
        if record["attempts"]:
            ctx.out.line(waterfall(record))
            ctx.out.line("")
    print_decision(ctx, answer["decision"])
    if "what_if" in answer:
        print_what_if(ctx, answer["what_if"])


def _models(ctx: Context) -> set[str]:
    """Those that backends serve, and other names for them."""
    regions = ctx.admin.get("/admin/v1/regions")["data"]
    served = {model for region in regions for backend in region["backends"] for model in backend["models"] or ()}
    return served | set(ctx.admin.get("/admin/v1/config")["config"]["models"])


def print_what_if(ctx: Context, what_if: Json) -> None:
    """The decision as it would have been, and what that would have cost."""
    again = what_if["decision"]
    ctx.out.line("")
    ctx.out.line(f"[bold]{escape(what_if['says'])}[/]")
    ctx.out.line("")
    print_decision(ctx, again)
    if again.get("backend") is None:
        return
    if again.get("was") == again.get("backend"):
        ctx.out.line("It would go where it went.")
    elif again.get("worse_s") is not None and in_seconds(again):
        worse_s = again["worse_s"]
        ctx.out.line(f"That costs {units.seconds(abs(worse_s))} {'more' if worse_s >= 0 else 'less'} than it did.")


def request_id_of(ctx: Context, text: str) -> str:
    """``last``: the request that ended last."""
    if text != "last":
        return text
    newest = ctx.admin.get("/admin/v1/requests", limit=1)["data"]
    if not newest:
        raise CliError("there was no request yet", hint="`router chat PROMPT` sends one.")
    return str(newest[0]["request_id"])


def print_decision(ctx: Context, decision: Json) -> None:
    """The outcome in one line, then every candidate, then the change that would let each other backend win."""
    ctx.out.line(headline(decision))
    if found := decision.get("degraded"):
        plans = escape(", ".join(found["plans"])) or "none"
        ctx.out.line(f"[yellow]{escape(found['why'])}[/]  [dim]for plans that allow it: {plans}[/]")
    if decision["candidates"]:
        ctx.out.line("")
        ctx.out.line(DecisionTable(decision, bars=ctx.out.is_tty))
        for line in changes(decision):
            ctx.out.line(line)


def refused(record: Json) -> str | None:
    """Why a request was refused: which limit of which plan, or why no backend could take it. ``record``: of a request,
    or its decision."""
    words = escape(record.get("refusal") or "")
    if record.get("limit") is None:
        return words or None
    from router.core.limits import KINDS

    key = next((kind.key for kind in KINDS if kind.name == record["limit"]), record["limit"])
    limit = f"{key} of {_whose(record)}"
    return dotted(f"refused by {limit}" if record["limit"] != "store" else "refused without the store", words)


def _whose(record: Json) -> str:
    """A refusal is by the limit of a key's plan, of a tenant, of a model or of all."""
    scope, name = record.get("limit_scope"), escape(str(record.get("limit_of")))
    if scope in (None, "key"):
        return f"plan {escape(str(record.get('plan')))}"
    return "all requests together" if scope == "all" else f"{scope} {name}"


def headline(decision: Json) -> str:
    policy = f"policy {decision['policy']}" if decision.get("policy") else None
    if decision.get("kind") == "wait":
        return dotted("[yellow]it would wait[/]", decision.get("reason") or "every usable backend is full", policy)
    if decision.get("kind") == "reject":
        wait = decision.get("retry_after_s")
        again = f"again in {units.seconds(wait)}" if wait is not None else None
        return dotted(f"[red]{decision['reason']}[/]", escape(decision["detail"]), again, policy)
    winner = chosen(decision)
    if winner is None and decision.get("backend") is not None and not decision["candidates"]:
        return dotted(
            f"[bold]{decision['backend']}[/]",
            policy,
            "[dim]the router has forgotten the candidates of this decision[/]",
        )
    if winner is None:
        words = refused(decision)
        return dotted(f"[yellow]no backend was {'chosen' if words else 'left to choose'}[/]", words, policy)
    expected = decision.get("predicted_ttft_s")
    first = f"first token expected after {units.seconds(expected)}" if expected is not None else None
    return dotted(f"[bold]{winner['backend']}[/]", first, policy)
