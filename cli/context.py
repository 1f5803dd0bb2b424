"""Flags that many commands have, and the world of this invocation."""

from __future__ import annotations

from typing import Annotated

import typer

from cli.client import LOOK_S, WORK_S
from cli.world import CLIENT_URL, Context, connect, operator

__all__ = ["CLIENT_URL", "Context", "connect", "context", "operator"]

AdminUrl = Annotated[
    str | None,
    typer.Option("--admin-url", metavar="URL", help="The router's admin address.", rich_help_panel="Connection"),
]
AdminToken = Annotated[
    str | None,
    typer.Option("--admin-token", metavar="TOKEN", help="The admin token.", rich_help_panel="Connection"),
]
ContextName = Annotated[
    str | None,
    typer.Option(
        "--context", metavar="NAME", help="The router of this context (`router ctx`).", rich_help_panel="Connection"
    ),
]
Timeout = Annotated[
    float | None,
    typer.Option(
        "--timeout",
        metavar="SECONDS",
        min=0.1,
        max=3600,
        help=f"Wait this long for the router's answer. Default: {LOOK_S:g} to look, {WORK_S:g} to change something.",
        rich_help_panel="Connection",
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only results, warnings and errors.")]
Router = Annotated[
    str | None,
    typer.Option("--router", metavar="NAME", help="Only this router. Default: all that share the store."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ConfigPath = Annotated[
    str, typer.Option("--config", "-c", metavar="FILE", envvar="ROUTER_CONFIG", help="The configuration file.")
]
OwnConfigPath = Annotated[
    str | None,
    typer.Option(
        "--config",
        "-c",
        metavar="FILE",
        envvar="ROUTER_CONFIG",
        help="The configuration file. Default: the running router's, if it is on this machine, else regions.toml.",
    ),
]


def context(
    ctx: typer.Context, admin_url: str | None = None, admin_token: str | None = None, name: str | None = None
) -> Context:
    """The context of this invocation; flags of the command win over flags of the program. ``name``: of --context."""
    found = ctx.find_root().obj
    assert isinstance(found, Context)
    if admin_url:
        found.admin_url, found.context_name = admin_url, None
    elif name:
        found.admin_url, found.context_name = None, name
    found.admin_token = admin_token or found.admin_token
    return found
