"""router capacity: a line for each model in each region, and one for each backend that gets too much or too little."""

from __future__ import annotations

import json

from cli.commands.capacity import CapacityOptions, run_capacity
from tests.cli.conftest import Json, Play

PATH = "/admin/v1/capacity"


def group(region: str = "us-east", **changes: object) -> Json:
    engine = {"backend": f"{region}/a", "requests_per_s": 2.0, "inflight": 3, "busy_ratio": 0.5, "cost_usd_hour": 2.5}
    return {
        "region": region,
        "model": "llama",
        "known": 2,
        "there": 2,
        "needed": 5,
        "needed_now": 4,
        "reason": "trend",
        "meaning": "the requests that will come by the time a backend has started",
        "short": 3,
        "spare": 0,
        "min": 1,
        "max": 8,
        "target_ttft_s": 1.0,
        "kept_ttft_s": 1.0,
        "predicted_ttft_s_p95": 2.4,
        "requests_per_s": 12.0,
        "inflight": 30,
        "waiting": 4.0,
        "idle_usd_hour": 0.0,
        "engines": [engine | {"state": "saturated", "reason": "prefill takes 97% of the time"}],
        **changes,
    }


def run(play: Play, *groups: Json, as_json: bool = False) -> str:
    play.admin.answers = {
        ("GET", PATH): {"data": list(groups), "idle_usd_hour": sum(g["idle_usd_hour"] for g in groups)}
    }
    run_capacity(play.context, CapacityOptions(as_json))
    return play.out


def test_the_numbers_and_why(play: Play) -> None:
    lines = run(play, group()).splitlines()
    assert lines[1].split()[:5] == ["us-east", "llama", "2", "5", "3"]
    assert "2.40 s" in lines[1]
    assert "by the time a backend has started" in lines[1]
    assert "prefill takes 97% of the time" in lines[-1]


def test_an_overloaded_model_is_named_with_what_answers_for_it(play: Play) -> None:
    seen = {"model": "llama", "variants": ["tiny"], "since_s": 1.7e9, "target_ttft_s": 1.0, "requests": 7}
    play.admin.answers = {("GET", PATH): {"data": [group()], "idle_usd_hour": 0.0, "strained": [seen]}}
    run_capacity(play.context, CapacityOptions(False))
    assert "overloaded: llama later than 1.00 s everywhere" in play.out
    assert "7 requests answered by tiny" in play.out


def test_some_that_are_away_and_some_that_are_idle(play: Play) -> None:
    out = run(play, group(known=3, needed=1, short=0, idle_usd_hour=2.5, engines=[]))
    assert "2 of 3" in out
    assert "idle: $2.50 an hour" in out


def test_without_a_target(play: Play) -> None:
    nothing = dict.fromkeys(("needed", "needed_now", "reason", "meaning", "short", "target_ttft_s", "kept_ttft_s"))
    run(play, group(**nothing, predicted_ttft_s_p95=None))
    assert "target_ttft_s" in play.err


def test_nothing_is_known(play: Play) -> None:
    assert run(play) == ""
    assert "No backend" in play.err


def test_json(play: Play) -> None:
    assert json.loads(run(play, group(), as_json=True))["data"][0]["needed"] == 5
