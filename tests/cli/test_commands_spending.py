"""Who spends, and the CSV of a month."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import pytest

from cli.commands import spending
from cli.errors import CliError, Exit
from tests.cli.conftest import Play

PATH = ("GET", "/admin/v1/spending")


def answer(by: str, *rows: dict[str, Any], cost: float = 4.0) -> dict[str, Any]:
    sums = {"requests": 3, "prompt_tokens": 1000, "output_tokens": 60, "share": 1.0}
    data = [sums | {"cost_usd": cost, "key_name": None} | row for row in rows]
    return {"period": "month", "of": "2026-11", "by": by.split(","), "total": sums | {"cost_usd": cost}, "data": data}


def test_top(play: Play) -> None:
    play.admin.answers[PATH] = answer("key", {"key": "key_1", "key_name": "ci", "cost_usd": 0.00012, "share": 0.25})
    spending.run_top(play.context, spending.TopOptions("key", False, None, 20, False))
    assert play.admin.calls == [(*PATH, {"period": "month", "by": "key"})]
    assert "the month 2026-11 (UTC), $4.00 in all" in play.err
    row = play.out.splitlines()[1]
    assert row.split() == ["ci", "(key_1)", "3", "1,000", "→", "60", "$0.00012", "25", "%", "████"]


def test_top_shows_tenants_and_keys(play: Play) -> None:
    play.admin.answers[PATH] = answer("tenant", {"tenant": "acme"}, {"tenant": "bob"})
    spending.run_top(play.context, spending.TopOptions(None, True, "2026-11-30", 1, True))
    assert [call[2]["by"] for call in play.admin.calls] == ["tenant", "key"]
    assert play.admin.calls[0][2]["period"] == "day"
    shown = json.loads(play.out)
    assert [row["tenant"] for row in shown["tenant"]] == ["acme"]
    assert shown["total"]["cost_usd"] == 4.0


def test_top_says_when_nothing_has_a_price_or_nothing_was_asked(play: Play) -> None:
    play.admin.answers[PATH] = answer("tenant", {"tenant": "acme", "share": None}, cost=0.0)
    spending.run_top(play.context, spending.TopOptions("tenant", False, None, 20, False))
    assert "Nothing has a price" in play.err
    play.admin.answers[PATH] = answer("tenant")
    spending.run_top(play.context, spending.TopOptions("tenant", False, None, 20, False))
    assert "Nothing was answered." in play.err


@pytest.mark.parametrize("month", ["2026-13", "2026-00", "2026-11-30", "1969-12", "x", "２０２６-11", "2026-11\n"])
def test_a_month_that_there_is_not_is_refused_by_the_name_of_the_option(play: Play, month: str) -> None:
    with pytest.raises(CliError, match="--month must be a month such as 2") as caught:
        spending.run_export(play.context, spending.ExportOptions(month, "tenant", False))
    assert caught.value.code is Exit.USAGE
    assert play.admin.calls == []


def test_export(play: Play) -> None:
    play.admin.answers[PATH] = answer(
        "tenant,model", {"tenant": '=cmd("x"),y', "model": "org/m"}, {"tenant": None, "model": "m", "cost_usd": 1e-6}
    )
    spending.run_export(play.context, spending.ExportOptions("2026-11", "tenant,model", False))
    assert play.admin.calls == [(*PATH, {"period": "month", "of": "2026-11", "by": "tenant,model"})]
    head, one, two = csv.reader(io.StringIO(play.out))
    assert head == ["month", "tenant", "model", "requests", "prompt_tokens", "output_tokens", "cost_usd"]
    assert one == ["2026-11", '\'=cmd("x"),y', "org/m", "3", "1000", "60", "4.000000"]
    assert two[1:] == ["", "m", "3", "1000", "60", "0.000001"]
