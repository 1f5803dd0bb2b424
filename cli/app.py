"""The command tree of ``router``."""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from typing import Annotated, NoReturn

import typer

from cli.commands import (
    bench,
    burn_in,
    capacity,
    chaos,
    chat,
    config,
    config_apply,
    demo,
    doctor,
    drain,
    events,
    explain,
    keys,
    operators,
    plan,
    policies,
    quota,
    regions,
    replay,
    routers,
    serve,
    sim,
    sources,
    status,
    top,
    traffic,
)
from cli.commands import (
    ctx as contexts,
)
from cli.context import AdminToken, AdminUrl, Context, ContextName, context
from cli.help import Program


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
    """A global router for LLM traffic: prompts go where the first token comes soonest."""
    if ctx.obj is None:
        ctx.obj = Context()
    context(ctx, admin_url, admin_token, name)


def build() -> typer.Typer:
    """The whole program. Every command is named here once."""
    app = typer.Typer(
        name="router",
        no_args_is_help=True,
        rich_markup_mode=None,
        cls=Program,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    app.command("demo", rich_help_panel="Run")(demo.command)
    app.command("serve", rich_help_panel="Run")(serve.command)
    app.command("chat", rich_help_panel="Run")(chat.command)
    app.command("status", rich_help_panel="Look")(status.command)
    app.command("top", rich_help_panel="Look")(top.command)
    app.command("explain", rich_help_panel="Look")(explain.command)
    app.command("capacity", rich_help_panel="Look")(capacity.command)
    app.command("events", rich_help_panel="Look")(events.command)
    app.command("doctor", rich_help_panel="Look")(doctor.command)
    app.add_typer(traffic.group, name="traffic", rich_help_panel="Look")
    app.add_typer(routers.group, name="routers", rich_help_panel="Look")
    app.add_typer(regions.group, name="regions", rich_help_panel="Operate")
    regions.group.command("drain")(drain.command)
    regions.group.command("burn-in")(burn_in.command)
    regions.group.command("sources")(sources.command)
    app.add_typer(keys.group, name="keys", rich_help_panel="Operate")
    app.add_typer(quota.group, name="quota", rich_help_panel="Operate")
    app.add_typer(operators.group, name="operators", rich_help_panel="Operate")
    config.group.command("apply")(config_apply.apply)
    config.group.command("rollback")(config_apply.rollback)
    app.add_typer(config.group, name="config", rich_help_panel="Operate")
    app.add_typer(contexts.group, name="ctx", rich_help_panel="Operate")
    app.add_typer(chaos.group, name="chaos", rich_help_panel="Try out")
    app.add_typer(policies.group, name="policies", rich_help_panel="Try out")
    app.add_typer(sim.group, name="sim", rich_help_panel="Try out")
    app.command("replay", rich_help_panel="Try out")(replay.command)
    app.command("plan", rich_help_panel="Try out")(plan.command)
    app.command("bench", rich_help_panel="Try out")(bench.command)
    return app


def main() -> None:
    """Entry point of the program."""
    from router import stdio

    stdio.keep_open()
    for stream in (sys.stdout, sys.stderr):
        # A terminal that cannot show a character gets a question mark, not a traceback.
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="replace")
    try:
        try:
            build()()
        finally:
            sys.stdout.flush()
    except OSError as error:
        _cannot_write(error)


def _cannot_write(error: OSError) -> NoReturn:
    """Send later output nowhere: Python would report the error again at the end."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if error.errno == errno.EPIPE:
        sys.exit(0)
    with contextlib.suppress(OSError):
        os.write(2, f"error: cannot write the output: {(error.strerror or str(error)).lower()}\n".encode())
    sys.exit(1)
