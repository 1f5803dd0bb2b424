"""Answers that grow old, and what charts remember."""

from __future__ import annotations

from cli.top.polling import Reading
from cli.top.view import View
from tests.support.fleet_on_show import answers


def reading(*parts: str) -> Reading:
    known = answers()
    return Reading({name: known["GET", f"/admin/v1/{name}"] for name in parts})


def test_before_the_first_look_everything_is_empty() -> None:
    view = View()
    assert (view.status, view.regions, view.backends, view.listed("keys")) == (None, [], [], [])
    assert view.stats_by("region") == {}
    assert view.age_s(100.0) == 0.0


def test_charts_remember_and_have_gaps_where_nobody_answered() -> None:
    view = View()
    view.take(reading("status", "regions", "stats"), 10.0, 1e9)
    view.take(Reading(trouble="cannot reach it"), 11.0, 1e9 + 1)
    view.take(reading("status", "regions", "stats"), 12.0, 1e9 + 2)
    assert list(view.requests_per_s) == [12.3, None, 12.3]
    assert [v is None for v in view.ttft_of["us-east"]] == [False, True, False]
    assert view.trouble is None


def test_a_router_that_is_gone_leaves_its_last_answers_which_are_old() -> None:
    view = View(interval_s=1.0)
    view.take(reading("status", "regions"), 10.0, 1e9)
    assert not view.is_stale(11.0)
    view.take(Reading(trouble="cannot reach it"), 14.0, 1e9 + 4)
    assert view.is_stale(14.0)
    assert len(view.regions) == 3
    assert view.age_s(30.0) == 20.0


def test_a_router_that_says_nothing_is_stale_without_an_error() -> None:
    view = View(interval_s=2.0)
    view.take(reading("status", "regions"), 10.0, 1e9)
    assert not view.is_stale(17.9)
    assert view.is_stale(18.1)


def test_parts_that_were_not_asked_for_stay() -> None:
    view = View()
    view.take(reading("status", "regions", "keys"), 10.0, 1e9)
    view.take(reading("status", "regions"), 11.0, 1e9)
    assert len(view.listed("keys")) == 3
    assert set(view.used_by("keys", "name")) == {"search", "support", "batch"}
