"""A region in a word, from its backends: what sleeps on purpose is missed nowhere."""

from __future__ import annotations

from typing import Any

import pytest

from router.control.region_views import region_state, region_summary


def member(name: str = "us/a", **changes: Any) -> dict[str, Any]:
    return {
        "name": name,
        "state": "healthy",
        "usable": True,
        "draining": False,
        "leaving": None,
        "asleep": False,
        "since": "2026-11-30T10:00:00Z",
        "since_s": 100.0,
        "why": None,
        "who": None,
        "rtt_s": None,
        "inflight": 0,
        "queue": None,
        "kv_ratio": None,
        "output_tokens_per_s": 0.0,
        "load_age_s": None,
    } | changes


ASLEEP = {"state": "ejected", "usable": False, "asleep": True, "why": "it sleeps until a request comes"}
DOWN = {"state": "ejected", "usable": False, "why": "nobody answers"}
DRAINED = {"usable": False, "draining": True}


@pytest.mark.parametrize(
    ("members", "state"),
    [
        ([ASLEEP], "asleep"),
        ([ASLEEP, ASLEEP], "asleep"),
        ([ASLEEP, {}], "ok"),
        ([ASLEEP, DOWN], "down"),
        ([ASLEEP, DOWN, {}], "degraded"),
        ([ASLEEP, DRAINED], "draining"),
        ([ASLEEP | DRAINED], "draining"),
        ([DOWN], "down"),
        ([{}], "ok"),
        ([], "down"),
    ],
)
def test_states(members: list[dict[str, Any]], state: str) -> None:
    assert region_state([member(**changes) for changes in members]) == state


def test_the_story_of_a_region_is_not_that_of_one_that_sleeps() -> None:
    asleep, down = member("us/a", **ASLEEP, since_s=50.0), member("us/b", **DOWN)
    told = region_summary([asleep, down, member("us/c")])
    assert (told["state"], told["why"], told["asleep"]) == ("degraded", "us/b: nobody answers", False)
    told = region_summary([asleep])
    assert (told["state"], told["why"], told["asleep"]) == ("asleep", "it sleeps until a request comes", True)


@pytest.mark.parametrize(
    ("members", "since_s"),
    [
        ([{"since_s": 100.0}, {"since_s": 500.0}], 100.0),  # b is new
        ([{"since_s": 300.0, "why": "its trials succeeded"}, {"since_s": 500.0}], 300.0),
        ([{"since_s": 300.0, "why": "its trials succeeded"}, {"since_s": 200.0}], 300.0),
        (
            [{"since_s": 300.0, "why": "its trials succeeded"}, {"since_s": 400.0, "why": "it gets requests again"}],
            400.0,
        ),
        ([{"since_s": None}, {"since_s": 500.0}], 500.0),
    ],
)
def test_a_region_is_well_since_the_last_of_it_became_well(members: list[dict[str, Any]], since_s: float) -> None:
    told = region_summary([member(f"us/{n}", **changes) for n, changes in enumerate(members)])
    assert (told["state"], told["since_s"]) == ("ok", since_s)
