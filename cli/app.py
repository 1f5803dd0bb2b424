"""The program ``router``: its commands by name, and how it starts.

A start imports what is needed for what was typed: most of its time is imports. ``tree`` has the rest.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple, NoReturn

if TYPE_CHECKING:
    import typer


class Entry(NamedTuple):
    """A command of the program. ``help`` is its line in the list of all."""

    heading: str
    help: str


#: Every command, in the order of the list. Its module in ``cli.commands`` has its name, and in it a ``command``, or a
#: ``group`` of several.
COMMANDS = {
    "demo": Entry("Run", "Three regions, a router and a few streamed prompts."),
    "serve": Entry("Run", "Run the router."),
    "chat": Entry("Run", "Stream an answer and see its route; or a conversation."),
    "status": Entry("Look", "The router and its fleet at a glance."),
    "top": Entry("Look", "The fleet and its traffic, live."),
    "explain": Entry("Look", "Why a request went where it went."),
    "capacity": Entry("Look", "Backends there are, needed and idle, per model and region."),
    "events": Entry("Look", "What changed, when, why and by whom."),
    "doctor": Entry("Look", "Check everything a router needs, and say what to do."),
    "traffic": Entry("Look", "Recent and live requests."),
    "routers": Entry("Look", "The routers that share the store."),
    "regions": Entry("Operate", "Regions and their backends, running and in the file."),
    "keys": Entry("Operate", "API keys: who may use the router."),
    "quota": Entry("Operate", "Limits of keys, tenants and models; who spends what."),
    "operators": Entry("Operate", "Who may operate the router: names, roles, tokens."),
    "config": Entry("Operate", "regions.toml, and what the router runs."),
    "ctx": Entry("Operate", "Contexts: routers by name, and the one commands ask."),
    "replay": Entry("Try out", "Play recorded requests on another fleet or policy."),
    "plan": Entry("Try out", "How many backends a target takes, and what they cost."),
    "bench": Entry("Try out", "Load on any OpenAI endpoint, with percentiles."),
    "chaos": Entry("Try out", "Make attempts fail on purpose, for a while."),
    "policies": Entry("Try out", "How a backend can be chosen."),
    "sim": Entry("Try out", "Simulated engines: OpenAI's API, real HTTP, no GPU."),
}
#: group -> (command, module, function) of those commands that have a file of their own
FURTHER = {
    "regions": (("drain", "drain", "command"), ("burn-in", "burn_in", "command"), ("sources", "sources", "command")),
    "config": (("apply", "config_apply", "apply"), ("rollback", "config_apply", "rollback")),
}


def build(only: str | None = None) -> typer.Typer:
    """The whole program. With ``only`` just this command works, and the others are there by name and help alone."""
    from cli import tree

    return tree.build(only)


def called(words: Sequence[str], env: Mapping[str, str]) -> str | None:
    """The command that these words of a command line call; "" for the list of all. None: that is not certain."""
    if "_ROUTER_COMPLETE" in env:
        # bash tells the words in the one, other shells in the other
        words = (env.get("COMP_WORDS") or env.get("_TYPER_COMPLETE_ARGS") or "").split()[1:]
        if len(words) < 2 and words[:1] not in [[name] for name in COMMANDS]:
            return ""
    for i, word in enumerate(words):
        if word in COMMANDS:
            # Behind an option it may be the option's value.
            return word if i == 0 or not words[i - 1].startswith("-") else None
    return "" if set(words) <= {"-h", "--help", "--version"} else None


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
            if not _at_once(sys.argv[1:]):
                build(called(sys.argv[1:], os.environ))()
        finally:
            sys.stdout.flush()
    except OSError as error:
        _cannot_write(error)


def _at_once(words: Sequence[str]) -> bool:
    """Do what needs no Typer, where it is certain what is wanted. False: nothing was done."""
    if "_ROUTER_COMPLETE" in os.environ:
        return False
    if words in (["--help"], ["-h"]):
        from cli.overview import overview

        sys.stdout.write(overview())
        return True
    if words == ["--version"]:
        from router import __version__

        sys.stdout.write(f"router {__version__}\n")
        return True
    from cli import quick

    if (asked := quick.understood(words)) is None:
        return False
    sys.exit(quick.answer(asked))


def _cannot_write(error: OSError) -> NoReturn:
    """Send later output nowhere: Python would report the error again at the end."""
    import contextlib
    import errno

    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    if error.errno == errno.EPIPE:
        sys.exit(0)
    with contextlib.suppress(OSError):
        os.write(2, f"error: cannot write the output: {(error.strerror or str(error)).lower()}\n".encode())
    sys.exit(1)
