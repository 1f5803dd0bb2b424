"""router chat: one prompt, its answer as it comes, and the route it took."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Annotated

import typer

from cli.commands.explain import print_decision
from cli.completion import complete, first_model
from cli.context import CLIENT_URL, AdminToken, AdminUrl, AsJson, Context, context
from cli.errors import CliError, Exit
from cli.route import find_record, route_line, why_line


@dataclass(frozen=True, slots=True)
class ChatOptions:
    prompt: str
    model: str | None
    url: str | None
    key: str | None
    max_tokens: int | None
    region: str | None
    residency: str | None
    explain: bool
    as_json: bool


def command(
    ctx: typer.Context,
    prompt: Annotated[str, typer.Argument(metavar="PROMPT", help="Prompt to send (- for stdin).")],
    model: Annotated[str | None, typer.Option(help="Default: the first one the router serves.")] = None,
    url: Annotated[
        str | None, typer.Option(envvar="ROUTER_URL", help=f"Where the router serves clients. Default: {CLIENT_URL}.")
    ] = None,
    key: Annotated[str | None, typer.Option(envvar="ROUTER_API_KEY", help="An API key of the router.")] = None,
    max_tokens: Annotated[int | None, typer.Option(min=1, help="Longest answer, tokens.")] = None,
    region: Annotated[str | None, typer.Option(help="Only this region.")] = None,
    residency: Annotated[str | None, typer.Option(help="Only these jurisdictions, separated by commas.")] = None,
    explain: Annotated[bool, typer.Option("--explain", help="Show every candidate of the decision.")] = False,
    as_json: AsJson = False,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
) -> None:
    """Stream one answer, then show the route it took and why."""
    options = ChatOptions(prompt, model, url, key, max_tokens, region, residency, explain, as_json)
    context(ctx, admin_url, admin_token).run(run_chat, options)


def run_chat(ctx: Context, options: ChatOptions) -> None:
    from rich.padding import Padding

    prompt = sys.stdin.read() if options.prompt == "-" else options.prompt
    if not prompt.strip():
        raise CliError("the prompt is empty", code=Exit.USAGE)
    api = ctx.api(options.url, options.key)
    asks = {"x-router-region": options.region, "x-router-residency": options.residency}
    room = ctx.out.width if ctx.out.is_tty else None
    answer = complete(
        api,
        options.model or first_model(api),
        [{"role": "user", "content": prompt}],
        max_tokens=options.max_tokens,
        headers={name: text for name, text in asks.items() if text is not None},
        on_text=(lambda text: None) if options.as_json else ctx.out.flow(room=room),
    )
    if options.as_json:
        ctx.out.json(answer.document())
        return
    ctx.out.plain("")
    ctx.out.plain("")
    ctx.out.line(f"[green]▶[/] {route_line(answer)}")
    record = find_record(ctx.admin, answer.request_id)
    if record is None:
        if options.explain:
            ctx.out.warn(f"no admin API at {ctx.admin.url} knows this request: say --admin-url to see the decision")
    elif options.explain:
        ctx.out.line("")
        print_decision(ctx, record["decision"])
    else:
        ctx.out.line(Padding(f"[dim]{why_line(record)}[/]", (0, 0, 0, 2)))
