"""The command tree as Typer has it."""

from __future__ import annotations

from importlib import import_module
from typing import Annotated

import typer

from cli.app import COMMANDS, FURTHER, Entry
from cli.context import AdminToken, AdminUrl, Context, ContextName, context
from cli.help import Program
from cli.overview import SUMMARY


def _version(asked: bool) -> None:
    if asked:
        from router import __version__

        typer.echo(f"router {__version__}")
        raise typer.Exit


def _root(
    ctx: typer.Context,
    admin_url: AdminUrl = None,
    admin_token: AdminToken = None,
    name: ContextName = None,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    if ctx.obj is None:
        ctx.obj = Context()
    context(ctx, admin_url, admin_token, name)


def build(only: str | None = None) -> typer.Typer:
    """The whole program. With ``only`` just this command works, and the others are there by name and help alone: most
    of a start is the import of commands that nobody called."""
    app = typer.Typer(
        name="router",
        no_args_is_help=True,
        rich_markup_mode=None,
        cls=Program,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback(help=SUMMARY)(_root)
    for name, entry in COMMANDS.items():
        if only in (None, name):
            _add(app, name, entry)
        else:
            app.command(name, short_help=entry.help, rich_help_panel=entry.heading)(_named)
    return app


def _add(app: typer.Typer, name: str, entry: Entry) -> None:
    module = import_module(f"cli.commands.{name}")
    group = getattr(module, "group", None)
    if group is None:
        app.command(name, short_help=entry.help, rich_help_panel=entry.heading)(module.command)
        return
    for word, other, function in FURTHER.get(name, ()):
        group.command(word)(getattr(import_module(f"cli.commands.{other}"), function))
    app.add_typer(group, name=name, short_help=entry.help, rich_help_panel=entry.heading)


def _named() -> None:
    raise AssertionError("only the list of commands has this one")
