"""Regions, backends and models as rows."""

from __future__ import annotations

import pytest

from cli.top import fleet
from cli.top.once import table
from cli.top.sheets import Order, ordered
from tests.support.fleet_on_show import answers, large_fleet, with_gpus
from tests.support.top_views import drawn, stand_still, view_of


@pytest.fixture(autouse=True)
def _still(monkeypatch: pytest.MonkeyPatch) -> None:
    stand_still(monkeypatch)


def test_a_region_has_its_percentiles_failures_speed_and_history() -> None:
    view = view_of(looks=5)
    sheet = fleet.regions(view)
    text = drawn(table(sheet), 200)
    heading, first, *_ = text.splitlines()
    for word in ("p50", "p99", "failed", "tok/s", "req/s", "kv cache"):
        assert word in heading
    assert first.split()[0] == "eu-central", "a region that needs attention is first"
    row = next(r for r in sheet.rows if r.key == "us-east")
    assert len(row.trend) == 5
    assert row.trend[0] == pytest.approx(0.08)


def test_what_is_down_is_first_however_many_there_are() -> None:
    rows = ordered(fleet.regions(view_of(answers(large_fleet()))).rows, Order())
    assert {r.key for r in rows[:2]} == {"eu-west-3", "ap-south-3"}
    assert [r.alarm for r in rows[:3]] == [2, 2, 0]


def test_backends_have_what_the_last_minutes_say_of_them() -> None:
    sheet = fleet.backends(view_of())
    row = next(r for r in sheet.rows if r.key == "eu-central/b")
    assert row.alarm == 2
    assert row.about["state"] == "ejected"
    text = drawn(table(sheet), 220)
    assert "refused" in text
    assert "4m 12s" in text


def test_models_tell_how_many_are_needed() -> None:
    sheet = fleet.models(view_of())
    short, calm = sheet.rows
    assert (short.alarm, calm.alarm) == (1, 0)
    text = drawn(table(sheet), 200)
    assert "first tokens come too late" in text
    assert "$1.25" in text


def test_a_look_that_has_not_come_leaves_empty_tables() -> None:
    from cli.top.view import View

    for make in (fleet.regions, fleet.backends, fleet.models):
        sheet = make(View())
        assert sheet.rows == []
        assert sheet.empty


def test_gpus_have_columns_where_the_router_reads_them_and_their_state_says_why() -> None:
    without = [column.name for column in fleet.backends(view_of()).columns]
    assert not {"gpu", "gpu mem", "idle $/h"} & set(without)
    sheet = fleet.backends(view_of(answers(with_gpus())))
    names = [column.name for column in sheet.columns]
    assert names[-5:] == ["gpu", "gpu mem", "idle $/h", "models", "why"]
    rows = {row.key: row for row in sheet.rows}
    saturated, starved, working = rows["us-east/a"], rows["us-east/b"], rows["eu-central/a"]
    assert [cell.rank for cell in saturated.cells[-5:-2]] == pytest.approx([0.98, 0.81, 0.05])
    assert "12 requests wait in the engine" in saturated.cells[-1].markup
    assert "something before the GPUs is the bottleneck" in starved.cells[-1].markup
    assert working.cells[-1].markup == ""
    assert (saturated.alarm, starved.alarm, working.alarm) == (0, 1, 0), "paid GPUs that wait want attention"
    unread = rows["eu-central/b"]
    assert [cell.rank for cell in unread.cells[-5:-2]] == [None, None, None]
    assert "refused" in unread.cells[-1].markup, "what is wrong with the backend itself comes first"
    by_busy = ordered(sheet.rows, Order(names.index("gpu"), falling=True))
    assert [row.key for row in by_busy][:3] == ["us-east/a", "eu-central/a", "us-east/b"]
