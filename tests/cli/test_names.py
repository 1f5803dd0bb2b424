"""Names that the TAB key completes: the program, asked as shells ask it, at a router that runs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer

from cli import names
from cli.app import build
from cli.help import _inside
from cli.names import _KINDS_OF, completions, kinds
from tests.support.cli import NOWHERE, environment
from tests.support.cli import router as program
from tests.support.router import RouterProcess, Site

PLANS = "[plans.gold]\nrequests_per_minute = 600\n"


@pytest.fixture(scope="module")
def served() -> Iterator[RouterProcess]:
    sites = [
        Site("us", "a", "http://127.0.0.1:1", models=["small"]),
        Site("eu", "b", "http://127.0.0.1:1", models=["m"]),
    ]
    with RouterProcess(sites, head=PLANS, wait=None) as process:
        done = program("keys", "create", "alice", "--tenant", "acme", env={"ROUTER_ADMIN_URL": process.admin})
        assert done.code == 0
        yield process


def pressed(line: str, env: dict[str, str]) -> list[str]:
    """The words that bash offers when TAB is pressed at the end of the line."""
    words = line.split(" ")
    asking = {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1), "_ROUTER_COMPLETE": "complete_bash"}
    done = subprocess.run(
        [Path(sys.executable).with_name("router")],
        env=environment(env | asking),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stderr == ""
    return done.stdout.split()


def offered_at(line: str, env: dict[str, str], words: list[str]) -> bool:
    """Whether TAB offers these words. A router that a busy machine keeps from answering within WAIT_S has no names for
    that moment, so TAB is pressed again, as people do."""
    return any(pressed(line, env) == words for _ in range(10))


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(names, "WAIT_S", 30.0)


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("router regi", ["regions"]),
        ("router regions dr", ["drain"]),
        ("router regions show ", ["eu", "eu/b", "us", "us/a"]),
        ("router regions drain us", ["us", "us/a"]),
        ("router keys revoke ", ["alice"]),
        ("router keys create --plan g", ["gold"]),
        ("router traffic list --model ", ["m", "small"]),
        ("router traffic list --tenant ", ["acme"]),
        ("router explain --from ", ["eu", "us"]),
        ("router quota show a", ["acme", "alice"]),
        ("router status --router ", ["test"]),
    ],
)
def test_names_of_a_router(served: RouterProcess, tmp_path: Path, line: str, offered: list[str]) -> None:
    env = {"ROUTER_ADMIN_URL": served.admin, "XDG_CACHE_HOME": str(tmp_path)}
    assert offered_at(line, env, offered)


def test_the_router_of_the_flag_is_asked(served: RouterProcess, tmp_path: Path) -> None:
    env = {"XDG_CACHE_HOME": str(tmp_path)}
    assert offered_at(f"router --admin-url {served.admin} keys show ", env, ["alice"])
    assert offered_at(f"router regions show --admin-url {served.admin} e", env, ["eu", "eu/b"])


def test_contexts_need_no_router(tmp_path: Path) -> None:
    env = {"XDG_CONFIG_HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path)}
    assert program("ctx", "add", "edge", "--admin-url", NOWHERE, env=env).code == 0
    assert pressed("router ctx use ", env) == ["edge"]
    assert pressed("router status --context ", env) == ["edge"]


def test_a_router_that_is_gone_leaves_its_names_and_no_words_of_an_error(served: RouterProcess, tmp_path: Path) -> None:
    told = {"ROUTER_ADMIN_URL": served.admin, "XDG_CACHE_HOME": str(tmp_path)}
    assert completions(["region"], "", told, {}) == ["eu", "us"]
    (kept,) = (tmp_path / "meridian" / "names").iterdir()
    assert kept.stat().st_mode & 0o077 == 0
    os.utime(kept, (0, 0))
    assert completions(["region"], "u", told, {}) == ["us"]
    assert kept.stat().st_mtime > 0, "asked again"

    gone = {**told, "ROUTER_ADMIN_URL": NOWHERE}
    assert pressed("router regions show ", gone) == []
    os.utime(kept, (0, 0))
    kept.rename(kept.with_name(_kept_name(gone)))
    assert completions(["region"], "", gone, {}) == ["eu", "us"]


def _kept_name(env: dict[str, str]) -> str:
    from cli.contexts import chosen
    from cli.names import _kept

    router = chosen(env)
    path = _kept(env, f"{router.url} {router.token} regions")
    assert path is not None
    return path.name


def test_a_cache_that_cannot_be_written_is_done_without(served: RouterProcess, tmp_path: Path) -> None:
    (tmp_path / "meridian").write_text("a file where a folder should be")
    env = {"ROUTER_ADMIN_URL": served.admin, "XDG_CACHE_HOME": str(tmp_path)}
    assert completions(["plan"], "", env, {}) == ["default", "gold"]


def test_every_rule_is_of_a_parameter_that_there_is() -> None:
    program_ = typer.main.get_command(build())
    there = {(" ".join(words), p.name) for words, command in _inside(program_) for p in command.params}
    assert set(_KINDS_OF) <= there
    assert kinds("regions add", "name") == (), "a new name"
