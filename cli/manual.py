"""The manual page from the program itself: ``python -m cli.manual > docs/router.1``. A test holds the two equal."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator
from typing import Any

from typer.main import get_command

from cli.app import COMMANDS, build
from cli.docs import VARIABLES, commands, meaning, shared
from cli.errors import MEANINGS
from cli.examples import examples
from router import __version__

_DESCRIPTION = """\
One program, router, runs the router and operates it: it routes OpenAI-compatible requests to the LLM engine, in any
region, that will produce the first token soonest, within each tenant's quota and data-residency rules.

Every command that reads takes --json and then prints the documents of the admin API. Results go to standard output,
remarks and errors to standard error. Moments in JSON are in seconds since 1970, as since_s, and in ISO 8601, as since.
"""

_FILES = {
    "regions.toml": "the configuration: regions, backends, plans; `router config init` writes one",
    "~/.config/meridian/contexts.toml": "routers by name: `router ctx`",
}

_SEE = "The folder docs of the source has the rest: install.md, config.md, cli.md, errors.md, runbook.md."


def page() -> str:
    """The whole page, in roff's macros for manual pages."""
    program = get_command(build())
    lines = [
        r".\" The page is made from the program: python -m cli.manual",
        f'.TH ROUTER 1 "" "Meridian {__version__}" "Meridian"',
        ".SH NAME",
        r"router \- run and operate a global router for LLM traffic",
        ".SH SYNOPSIS",
        r".B router",
        r"[\fIOPTIONS\fR] \fICOMMAND\fR [\fIARGS\fR]...",
        ".SH DESCRIPTION",
        *_paragraphs(_DESCRIPTION),
    ]
    headings = dict.fromkeys(entry.heading for entry in COMMANDS.values())
    every = list(commands(program, "router"))
    for heading in headings:
        lines.append(f".SH {heading.upper()}")
        for name, command in every:
            if COMMANDS[name.split()[1]].heading == heading:
                lines += _command(name, command)
    lines += [".SH OPTIONS OF MOST COMMANDS", *_options([p for p in _named(every) if shared(p)])]
    lines += [".SH EXIT STATUS", *_list({str(int(code)): text for code, text in MEANINGS.items()})]
    lines += [".SH ENVIRONMENT", *_list(VARIABLES), ".SH FILES", *_list(_FILES)]
    lines += [".SH SEE ALSO", *_paragraphs(_SEE)]
    return "\n".join(lines) + "\n"


def _named(every: list[tuple[str, Any]]) -> list[Any]:
    """Each option once, by its name."""
    return list({p.opts[0]: p for _, command in every for p in command.params if p.opts[0].startswith("-")}.values())


def _command(name: str, command: Any) -> Iterator[str]:
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    own = [p for p in command.params if p.param_type_name == "option" and not shared(p)]
    yield f".SS {_text(name)}"
    yield from _paragraphs(inspect.cleandoc(command.help or ""))
    words = " ".join(rf"\fI{_text(a.metavar or a.name.upper())}\fR" for a in arguments)
    yield ".PP"
    yield rf"\fB{_text(name)}\fR {words} [\fIOPTIONS\fR]".replace("  ", " ")
    yield from _list({a.metavar or a.name.upper(): meaning(a) for a in arguments}, font="I")
    yield from _options(own)
    if found := examples(name.removeprefix("router ")):
        yield ".PP"
        yield "Examples:"
        yield ".PP"
        yield ".EX"
        for example in found:
            yield f"# {_text(example.does)}"
            yield _text(example.line)
        yield ".EE"


def _options(options: list[Any]) -> Iterator[str]:
    for option in options:
        names = sorted([*option.opts, *option.secondary_opts], key=len)
        value = "" if option.is_flag else rf" \fI{_text(option.metavar or option.name.upper())}\fR"
        yield ".TP"
        yield ", ".join(rf"\fB{_text(each)}\fR{value}" for each in names)
        yield _markup(meaning(option))


def _list(rows: dict[str, str], font: str = "B") -> Iterator[str]:
    for name, text in rows.items():
        yield ".TP"
        yield rf"\f{font}{_text(name)}\fR"
        yield _markup(text)


def _paragraphs(text: str) -> Iterator[str]:
    for n, paragraph in enumerate(text.strip().split("\n\n")):
        if n:
            yield ".PP"
        yield _markup(" ".join(paragraph.split()))


def _markup(text: str) -> str:
    """Words in backquotes stand in bold."""
    return re.sub(r"`([^`]*)`", r"\\fB\1\\fR", _text(text.replace("\\|", "|"))) or r"\&"


def _text(text: str) -> str:
    """As it is: roff takes a hyphen for a break and a dot or a quote at the beginning for a command."""
    told = text.replace("\\", r"\e").replace("-", r"\-").replace("…", "...")
    return rf"\&{told}" if told.startswith((".", "'")) else told


if __name__ == "__main__":
    sys.stdout.write(page())
