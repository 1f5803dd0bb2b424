"""The command tree: what a start imports, and that it is the same program however little of it is loaded."""

from __future__ import annotations

import subprocess
import sys

import pytest
import typer

from cli.app import COMMANDS, build, called
from tests.cli.test_program import _path

WIDTH = 80


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_loaded_alone_is_the_one_of_the_whole_program(name: str) -> None:
    whole, alone = (typer.main.get_command(build(only)).commands[name] for only in (None, name))  # type: ignore[attr-defined]
    assert _shape(alone) == _shape(whole)


def _shape(command: object) -> object:
    inner = getattr(command, "commands", None)
    options = [p.opts for p in command.params]  # type: ignore[attr-defined]
    return options if inner is None else {word: _shape(child) for word, child in inner.items()}


@pytest.mark.parametrize(
    ("words", "env", "only"),
    [
        (["status", "--json"], {}, "status"),
        (["regions", "drain", "us-east"], {}, "regions"),
        (["--admin-url", "http://a:1", "status"], {}, "status"),
        (["--context", "status", "keys", "list"], {}, None),  # "status" may be the context's name
        (["--help"], {}, ""),
        (["-h"], {}, ""),
        (["--version"], {}, ""),
        ([], {}, ""),
        (["statsu"], {}, None),
        (["--help", "keys"], {}, None),
        ([], {"_ROUTER_COMPLETE": "complete_bash", "COMP_WORDS": "router keys show "}, "keys"),
        ([], {"_ROUTER_COMPLETE": "complete_zsh", "_TYPER_COMPLETE_ARGS": "router keys show a"}, "keys"),
        ([], {"_ROUTER_COMPLETE": "complete_bash", "COMP_WORDS": "router ke"}, ""),
    ],
)
def test_what_need_not_be_loaded(words: list[str], env: dict[str, str], only: str | None) -> None:
    assert called(words, env) == only


@pytest.mark.parametrize(("words", "command"), [(["--help"], set()), (["status", "--help"], {"status"})])
def test_a_start_imports_the_command_that_is_called(words: list[str], command: set[str]) -> None:
    code = (
        "import sys, atexit; atexit.register(lambda: print(*sys.modules, file=sys.stderr));"
        f"sys.argv = ['router', *{words!r}]; from cli.app import main; main()"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=_path())
    loaded = done.stderr.split()
    assert {name.removeprefix("cli.commands.") for name in loaded if name.startswith("cli.commands.")} == command
    assert not {"pydantic", "rich", "ssl", "textual"} & set(loaded)


def test_the_list_of_commands_is_not_cut_off() -> None:
    widest = max(map(len, COMMANDS))
    assert not {name for name, entry in COMMANDS.items() if len(entry.help) > WIDTH - widest - 6}
