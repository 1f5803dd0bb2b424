"""router plan, of a journal and of a trace: a table for people, JSON that scripts rely on."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cli.commands.plan import PlanOptions, run_plan
from cli.errors import CliError, Exit
from tests.cli.conftest import Play
from tests.support.cli import router
from tests.support.journals import lived, slow_profile, small_plan, traffic

TRACES = Path(__file__).parents[1] / "data" / "traces"
LEARNED, RECORDS = lived(small_plan(slow_profile()), traffic(4.0, 40.0))


def options(**changes: object) -> PlanOptions:
    fields = {"trace": "journal", "growth": 1.0, "target_ttft": "500ms", "percentile": 95.0, "regions": None}
    fields |= {"profile": "h100-llama-3.1-8b", "limit": 2000, "most": 6, "runs": 60, "seed": 1, "learned": None}
    return PlanOptions(**{**fields, "as_json": True, **changes})  # type: ignore[arg-type]


def answering(play: Play) -> Play:
    play.admin.answers = {("GET", "/admin/v1/learned"): LEARNED, ("GET", "/admin/v1/journal"): {"data": RECORDS}}
    return play


def test_a_plan_from_the_journal(play: Play) -> None:
    assert run_plan(answering(play).context, options()) is None
    told = json.loads(play.out)
    (found,) = told["data"]
    assert (found["kept"], found["percentile"], found["backends_today"]) == (True, 95.0, 3)
    assert found["ttft_s"] <= found["target_ttft_s"] == 0.5
    assert {p["region"] for p in found["places"]} == {"us-east", "eu-central", "ap-northeast"}
    assert told["usd_month"] == pytest.approx(730 * found["backends"])
    assert told["error"]["worst"] is not None
    assert told["engines"][0]["first_token_error"] is not None
    assert any("fitted to" in line for line in told["measured"])


def test_it_is_shown_with_what_it_rests_on(play: Play) -> None:
    assert run_plan(answering(play).context, options(as_json=False, growth=1.2)) is None
    for words in ("1.2 times as many per second", "$ a month", "± first", "measured:", "assumed:", "fleets played"):
        assert words in play.out, words
    assert "today's 3" in play.out


def test_a_target_out_of_reach(play: Play) -> None:
    assert run_plan(answering(play).context, options(as_json=False, target_ttft="1ms", runs=8, most=2)) is Exit.FAILED
    told = " ".join(play.out.split())
    assert "with every fleet that was played" in told
    assert "meets nobody takes" in told
    assert "no price in all: no fleet keeps the target; today's fleet: $2,190.00 a month" in told
    assert "none, best" in told
    for wrong in ("soon", "0s"):
        with pytest.raises(CliError) as refused:
            run_plan(play.context, options(target_ttft=wrong))
        assert refused.value.code is Exit.USAGE


def test_engines_that_are_known_badly_are_not_planned_with(play: Play) -> None:
    with pytest.raises(CliError) as refused:
        run_plan(answering(play).context, options(as_json=False, max_error=0.0))
    assert "nothing is planned: " in str(refused.value)
    assert "a month" not in play.out
    assert "± first" in play.out
    assert run_plan(play.context, options(as_json=False, max_error=0.0, force=True)) is None
    assert "a month" in play.out


def test_scripts_are_refused_too(play: Play) -> None:
    assert run_plan(answering(play).context, options(max_error=0.0)) is Exit.FAILED
    told = json.loads(play.out)
    assert (told["data"], told["usd_month"]) == ([], None)
    assert "off by" in told["refused"]


def test_backends_that_are_in_no_group_count_today_and_tomorrow(play: Play) -> None:
    broken = LEARNED["backends"][0] | {"name": "us-east/z", "usable": False, "cost_usd_hour": 2.0}
    play.admin.answers = {
        ("GET", "/admin/v1/learned"): LEARNED | {"backends": [*LEARNED["backends"], broken]},
        ("GET", "/admin/v1/journal"): {"data": RECORDS},
    }
    assert run_plan(play.context, options()) is None
    told = json.loads(play.out)
    (found,) = told["data"]
    assert told["others"] == {"backends": ["us-east/z"], "usd_month": 1460.0}
    assert told["usd_month"] == pytest.approx(found["usd_month"] + 1460.0)
    assert told["usd_month_today"] == pytest.approx(found["usd_month_today"] + 1460.0)


def test_a_plan_for_a_trace_says_that_engines_are_assumed() -> None:
    trace = next(TRACES.glob("azure*.csv"))
    done = router(
        *("plan", str(trace), "--limit", "60", "--growth", "2", "--target-ttft", "400ms", "--most", "3", "--json")
    )
    assert done.code == 0, done.err
    told = json.loads(done.out)
    assert told["data"][0]["kept"]
    assert told["measured"] == []
    assert any("h100-llama-3.1-8b" in line for line in told["assumed"])


def test_without_router_and_trace() -> None:
    done = router("plan")
    assert done.code == Exit.UNREACHABLE
    assert "cannot reach the router" in done.err
    both = router("plan", "--regions", "regions.toml")
    assert both.code == Exit.USAGE
    assert "not with --regions" in both.err
