"""How help looks: plain text under headings, as fast as start-up.

Typer's other way, boxes drawn by rich, imports Markdown and syntax modules that take longer than all else at start.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import typer
from typer.core import TyperGroup
from typer.main import get_command

from cli.context import ContextName, Quiet, Timeout, context
from cli.errors import CliError, Exit, in_our_voice
from cli.output import Output

#: Lines that cannot be parsed raise a kind of it. It is Click's, of which Typer has one within or installs one.
_UsageError: Any = typer.BadParameter.__base__


class Program(TyperGroup):
    """The whole program.

    Each command takes ``--quiet``, and each that takes ``--admin-url`` takes ``--context`` and ``--timeout``, too.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        for words, command in _inside(self):
            _add_common(command)
            command.short_help = command.short_help or _first_sentence(command.help or "")
            command.format_epilog = partial(_write_examples, " ".join(words))
            for parameter in command.params:
                _complete(words, parameter)

    def main(
        self,
        args: Any = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """As Typer runs a program, with its errors in our voice."""
        run = partial(super().main, args, prog_name, complete_var, False, windows_expand_args, **extra)
        if not standalone_mode:
            return run()
        try:
            code = run()
        except _UsageError as error:
            _say_usage(error)
            sys.exit(Exit.USAGE)
        except typer.Abort:
            sys.exit(130)
        sys.exit(code if isinstance(code, int) else 0)

    def list_commands(self, ctx: Any) -> list[str]:
        return list(self.commands)

    def format_help(self, ctx: Any, formatter: Any) -> None:
        from cli.overview import overview

        formatter.write(overview())


def _first_sentence(text: str) -> str:
    """For the list of a group, which then wraps it. Click would cut a longer text with dots."""
    return " ".join(text.split("\n\n")[0].split()).partition(". ")[0].rstrip(".") + "."


def _say_usage(error: Any) -> None:
    """A line that cannot be parsed. A group of commands alone is told as its list of commands."""
    if error.ctx is None or error.ctx.get_help() == error.format_message():
        error.show()
        return
    usage = " ".join(error.ctx.get_usage().split())
    hint = f"{usage}\n`{error.ctx.command_path} --help` says more."
    Output().error(CliError(in_our_voice(error.format_message()).rstrip("."), code=Exit.USAGE, hint=hint))


def _inside(group: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """The commands of a group, and of the groups in it, with their words."""
    for word, command in group.commands.items():
        here = (*words, word)
        yield from _inside(command, here) if hasattr(command, "commands") else ((here, command),)


def _write_examples(command: str, _ctx: Any, formatter: Any) -> None:
    """At the end of a command's help: lines to copy, each under what it does."""
    from cli.examples import examples

    if found := examples(command):
        with formatter.section("Examples"):
            for example in found:
                formatter.write(f"  # {example.does}\n  {example.line}\n")


def _complete(words: tuple[str, ...], parameter: Any) -> None:
    """The shell completes names of what the router has, where a parameter takes such names."""
    from cli.names import completions, kinds

    if wanted := kinds(" ".join(words), parameter.name):
        parameter._custom_shell_complete = lambda ctx, _, begun: completions(wanted, begun, os.environ, _flags(ctx))


def _flags(ctx: Any) -> dict[str, Any]:
    """The router that the words before name; those of the program count where the command's own say nothing."""
    chain = [ctx]
    while chain[-1].parent is not None:
        chain.append(chain[-1].parent)
    named = {"admin_url": "admin_url", "admin_token": "admin_token", "context": "name"}
    return {flag: next((c.params[p] for c in chain if c.params.get(p)), None) for flag, p in named.items()}


def _add_common(command: Any) -> None:
    """The flags that commands need not name; a flag of the same name in the command is its own."""
    there = {name for parameter in command.params for name in parameter.opts}
    at = next((i for i, p in enumerate(command.params) if p.name == "admin_url"), None)
    asks = at is not None
    for option in _common_options():
        if not there & set(option.opts) and (asks or option.name == "_quiet"):
            command.params.insert(len(command.params) if at is None else at, option)


def _common_options() -> list[Any]:
    """As Typer makes them of a command's parameters, each with what it does."""

    def holder(_timeout: Timeout = None, _name: ContextName = None, _quiet: Quiet = False) -> None:
        pass

    app = typer.Typer(add_completion=False)
    app.command()(holder)
    does: dict[str, Callable[..., None]] = {"_timeout": _wait, "_name": _choose, "_quiet": _hush}
    made = [p for p in get_command(app).params if p.name in does]
    for option in made:
        option.expose_value, option.callback = False, does[option.name or ""]
    return made


def _choose(ctx: Any, _parameter: Any, name: str | None) -> None:
    context(ctx, name=name)


def _wait(ctx: Any, _parameter: Any, timeout_s: float | None) -> None:
    if timeout_s is not None:
        context(ctx).timeout_s = timeout_s


def _hush(ctx: Any, _parameter: Any, quiet: bool) -> None:
    if quiet:
        context(ctx).out.quiet = True
