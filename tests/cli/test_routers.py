"""``router routers list``, and how other commands say whom they are about."""

from __future__ import annotations

import json
from typing import Any

from cli import units
from cli.commands.routers import ListOptions, run_list
from cli.commands.status import routers
from cli.region_states import elsewhere
from tests.cli.conftest import Json, Play

PATH = ("GET", "/admin/v1/routers")


def line(name: str, **changes: Any) -> Json:
    base = {"name": name, "this": False, "answers": True, "region": "us-east", "version": "0.1.0", "lag_s": 0.05}
    more = {"config_hash": "a1b2c3d4e5f6", "uptime_s": 7200.0, "ready": True, "inflight": 3}
    return base | more | {"backends": {"usable": 2, "total": 3, "names": []}} | changes


def test_every_router_has_a_line_and_differences_are_said(play: Play) -> None:
    silent = line("edge-3", answers=False, ready=None, uptime_s=None, backends=None, inflight=None)
    fleet = {"scope": "all routers", "routers": ["edge-1", "edge-2"], "silent": ["edge-3"]}
    data = [line("edge-1", this=True, lag_s=0.0), line("edge-2"), silent]
    play.admin.answers = {PATH: {"data": data, "differences": ["us/c only on edge-1"], "fleet": fleet}}
    run_list(play.context, ListOptions(as_json=False))
    heading, one, two, three = play.out.splitlines()
    assert heading.split()[:6] == ["router", "state", "region", "version", "config", "age"]
    assert "edge-1 *" in one
    assert "2h 00m" in two
    assert "no answer" in three
    assert "us/c only on edge-1" in play.err
    run_list(play.context, ListOptions(as_json=True))
    assert json.loads(play.out[play.out.index("{") :])["data"][1]["name"] == "edge-2"


def test_a_router_that_would_not_start_again_is_said(play: Play) -> None:
    refused = {"at_s": 1.0, "problems": ["e2.toml:28: [plans.a] x: unknown key", "another"]}
    data = [line("edge-1", this=True), line("edge-2", config_refused=refused), line("edge-3", ready=False)]
    play.admin.answers = {PATH: {"data": data, "differences": [], "fleet": {"scope": "all routers"}}}
    run_list(play.context, ListOptions(as_json=False))
    _, one, two, three = play.out.splitlines()
    assert "would not start again" in two
    assert "would not" not in one + three
    assert "edge-2 refused its file: e2.toml:28: [plans.a] x: unknown key" in play.err


def test_status_has_a_line_for_each_router_in_trouble() -> None:
    fleet = {"scope": "all routers", "routers": ["edge-1", "edge-2"], "silent": []}
    told = routers({"fleet": fleet, "differences": [], "troubles": ["edge-2 is not ready: x"]}) or ""
    assert "edge-2 is not ready: x" in told.splitlines()[1]


def test_a_router_without_a_store_says_that_it_stands_alone(play: Play) -> None:
    fleet = {"scope": "this router only", "routers": ["edge-1"], "silent": []}
    play.admin.answers = {PATH: {"data": [line("edge-1", this=True)], "differences": [], "fleet": fleet}}
    run_list(play.context, ListOptions(as_json=False))
    assert "this router only" in play.err


def test_status_says_whom_it_is_about() -> None:
    fleet = {"scope": "all routers", "routers": ["edge-1", "edge-2"], "silent": ["edge-3"]}
    told = routers({"fleet": fleet, "differences": ["us/c only on edge-1"]}) or ""
    for words in ("edge-1", "edge-2", "no answer from edge-3", "us/c only on edge-1"):
        assert words in told
    assert "the only one" in (routers({"fleet": fleet | {"routers": ["edge-1"], "silent": []}}) or "")
    assert routers({"fleet": {"scope": "this router only", "routers": ["x"], "silent": []}}) == "this router only"
    assert routers({}) is None


def test_a_list_says_it_in_a_remark(play: Play) -> None:
    play.context.scope({"fleet": {"scope": "all routers", "routers": ["edge-1", "edge-2"], "silent": []}})
    play.context.scope({"fleet": {"scope": "edge-2 only", "routers": ["edge-2"], "silent": []}})
    play.context.scope({"fleet": {"scope": "all routers", "routers": ["edge-1"], "silent": []}})
    play.context.scope({})
    assert play.err.splitlines() == ["2 routers: edge-1, edge-2", "edge-2 only", "1 router: edge-1"]


def test_a_backend_that_another_router_sees_otherwise() -> None:
    seen = [{"router": "edge-1", "state": "healthy", "usable": True}]
    other = {"router": "edge-2", "state": "ejected", "usable": False}
    assert elsewhere({"routers": seen}) is None
    assert elsewhere({"routers": [*seen, other]}) == "ejected for edge-2"


def test_one_that_died_says_since_when_or_when_it_last_spoke(play: Play) -> None:
    dead = {"answers": False, "ready": None, "uptime_s": None, "backends": None, "inflight": None, "lag_s": None}
    heard = line("edge-2", **dead, gone_since_s=1_700_000_000.0, last_word_s=1_699_999_990.0)
    unheard = line("edge-3", **dead, gone_since_s=None, last_word_s=1_699_999_990.0)
    fleet = {"scope": "all routers", "routers": ["edge-1"], "silent": []}
    play.admin.answers = {
        PATH: {"data": [line("edge-1", this=True), heard, unheard], "differences": [], "fleet": fleet}
    }
    run_list(play.context, ListOptions(as_json=False))
    *_, two, three = play.out.splitlines()
    assert f"gone since {units.clock(1_700_000_000.0)}" in two
    assert f"gone, last word {units.clock(1_699_999_990.0)}" in three
