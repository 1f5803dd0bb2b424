"""The outside world as commands may touch it. Tests hand in another one; nothing else is patched.

A start imports this before it knows what is wanted, so it imports little: not Typer, nor dataclasses.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping
from functools import cached_property
from typing import Any, TypeVar

from cli.client import HttpRemote, Remote
from cli.contexts import Chosen, chosen
from cli.errors import CliError, Exit, StatusError
from cli.output import Output
from router.words import plural

Options = TypeVar("Options")

CLIENT_URL = "http://127.0.0.1:8080"


def connect(url: str, token: str | None, *, admin: bool, timeout_s: float | None = None) -> Remote:
    """The real way to a router. Each answer must come, or go on, within ``timeout_s``; None: as the question wants."""
    if admin:
        what, flag = "the router's admin API", "--admin-url (ROUTER_ADMIN_URL) or --context"
        denied = "Give the admin token with --admin-token (ROUTER_ADMIN_TOKEN)."
    else:
        what, flag = "the router", "--url (ROUTER_URL)"
        denied = "Give an API key with --key (ROUTER_API_KEY); `router keys create NAME` makes one."
    hint = f"Start one with `router serve` or `router demo`, or name a running one with {flag}."
    who = operator() if admin else None
    return HttpRemote(url, token, what=what, hint=hint, denied=denied, operator=who, timeout_s=timeout_s)


def operator() -> str:
    """Who sits at this terminal, for the history: ``anna@laptop``."""
    name = f"{os.environ.get('USER') or os.environ.get('LOGNAME') or 'somebody'}@{os.uname().nodename}"
    return "".join(c for c in name if c.isprintable())[:100]


class Context:
    """``out`` is the terminal, ``admin`` the router's admin API; ``connect`` reaches any router's client surface."""

    def __init__(
        self,
        out: Output | None = None,
        env: Mapping[str, str] | None = None,
        connect: Callable[..., Remote] = connect,
        admin_url: str | None = None,
        admin_token: str | None = None,
        context_name: str | None = None,
    ) -> None:
        self.out = Output() if out is None else out
        self.env = os.environ if env is None else env
        self.connect = connect
        self.admin_url = admin_url
        self.admin_token = admin_token
        self.context_name = context_name
        self.timeout_s: float | None = None  # of --timeout

    def asking(self, admin_url: str, admin_token: str | None) -> Context:
        """The same, with another router to ask."""
        other = Context(self.out, self.env, self.connect, admin_url, admin_token, self.context_name)
        other.timeout_s = self.timeout_s
        return other

    @cached_property
    def chosen(self) -> Chosen:
        """The router that is asked, and why that one."""
        return chosen(self.env, url=self.admin_url, token=self.admin_token, context=self.context_name)

    @cached_property
    def admin(self) -> Remote:
        return self.connect(self.chosen.url, self.chosen.token, admin=True, **self._patience)

    def api(self, url: str | None, key: str | None) -> Remote:
        """The client surface of a router: where prompts go."""
        return self.connect(url or CLIENT_URL, key, admin=False, **self._patience)

    @property
    def _patience(self) -> dict[str, float]:
        return {} if self.timeout_s is None else {"timeout_s": self.timeout_s}

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
        names = fleet["routers"]
        who = {"all routers": plural(len(names), "router"), "this router only": "this router only"}
        text = f"{who[fleet['scope']]}: {', '.join(names)}" if fleet["scope"] in who else fleet["scope"]
        self.out.note(text + (f"; no answer from {', '.join(fleet['silent'])}" if fleet["silent"] else ""))

    def run(self, command: Callable[[Context, Options], Exit | int | None], options: Options) -> None:
        """Run the command and leave with its exit code."""
        import typer

        raise typer.Exit(self.outcome(lambda: command(self, options)))

    def outcome(self, command: Callable[[], Exit | int | None]) -> int:
        """Run the command. The one place where errors become words and codes."""
        try:
            return int(command() or Exit.OK)
        except CliError as error:
            self._say_which(error)
            self.out.error(error)
            return int(error.code)
        except BrokenPipeError:
            # The reader of our pipe has seen enough. Keep the interpreter from complaining at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return Exit.OK
        except KeyboardInterrupt:
            return 130

    def _say_which(self, error: CliError) -> None:
        """A router that does not answer, or refuses the token, may be that of a context one has forgotten."""
        nobody = error.code is Exit.UNREACHABLE or (isinstance(error, StatusError) and error.status == 401)
        if nobody and "admin" in self.__dict__ and self.chosen.context is not None:
            error.details = (*error.details, f"this was asked of the context {self.chosen.context} ({self.chosen.why})")
