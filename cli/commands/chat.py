"""router chat: one prompt or a conversation, each answer as it comes, and the route it took."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Annotated

import typer

from cli.completion import first_model
from cli.context import CLIENT_URL, AdminToken, AdminUrl, AsJson, Context, context
from cli.conversation import Asking, Conversation, line_of_terminal
from cli.errors import CliError, Exit


@dataclass(frozen=True, slots=True)
class ChatOptions:
    prompt: str | None
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
    prompt: Annotated[
        str | None,
        typer.Argument(metavar="[PROMPT]", help="Prompt to send (- for stdin). Without it: a conversation."),
    ] = None,
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
    """Stream one answer, then show the route it took and why. Without a prompt: a conversation, turn by turn."""
    options = ChatOptions(prompt, model, url, key, max_tokens, region, residency, explain, as_json)
    context(ctx, admin_url, admin_token).run(run_chat, options)


def run_chat(ctx: Context, options: ChatOptions) -> Exit | int | None:
    prompt = sys.stdin.read() if options.prompt == "-" else options.prompt
    if prompt is not None and not prompt.strip():
        raise CliError("the prompt is empty", code=Exit.USAGE)
    api = ctx.api(options.url, options.key)
    asking = Asking(
        options.model or first_model(api),
        options.max_tokens,
        options.region,
        options.residency,
        explain=options.explain,
        as_json=options.as_json,
    )
    conversation = Conversation(ctx, api, asking, read=line_of_terminal)
    if prompt is None:
        return conversation.run()
    answer = conversation.turn(prompt)
    if options.as_json:
        ctx.out.json(answer.document())
    else:
        conversation.show_route(answer)
    return None
