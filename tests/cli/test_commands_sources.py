"""router regions sources (cli.commands.sources), and what the tables of regions say of sources."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from cli.commands import regions
from cli.commands.sources import SourcesOptions, run_sources
from cli.errors import Exit
from cli.region_states import any_found, backend_state, source_story, source_words, sources_of
from tests.cli.conftest import Json, Play

Make = Callable[..., Json]

PATH = ("GET", "/admin/v1/sources")
FILE: Json = {"name": "file", "kind": "file", "says": "ready"} | dict.fromkeys(("since_s", "heard_s", "lease_s"))
FILE["facts"] = {}
POD = FILE | {"name": "pods", "kind": "kubernetes", "since_s": 65.0, "heard_s": 2.0, "facts": {"node": "n1"}}


def source(**over: Any) -> Json:
    found = {"name": "pods", "kind": "kubernetes", "region": "us-east", "state": "heard", "heard_s": 1.0}
    return found | {"problem": None, "remarks": [], "backends": 3, "in_use": 2, "left_out": []} | over


def test_every_source_has_a_line_and_what_is_wrong_is_said(play: Play) -> None:
    away = source(name="names", state="away", problem="403: the role needs list", remarks=["an odd annotation"])
    play.admin.answers[PATH] = {"data": [source(), away]}
    assert run_sources(play.context, SourcesOptions(as_json=False)) is Exit.UNHEALTHY
    _, first, second, *_ = play.out.splitlines()
    assert first.split() == ["pods", "kubernetes", "us-east", "●", "heard", "2/3", "1", "s", "ago"]
    assert "● away" in second
    assert "403: the role needs list" in second
    assert "names: an odd annotation" in play.err


def test_as_json_and_well(play: Play) -> None:
    play.admin.answers[PATH] = {"data": [source()]}
    assert run_sources(play.context, SourcesOptions(as_json=True)) is Exit.OK
    assert json.loads(play.out)["data"] == [source()]


def test_the_column_is_there_when_it_says_more_than_file(play: Play, region: Make, backend: Make) -> None:
    assert any_found([backend(source=FILE), backend()]) == ()
    found = [backend(source=FILE), backend("us-east/p", source=POD), backend("us-east/q", source=POD)]
    assert any_found(found) == ("source",)
    assert sources_of(found) == "file 1, pods 2"
    play.admin.answers["GET", "/admin/v1/regions"] = {"data": [region(backends=found)]}
    regions.run_list(play.context, regions.ListOptions(as_json=False))
    assert "file 1, pods 2" in play.out


def test_what_is_said_stands_beside_what_is_measured(play: Play, region: Make, backend: Make) -> None:
    held = backend("us-east/p", source=POD | {"says": "not_ready"}, ready=False, usable=False)
    assert "not ready" in backend_state(held)
    assert source_words(held) == "pods: not ready"
    assert source_words(backend(source=POD)) == "pods"
    assert source_story(backend(source=FILE)) is None
    play.admin.answers["GET", "/admin/v1/regions"] = {"data": [region(backends=[held])]}
    regions.run_show(play.context, regions.NameOptions("us-east/p", as_json=False))
    line = next(line for line in play.out.splitlines() if "source says" in line)
    assert "not ready, says kubernetes pods" in line
    assert "node n1" in line


def test_a_lease_says_when_it_ends(backend: Make) -> None:
    registered = POD | {"name": "registered", "kind": "registered", "lease_s": 12.0}
    assert "lease ends in 12" in (source_story(backend(source=registered)) or "")
