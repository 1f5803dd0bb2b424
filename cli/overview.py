"""The help of the whole program, without Typer: people ask for it most, and it should come at once."""

from __future__ import annotations

from cli.app import COMMANDS
from cli.errors import MEANINGS

SUMMARY = "A global router for LLM traffic: prompts go where the first token comes soonest."

#: The options before a command, as ``tree`` has them; a test holds the two equal.
OPTIONS = {
    "--admin-url URL": "The router's admin address.",
    "--admin-token TOKEN": "The admin token.",
    "--context NAME": "The router of this context (`router ctx`).",
    "--version": "Print the version.",
    "--install-completion": "Install completion for the current shell.",
    "--show-completion": "Show completion for the current shell.",
    "-h, --help": "Show this message and exit.",
}


def overview() -> str:
    """Ready to print, 80 columns wide."""
    lines = ["Usage: router [OPTIONS] COMMAND [ARGS]...", "", *(f"  {line}" for line in _halves(SUMMARY))]
    lines += ["", "Options:", *_rows(OPTIONS)]
    for heading in dict.fromkeys(entry.heading for entry in COMMANDS.values()):
        lines += ["", f"{heading}:", *_rows({n: e.help for n, e in COMMANDS.items() if e.heading == heading}, _WIDEST)]
    lines += ["", "Exit codes:", *_rows({str(int(code)): text for code, text in MEANINGS.items()})]
    lines += ["", "`router COMMAND --help` has examples; `man router` and docs/cli.md have it all."]
    return "\n".join(lines) + "\n"


_WIDEST = max(map(len, COMMANDS))


def _halves(text: str) -> tuple[str, str]:
    head, _, tail = text.rpartition(" ")
    return head, tail


def _rows(rows: dict[str, str], width: int = 0) -> list[str]:
    width = width or max(map(len, rows))
    return [f"  {name:<{width}}  {text}" for name, text in rows.items()]
