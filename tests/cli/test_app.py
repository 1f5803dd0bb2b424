"""The command tree: what a start imports, and that it is the same program however little of it is loaded."""

from __future__ import annotations

import subprocess
import sys

import pytest
import typer

from cli.app import COMMANDS, build, called
from tests.cli.test_program import _path
from tests.support.admin_stand_in import StandIn

WIDTH = 80
ASKED = ("status", "regions", "routers", "capacity", "keys", "requests", "events")


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


#: what no command needs that only looks
HEAVY = {
    "pydantic",
    "textual",
    "aiohttp",
    "asyncio",
    "redis",
    "uvloop",
    "httptools",
    "msgspec",
    "orjson",
    "tomlkit",
    "rich",
}
#: and what is left out besides, where Typer is
PLAIN = HEAVY | {"typer", "dataclasses", "inspect", "tomllib", "logging", "cli.tree", "cli.context"}
NOT_IMPORTED = [
    ("--help", PLAIN | {"http", "json", "cli.quick"}),
    ("--version", PLAIN | {"http", "json", "cli.quick"}),
    ("status --json", PLAIN),
    ("regions list --json --admin-url URL", PLAIN),
    ("routers list -q --json", PLAIN),
    ("capacity --json", PLAIN),
    ("status --json --timeout 5", HEAVY),
    ("keys list --json", HEAVY),
    ("traffic list --json", HEAVY),
    ("events --json", HEAVY),
    *((f"{name} --help", HEAVY) for name in COMMANDS),
]


@pytest.mark.parametrize(("line", "denied"), NOT_IMPORTED, ids=[line for line, _ in NOT_IMPORTED])
def test_a_start_does_not_import(line: str, denied: set[str]) -> None:
    """Modules are counted, not seconds: the clock would be a flaky witness."""
    answer = {"data": [], "fleet": None, "router": {"ready": True}}
    with StandIn({("GET", f"/admin/v1/{path}"): answer for path in ASKED}) as admin:
        words = line.replace("URL", admin.url).split()
        code = (
            "import sys, atexit; atexit.register(lambda: print(*sys.modules, file=sys.stderr));"
            f"sys.argv = ['router', *{words!r}]; from cli.app import main; main()"
        )
        env = {**_path(), "ROUTER_ADMIN_URL": admin.url}
        done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=env)
        assert bool(admin.asked) == ("--json" in words)
    assert done.stdout
    loaded = set(done.stderr.split())
    assert not (loaded | {name.partition(".")[0] for name in loaded}) & denied


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
