"""The command tree of ``router``."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from cli.commands import policies
from cli.context import AdminToken, AdminUrl, Context, context


def _version(asked: bool) -> None:
    if asked:
        from router import __version__

        typer.echo(f"router {__version__}")
        raise typer.Exit


def _root(
    ctx: typer.Context,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    """A global router for LLM traffic: prompts go where the first token comes soonest."""
    if ctx.obj is None:
        ctx.obj = Context()
    context(ctx, admin_url, admin_token)


def build() -> typer.Typer:
    """The whole program. Every command is named here once."""
    app = typer.Typer(
        name="router",
        no_args_is_help=True,
        rich_markup_mode="rich",
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    app.add_typer(policies.group, name="policies")
    return app


def main() -> None:
    """Entry point of the program."""
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character gets a question mark, not a traceback.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    build()()
