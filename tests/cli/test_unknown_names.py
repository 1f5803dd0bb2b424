"""Every command and flag that takes a name of something: one that nothing has ends with exit code 2 and a suggestion.

Which take names is what the TAB key completes (``cli.names.kinds``), so that a new command is in this table by itself.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command
from typer.testing import CliRunner

from cli.app import build
from cli.docs import commands
from cli.errors import Exit
from cli.names import kinds
from tests.support.cli import ROOT
from tests.support.site import Site, serving

#: kind -> a name that is nearly one
NEAR = {
    "region": "us-eats",
    "backend": "us-east/aa",
    "served": "llama-3.1-8bb",
    "model": "llama-3.1-8bb",
    "key": "tets",
    "tenant": "tets",
    "plan": "tinyy",
    "router": "tets",
    "context": "edgee",
    "policy": "ttftt",
    "operator": "admn",
}
#: what a command needs besides, to come as far as the name
NEEDS = {
    "chat": ["hi"],
    "chaos start": ["--refuse"],
    "explain": ["--model", "llama-3.1-8b"],
    "top": ["--once"],
    "regions burn-in": ["--timeout", "5"],
    "keys create": ["new"],
    "keys set": ["tests"],
    "regions show": ["us-east"],
    "traffic show": ["last"],
    "ctx add": ["other"],
}
#: and what comes behind the name
AFTER = {"regions set": ["max_inflight=3"], "regions notice": ["--in", "2m"], "keys set": ["--tenant", "acme"]}
#: (command, parameter) -> why any name is good there
ANY_NAME = {
    ("keys create", "tenant"): "a tenant is made by naming it",
    ("keys set", "tenant"): "likewise",
    ("bench", "model"): "some endpoints do not list their models; test_bench has one that does",
    ("sim engine", "model"): "an engine is of any model",
    ("sim fleet", "model"): "likewise",
}


def _cases() -> Iterator[Any]:
    for name, command in commands(get_command(build()), "router"):
        words = name.removeprefix("router ")
        for parameter in command.params:
            own = kinds(words, parameter.name) or {"policy": ("policy",)}.get(parameter.name, ())
            if (words, parameter.name) == ("operators remove", "name"):
                own = ("operator",)
            if not own or (words, parameter.name) in ANY_NAME or (own == ("context",) and words != "ctx use"):
                continue
            flags = [] if parameter.param_type_name == "argument" else [max(parameter.opts, key=len)]
            needs = NEEDS.get(words, []) if flags or words in ("chaos start",) else []
            if words == "explain" and parameter.name == "model":
                needs = []
            if words == "explain" and parameter.name == "without":
                needs = ["last"]
            if words == "serve":
                needs = ["-c", "regions.toml"]
            if words == "replay":
                of_a_fleet = parameter.name == "without"
                needs = ["journal" if of_a_fleet else str(ROOT / "tests/data/traces/mooncake_synthetic_sample.jsonl")]
            line = [*words.split(), *needs, *flags, NEAR[own[0]]]
            line += AFTER.get(words, []) if not flags else []
            if words == "chat":  # the record of such a request makes the model's name a known one
                line[-1] += "x"
            yield pytest.param(line, id=" ".join([words, *flags, NEAR[own[0]]]))
    yield pytest.param(["status", "--context", "edgee"], id="status --context edgee")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("site")
    with serving(folder, auth='operators = "operators.toml"', token=folder / "operators.toml") as site:
        site.env["XDG_CONFIG_HOME"] = str(folder)
        site("chat", "hi", "--max-tokens", "2")
        site("ctx", "add", "edge", "--admin-url", site.env["ROUTER_ADMIN_URL"])
        yield site


CASES = list(_cases())


@pytest.mark.parametrize("line", CASES)
def test_an_unknown_name_is_a_usage_error_with_a_suggestion(site: Site, line: list[str]) -> None:
    env = {**site.env, "ROUTER_ADMIN_URL": None} if "edgee" in line else dict(site.env)
    with contextlib.chdir(site.folder):
        done = CliRunner().invoke(build(line[0]), line, env=env)
    assert done.exit_code == Exit.USAGE, (done.output, done.exception)
    assert re.search("^error: ", done.output, re.MULTILINE), done.output
    assert "did you mean" in done.output


def test_the_table_has_every_kind_of_name() -> None:
    words = " ".join(" ".join(case.values[0]) for case in CASES)
    assert not [name for kind, name in NEAR.items() if f" {name}" not in words]
    assert len(CASES) > 40
