"""The examples in the help: each is parsed by the real program, and runs on a real fleet unless it says why not."""

from __future__ import annotations

import contextlib
import json
import shlex
from collections.abc import Iterator

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from cli.app import build
from cli.docs import commands
from cli.examples import Example, every, examples
from tests.cli.test_parsing import typed
from tests.support.cli import ROOT, router
from tests.support.site import Site, serving

NAMES = [name.removeprefix("router ") for name, _ in commands(get_command(build()), "router")]
#: beginnings of examples that are parsed only -> why
NOT_RUN = {
    "router demo": "test_demo_program runs it",
    "router serve": "it stays; the fleet of these tests is one",
    "router sim": "it stays; the fleet of these tests is made of such",
    "router top\n": "test_top_terminal runs it in a terminal",
    "router events -f": "it stays; test_events follows",
    "router traffic tail": "it stays; test_end_to_end tails",
    "router doctor -c edge.toml": "of a router elsewhere",
    "router config apply new.toml\n": "it asks; test_config_apply answers",
    "router regions add us-east/c": "no engine of ours has that address; test_cli_asking asks engines",
    "router config init fleet.toml": "the port of its engine is not ours; test_first_file asks engines",
    "router replay journal": "refused where a busy machine answers late; test_replay plays a journal",
    "router plan": "a search of a minute; test_plan runs it",
    "router bench\n": "ten seconds; the other example runs",
}
#: beginning of an example -> what was typed before it
BEFORE = {
    "router keys": ["keys create alice"],
    "router quota show alice": ["keys create alice"],
    "router quota reset alice": ["keys create alice"],
    "router config rollback": ["config apply new.toml --yes"],
    "router operators remove": ["operators add anna"],
    "router ctx use": ["ctx add edge-2 --admin-url http://127.0.0.1:1"],
    "router ctx remove": ["ctx add edge-2 --admin-url http://127.0.0.1:1"],
}
#: what they ask first is answered with yes: there is no terminal here
ASKS = ("router regions drain us-east --for", "router chaos start eu-central")
#: exit codes besides 0
ENDS_WITH = {"router config diff new.toml": 1}  # they differ
#: what undoes all that examples do
AFTER = ["regions resume us-east", "regions notice us-east/a --cancel", "chaos clear", "config reload"]


@pytest.mark.parametrize("command", NAMES)
def test_every_command_has_an_example_in_its_help(command: str) -> None:
    told = CliRunner().invoke(build(command.split()[0]), [*command.split(), "--help"]).output
    assert examples(command)
    for example in examples(command):
        assert f"  # {example.does}\n  {example.line}\n" in told


def test_every_example_is_of_one_command() -> None:
    told = [example for name in NAMES for example in examples(name)]
    assert sorted(told) == sorted(every())
    wide = [line for e in every() for line in (f"  # {e.does}", f"  {e.line}") if len(line) > 100]
    assert not wide
    assert not [e for e in every() if not e.does or e.does.endswith(".")]


@pytest.mark.parametrize("example", every(), ids=lambda e: e.line)
def test_examples_are_parsed(example: Example) -> None:
    assert typed(*shlex.split(example.line)[1:]).ran is not None


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    with serving(folder, auth='operators = "operators.toml"', token=folder / "operators.toml") as site:
        site.env["XDG_CONFIG_HOME"] = str(folder / "home")
        _prepare(site)
        yield site


def _prepare(site: Site) -> None:
    trace = (ROOT / "tests/data/traces/mooncake_synthetic_sample.jsonl").read_text().splitlines(keepends=True)
    (site.folder / "trace.jsonl").write_text("".join(trace[:50]))
    (site.folder / "edge-2.token").write_text("secret\n")
    (site.folder / "edge-2.token").chmod(0o600)
    site("chat", "hi", "--max-tokens", "2")


@pytest.mark.parametrize(
    "example", [e for e in every() if not any(f"{e.line}\n".startswith(b) for b in NOT_RUN)], ids=lambda e: e.line
)
def test_examples_run(site: Site, example: Example) -> None:
    file = site.folder / "regions.toml"
    before = file.read_text()
    (site.folder / "new.toml").write_text(before.replace("requests_per_minute = 600", "requests_per_minute = 500"))
    yes = ["--force"] if example.line.startswith(ASKS) else []
    folder = site.folder
    if example.line == "router config init":
        (folder := site.folder / "elsewhere").mkdir()
    try:
        for begun, lines in BEFORE.items():
            if example.line.startswith(begun):
                for line in lines:
                    _quickly(site, *shlex.split(line))
        done = router(*shlex.split(example.line)[1:], *yes, cwd=folder, env=site.env)
        assert done.code == ENDS_WITH.get(example.line, 0), done
    finally:
        file.write_text(before)
        _clean_up(site, example.line.split()[1])


def _quickly(site: Site, *words: str) -> str:
    """Run here what is not the example itself: a process for each would take minutes."""
    with contextlib.chdir(site.folder):
        done = CliRunner().invoke(build(words[0]), words, env=site.env)
    assert done.exit_code == 0, done.output
    return done.output


def _clean_up(site: Site, group: str) -> None:
    if group in ("keys", "quota"):
        for key in json.loads(_quickly(site, "keys", "list", "--json"))["data"]:
            if key["name"] != "tests" and not key["revoked"]:
                _quickly(site, "keys", "revoke", key["id"], "--force")
    elif group == "operators":
        if "anna" in _quickly(site, "operators", "list"):
            _quickly(site, "operators", "remove", "anna")
    elif group == "ctx":
        (site.folder / "home" / "meridian" / "contexts.toml").unlink(missing_ok=True)
    elif group in ("regions", "chaos", "config"):
        for line in AFTER:
            _quickly(site, *line.split())
