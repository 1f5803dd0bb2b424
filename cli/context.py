"""The outside world as commands may touch it. Tests hand in another one; nothing else is patched."""

from __future__ import annotations

import os
import platform
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Annotated, Any, TypeVar

import typer

from cli.client import HttpRemote, Remote
from cli.errors import CliError, Exit
from cli.output import Output

Options = TypeVar("Options")

ADMIN_URL = "http://127.0.0.1:9090"
CLIENT_URL = "http://127.0.0.1:8080"

AdminUrl = Annotated[
    str | None,
    typer.Option("--admin-url", metavar="URL", help="The router's admin address.", rich_help_panel="Connection"),
]
AdminToken = Annotated[
    str | None,
    typer.Option("--admin-token", metavar="TOKEN", help="The admin token.", rich_help_panel="Connection"),
]
Router = Annotated[
    str | None,
    typer.Option("--router", metavar="NAME", help="Only this router. Default: all that share the store."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
ConfigPath = Annotated[
    str, typer.Option("--config", "-c", metavar="FILE", envvar="ROUTER_CONFIG", help="The configuration file.")
]


def connect(url: str, token: str | None, *, admin: bool) -> Remote:
    """The real way to a router."""
    if admin:
        what, flag = "the router's admin API", "--admin-url (ROUTER_ADMIN_URL)"
        denied = "Give the admin token with --admin-token (ROUTER_ADMIN_TOKEN)."
    else:
        what, flag = "the router", "--url (ROUTER_URL)"
        denied = "Give an API key with --key (ROUTER_API_KEY); `router keys create NAME` makes one."
    hint = f"Start one with `router serve` or `router demo`, or name a running one with {flag}."
    return HttpRemote(url, token, what=what, hint=hint, denied=denied, operator=operator() if admin else None)


def operator() -> str:
    """Who sits at this terminal, for the history: ``anna@laptop``."""
    name = f"{os.environ.get('USER') or os.environ.get('LOGNAME') or 'somebody'}@{platform.node()}"
    return "".join(c for c in name if c.isprintable())[:100]


@dataclass
class Context:
    """``out`` is the terminal, ``admin`` the router's admin API; ``connect`` reaches any router's client surface."""

    out: Output = field(default_factory=Output)
    env: Mapping[str, str] = field(default_factory=lambda: os.environ)
    connect: Callable[..., Remote] = connect
    admin_url: str | None = None
    admin_token: str | None = None

    @cached_property
    def admin(self) -> Remote:
        url = self.admin_url or self.env.get("ROUTER_ADMIN_URL") or ADMIN_URL
        return self.connect(url, self.admin_token or self.env.get("ROUTER_ADMIN_TOKEN"), admin=True)

    def api(self, url: str | None, key: str | None) -> Remote:
        """The client surface of a router: where prompts go."""
        return self.connect(url or CLIENT_URL, key, admin=False)

    @property
    def can_ask(self) -> bool:
        """Somebody sits there who can answer."""
        return sys.stdin is not None and sys.stdin.isatty() and self.out.err.is_terminal

    def ask(self, question: str) -> str:
        """One line from the person at the terminal; the question goes to stderr."""
        self.out.prompt(question)
        return sys.stdin.readline()

    def scope(self, answer: Mapping[str, Any]) -> None:
        """Say whom an answer is about, as a remark."""
        fleet = answer.get("fleet")
        if not fleet:
            return
        names = ", ".join(fleet["routers"])
        text = fleet["scope"] if fleet["scope"] != "all routers" else f"{len(fleet['routers'])} routers: {names}"
        self.out.note(text + (f"; no answer from {', '.join(fleet['silent'])}" if fleet["silent"] else ""))

    def run(self, command: Callable[[Context, Options], Exit | None], options: Options) -> None:
        """Run the command and leave with its exit code. The one place where errors become words and codes."""
        try:
            code = command(self, options) or Exit.OK
        except CliError as error:
            self.out.error(error)
            code = error.code
        except BrokenPipeError:
            # The reader of our pipe has seen enough. Keep the interpreter from complaining at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            code = Exit.OK
        except KeyboardInterrupt:
            raise typer.Exit(130) from None
        raise typer.Exit(int(code))


def context(ctx: typer.Context, admin_url: str | None = None, admin_token: str | None = None) -> Context:
    """The context of this invocation; flags of the command win over flags of the program."""
    found = ctx.find_root().obj
    assert isinstance(found, Context)
    found.admin_url = admin_url or found.admin_url
    found.admin_token = admin_token or found.admin_token
    return found
