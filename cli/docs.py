"""docs/cli.md from the program itself: ``python -m cli.docs > docs/cli.md``. A test holds the two equal."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from cli.app import build
from cli.context import CLIENT_URL
from cli.contexts import DEFAULT_URL
from cli.errors import MEANINGS
from cli.examples import examples

VARIABLES = {
    "ROUTER_ADMIN_URL": f"the router's admin address, as `--admin-url`; default `{DEFAULT_URL}`",
    "ROUTER_ADMIN_TOKEN": "the admin token, as `--admin-token`",
    "ROUTER_CONTEXT": "the name of a context, as `--context`",
    "XDG_CONFIG_HOME": "where `meridian/contexts.toml` is, instead of `~/.config`",
    "ROUTER_URL": f"where the router serves clients, for `chat`; default `{CLIENT_URL}`",
    "ROUTER_API_KEY": "an API key of the router, for `chat`",
    "ROUTER_CONFIG": "the configuration file, instead of `regions.toml`",
    "NO_COLOR": "no colours",
}

_INTRO = """\
# The command line

One program, `router`, runs the router and operates it. Every command that reads takes `--json` and then prints the
documents of the admin API. Results go to standard output, remarks and errors to standard error.
An error says what happened, and then what to do. Where a document of the admin API has a moment in seconds since 1970,
`since_s`, JSON has it as an ISO time beside it: `since`.

This page is made from the program: `python -m cli.docs > docs/cli.md`.
"""

_WHICH = """\
## Which router is asked

The first of these that is there: a flag (`--admin-url`, or `--context NAME`), the environment (`ROUTER_ADMIN_URL`, or
`ROUTER_CONTEXT`), the current context (`router ctx use NAME`), the default. On one level the address wins over a name.
The same order holds for the token: `--admin-token`, then the token file of `--context`, then `ROUTER_ADMIN_TOKEN`, then
the token file of the current context. The token file of a context is used for the address of that context only.
`router ctx show` says what is in force, and why. A context chooses the router that answers; `--router NAME` is another
thing: which routers of one fleet the answer is about.

Contexts stand in `~/.config/meridian/contexts.toml`. A token file must be readable for its owner only (mode 0600).
"""

#: Shown once for all commands, not with each.
_COMMON = {"--admin-url", "--admin-token", "--context", "--timeout", "--quiet", "--help", "--json"}


def markdown() -> str:
    """The whole page."""
    program = get_command(build())
    lines = [_INTRO, "## Exit codes", "", *_table(("code", "meaning"), [(str(int(c)), t) for c, t in MEANINGS.items()])]
    lines += [
        "",
        "## Environment",
        "",
        *_table(("variable", "meaning"), [(f"`{n}`", t) for n, t in VARIABLES.items()]),
    ]
    lines += ["", *_WHICH.splitlines(), "", "## Commands", ""]
    found = list(commands(program, "router"))
    rows = [(f"[`{name}`](#{name.replace(' ', '-')})", _first_line(command)) for name, command in found]
    lines += _table(("command", "what it does"), rows)
    for name, command in found:
        lines += ["", f"### {name}", "", *_describe(name, command)]
    return "\n".join(lines) + "\n"


def commands(command: Any, name: str) -> Iterator[tuple[str, Any]]:
    """Every command that does something, with its whole name, in the order of the help."""
    inner = getattr(command, "commands", None)
    if inner is None:
        yield name, command
        return
    for word, child in inner.items():
        yield from commands(child, f"{name} {word}")


def _describe(name: str, command: Any) -> Iterator[str]:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option"]
    common = [p for p in options if shared(p)]
    own = [p for p in options if p not in common]
    words = [a.metavar or a.name.upper() for a in arguments]
    if len(options) > len([p for p in options if "--help" in p.opts]):
        words.append("[OPTIONS]")
    yield inspect.cleandoc(command.help or "")
    yield ""
    yield "```"
    yield " ".join([name, *words])
    yield "```"
    rows = [(f"`{a.metavar or a.name.upper()}`", meaning(a)) for a in arguments]
    rows += [(_spelling(option), meaning(option)) for option in own]
    if rows:
        yield ""
        yield from _table(("", ""), rows)
    names = [f"`{p.opts[0]}`" for p in common if p.opts[0] != "--help"]
    if names:
        yield ""
        yield f"Also {', '.join(names)}."
    yield ""
    yield "```sh"
    for example in examples(name.removeprefix("router ")):
        yield f"{example.line}    # {example.does}"
    yield "```"


def _spelling(option: Any) -> str:
    names = sorted([*option.opts, *option.secondary_opts], key=len)
    takes = "" if option.is_flag else f" {option.metavar or option.name.upper()}"
    return ", ".join(f"`{name}{takes}`" for name in names)


def shared(parameter: Any) -> bool:
    """Most commands have it: it is described once for all."""
    return parameter.opts[0] in _COMMON and not parameter.required


def meaning(parameter: Any) -> str:
    """The help of an option or argument, with its default."""
    text = (parameter.help or "").replace("|", "\\|")
    default = parameter.default
    shown = default is not None and not callable(default) and default not in (False, (), [])
    if shown and "Default" not in text and not getattr(parameter, "is_flag", False):
        text += f" Default: `{getattr(default, 'value', default)}`."
    return text


def _first_line(command: Any) -> str:
    """One sentence on one line: it stands in a table."""
    return " ".join((command.help or "").split()).partition(". ")[0].rstrip(".")


def _table(heads: tuple[str, str], rows: list[tuple[str, str]]) -> Iterator[str]:
    yield f"| {heads[0]} | {heads[1]} |"
    yield "|---|---|"
    for row in rows:
        yield f"| {row[0]} | {row[1]} |"


if __name__ == "__main__":
    sys.stdout.write(markdown())
