"""States of regions and backends in words: what an operator sees of a notice."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from cli.commands import regions
from cli.errors import CliError, Exit
from cli.region_states import backend_state, leaving_story, leaving_words, region_state
from tests.cli.conftest import Json, Play

Make = Callable[..., Json]

LEAVING = {"in_s": 72.0, "since_s": 1.7e9, "until_s": 1.7e9 + 120, "by": "alice@[red]laptop"}
GONE = LEAVING | {"in_s": -180.0}


@pytest.mark.parametrize(
    ("changes", "shown"),
    [
        ({}, "[green]●[/] healthy"),
        ({"draining": True, "leaving": LEAVING}, "[cyan]●[/] draining"),
        ({"asleep": True}, "[cyan]●[/] asleep"),
        ({"leaving": LEAVING}, "[cyan]●[/] leaving in 1m 12s"),
        ({"leaving": GONE}, "[red]●[/] gone, 3m 00s ago"),
        ({"state": "ejected", "usable": False}, "[red]●[/] ejected, unusable"),
    ],
)
def test_backends(region: Make, changes: dict[str, object], shown: str) -> None:
    backend = region()["backends"][0] | {"state": "healthy", "usable": True, "draining": False, "leaving": None}
    assert backend_state(backend | changes) == shown


def test_regions(region: Make) -> None:
    assert region_state(region(state="leaving", leaving=LEAVING)) == "[cyan]●[/] leaving in 1m 12s"
    assert region_state(region(state="leaving", leaving=None)) == "[cyan]●[/] leaving", "the others are drained"
    assert region_state(region(state="ok", leaving=None)) == "[green]●[/] ok"
    assert region_state(region(state="asleep", leaving=None)) == "[cyan]●[/] asleep"


def test_who_said_so() -> None:
    assert leaving_words(LEAVING) == "leaving in 1m 12s"
    story = leaving_story(LEAVING)
    assert story is not None
    assert story.startswith("in 1m 12s")
    assert story.endswith(r"by alice@\[red]laptop"), "a name holds no markup of ours"
    assert leaving_story(None) is None


@pytest.mark.parametrize(("name", "path"), [("us-east", "regions/us-east"), ("us-east/a", "backends/us-east/a")])
def test_notice_says_when_and_how_much_is_there(play: Play, region: Make, name: str, path: str) -> None:
    answer = region(leaving=LEAVING, applied="all routers", inflight=3)
    play.admin.answers = {("POST", f"/admin/v1/{path}/notice"): answer}
    regions.run_notice(play.context, regions.NoticeOptions(name, "2m", cancel=False, as_json=False))
    [(_, _, body)] = [call for call in play.admin.calls if call[0] == "POST"]
    assert isinstance(body, dict)
    assert body["in_s"] == 120
    assert "@" in body["by"]
    assert play.out == f"✓ {name} is leaving in 1m 12s (all routers); 3 requests in flight there\n"


def test_notice_is_cancelled(play: Play, region: Make) -> None:
    play.admin.answers = {("DELETE", "/admin/v1/regions/us-east/notice"): region(applied="all routers")}
    regions.run_notice(play.context, regions.NoticeOptions("us-east", None, cancel=True, as_json=False))
    assert play.out == "✓ us-east stays (all routers)\n"
    regions.run_notice(play.context, regions.NoticeOptions("us-east", None, cancel=True, as_json=True))
    assert json.loads(play.out.partition("\n")[2])["leaving"] is None


@pytest.mark.parametrize(("span", "cancel"), [(None, False), ("2m", True), ("soon", False)])
def test_notice_needs_a_time_or_none(play: Play, span: str | None, cancel: bool) -> None:
    with pytest.raises(CliError) as caught:
        regions.run_notice(play.context, regions.NoticeOptions("us-east", span, cancel=cancel, as_json=False))
    assert caught.value.code is Exit.USAGE
    assert play.admin.calls == []
