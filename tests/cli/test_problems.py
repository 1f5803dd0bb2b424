"""Problems and warnings of a file, taken apart."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from cli.commands import config
from cli.errors import CliError, Exit
from cli.problems import located, taken_apart
from router.config import EXAMPLE, parse, warnings
from router.errors import ConfigError
from tests.cli.conftest import Play

ODD = '[router]\npolicy = "cheapest"\n[plans.x]\nconcurrent = 1\n[[regions]]\nname = "us"\n' + "".join(
    f'[[regions.backends]]\nname = "{name}"\nurl = "http://h:1"\n' for name in "ab"
)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        (
            'r.toml:74: [plans.x] concurent: unknown key, did you mean "concurrent"?',
            (74, "[plans.x] concurent", "unknown key", 'did you mean "concurrent"?'),
        ),
        (
            'r.toml:9: [[regions]] "us-east" backends "a": url: must be a string, not 5',
            (9, '[[regions]] "us-east" backends "a": url', "must be a string, not 5", None),
        ),
        ("r.toml:3: syntax: Cannot overwrite a value", (3, None, "syntax: Cannot overwrite a value", None)),
        ('r.toml:2: probs: unknown key, did you mean "probes"?', (2, "probs", "unknown key", 'did you mean "probes"?')),
        ("r.toml: cannot be read: no such file", (None, None, "cannot be read: no such file", None)),
        ("us/a: has no cost_usd_hour", (None, "us/a", "has no cost_usd_hour", None)),
        ("us/a has the same url as us/b", (None, "us/a", "has the same url as us/b", None)),
        ("[plans.default] is missing: keys", (None, "[plans.default] is missing", "keys", None)),
    ],
)
def test_parts(text: str, parts: tuple[int | None, str | None, str, str | None]) -> None:
    found = taken_apart(text, "r.toml")
    if parts[1] == "[plans.default] is missing":
        assert found["path"].startswith("[plans.default]")
        return
    assert (found["file"], found["line"], found["path"], found["message"], found["hint"]) == ("r.toml", *parts)


def test_nothing_of_a_problem_is_lost() -> None:
    bad = EXAMPLE.replace("[router]", "[ruter]", 1) + '\n[plans.x]\nconcurent = 3\nresidency = ["mars"]\nx.y = 1\n'
    with pytest.raises(ConfigError) as caught:
        parse(bad, "regions.toml", secrets=False)
    for problem in caught.value.problems:
        found = taken_apart(problem, "regions.toml")
        assert found["line"] is not None
        for part in ("path", "message", "hint"):
            assert found[part] is None or found[part] in problem


def test_warnings_have_lines(tmp_path: Path) -> None:
    file = tmp_path / "regions.toml"
    file.write_text(ODD)
    loaded = parse(ODD, str(file), secrets=False)
    lines = ODD.splitlines()
    told = located(warnings(loaded), loaded)
    assert told
    for warning in told:
        assert warning.startswith(f"{file}:")
        if "us/b" in warning.split(" ")[1]:
            line = int(warning.removeprefix(f"{file}:").split(":")[0])
            assert "[[regions.backends]]" in lines[line - 1] or "name" in lines[line - 1]


def test_check_tells_scripts_the_parts(play: Play, tmp_path: Path) -> None:
    file = tmp_path / "regions.toml"
    file.write_text(EXAMPLE.replace("[router]", "[ruter]", 1))
    assert config.run_check(play.context, config.CheckOptions(str(file), False, as_json=True)) is Exit.USAGE
    (problem,) = json.loads(play.out)["problems"]
    assert (problem["file"], problem["path"], problem["hint"]) == (str(file), "[ruter]", 'did you mean "router"?')
    assert problem["line"] > 0


def test_strict_fails_for_warnings_and_tells_their_place(play: Play, tmp_path: Path) -> None:
    file = tmp_path / "regions.toml"
    file.write_text(ODD)
    options = config.CheckOptions(str(file), False, as_json=False)
    assert config.run_check(play.context, options) is Exit.OK
    assert f"{file}:" in play.err.replace("\n", "")
    strict = config.CheckOptions(str(file), False, as_json=False, strict=True)
    assert config.run_check(play.context, strict) is Exit.USAGE


@pytest.mark.parametrize(
    ("make", "problem"),
    [
        (lambda path: path.mkdir(), "Is a directory"),
        (lambda path: (path.write_text(""), path.chmod(0o644)), "chmod 600"),
        (lambda path: (path.write_text("[operators.a]\nrole = 'boss'\n"), path.chmod(0o600)), "role is one of"),
    ],
)
def test_a_file_of_operators_that_a_router_would_not_start_with(
    make: Callable[[Path], object], problem: str, play: Play, tmp_path: Path
) -> None:
    path = tmp_path / "operators.toml"
    file = tmp_path / "r.toml"
    file.write_text(ODD.replace("cheapest", "ttft") + f'[auth]\noperators = "{path}"\n')
    assert config.run_check(play.context, config.CheckOptions(str(file), True, False)) is Exit.OK, "it will be made"
    make(path)
    with pytest.raises(CliError) as caught:
        config.run_check(play.context, config.CheckOptions(str(file), True, False))
    assert problem in "".join(caught.value.details)
    file.write_text(file.read_text().replace(str(path), f"{tmp_path}/nowhere/o.toml"))
    with pytest.raises(CliError) as caught:
        config.run_check(play.context, config.CheckOptions(str(file), True, False))
    assert "there is no folder" in "".join(caught.value.details)
