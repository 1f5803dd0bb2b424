"""router regions drain: who, why, for how long, and waiting for the last request."""

from __future__ import annotations

import pytest

from cli.commands import drain
from cli.errors import CliError, Exit
from tests.cli.conftest import Json, Play
from tests.cli.test_confirm import DRAIN, DRAINED, NOTHING, answers, changed


def test_a_router_that_cannot_tell_is_obeyed(play: Play) -> None:
    play.admin.answers = {DRAIN: DRAINED}
    drain.run_drain(play.context, drain.DrainOptions("eu-central"))
    assert changed(play) == [DRAIN]


def test_a_drain_says_who_why_and_for_how_long(play: Play) -> None:
    answers(play, NOTHING)
    drain.run_drain(play.context, drain.DrainOptions("eu-central", span="30m", reason="new GPUs"))
    body = play.admin.calls[-1][2]
    assert (body["for_s"], body["reason"]) == (1800.0, "new GPUs")
    assert "@" in body["by"]


def test_waiting_ends_when_no_router_has_a_request_there(play: Play, monkeypatch: pytest.MonkeyPatch) -> None:
    answers(play, NOTHING)
    counts = iter([(2, 0), (0, 3), (0, 0)])
    looks = 0

    def listed(*_: object, **__: object) -> Json:
        nonlocal looks
        looks += 1
        mine, theirs = next(counts)
        member = {"name": "eu-central/a", "inflight": mine, "inflight_peers": theirs}
        return {"data": [{"name": "eu-central", "inflight": mine, "backends": [member]}]}

    real = play.admin.get
    monkeypatch.setattr(play.admin, "get", lambda p, **q: listed() if p.endswith("/regions") else real(p, **q))
    monkeypatch.setattr(drain.time, "sleep", lambda _: None)
    drain.run_drain(play.context, drain.DrainOptions("eu-central", wait=True))
    assert looks == 3
    assert "in flight" not in play.out


def test_what_the_others_take_over_is_said(play: Play) -> None:
    answers(play, NOTHING)
    drain.run_drain(play.context, drain.DrainOptions("eu-central"))
    assert "answered 41 %" in play.err


def test_the_last_of_a_jurisdiction_is_not_drained_without_a_word(play: Play) -> None:
    answers(play, NOTHING | {"jurisdictions": ["eu"], "loses": True})
    with pytest.raises(CliError) as refused:
        drain.run_drain(play.context, drain.DrainOptions("eu-central"))
    assert refused.value.code is Exit.USAGE
    assert any("jurisdiction eu" in line for line in refused.value.details)
    assert changed(play) == []
    drain.run_drain(play.context, drain.DrainOptions("eu-central", force=True))
    assert changed(play) == [DRAIN]
