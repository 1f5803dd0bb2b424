"""The keys of [models.NAME] about how many backends are to run."""

from __future__ import annotations

import pytest

from router.config import Config, diff, dump, parse
from router.core.needed import Goal
from router.errors import ConfigError

FLEET = '[[regions]]\nname = "a"\nbackends = [{name = "x", url = "http://10.0.0.1", models = ["m"]}]\n'


def read(text: str) -> Config:
    return parse(FLEET + text, "regions.toml")


def test_without_a_target_there_is_no_goal() -> None:
    assert read("[models.m]\nmin = 2").models["m"].goal is None


def test_what_the_core_is_told() -> None:
    text = "[models.m]\ntarget_ttft_s = 0.5\nmin = 0\nmax = 9\nhold_s = 5\ncold_start_s = 40\nidle_s = 300"
    assert read(text).models["m"].goal == Goal(0.5, 0, 9, idle_s=300.0, hold_s=5.0, cold_start_s=40.0)
    assert read("[models.m]\ntarget_ttft_s = 1").models["m"].goal == Goal(1.0)


@pytest.mark.parametrize(
    ("keys", "problem"),
    [
        ("target_ttft_s = 0", "must be above 0"),
        ("min = -1", "must be at least 0"),
        ("min = 4\nmax = 3", "[models.m] max: is less than min, 4"),
        ("max = 0", "must be at least 1"),
        ('target_ttft_s = "1s"', "must be a number"),
        ("target_ttft = 1", 'did you mean "target_ttft_s"'),
    ],
)
def test_what_is_refused(keys: str, problem: str) -> None:
    with pytest.raises(ConfigError) as refused:
        read(f"[models.m]\n{keys}")
    assert problem in str(refused.value)


def test_an_alias_has_no_backends_of_its_own() -> None:
    with pytest.raises(ConfigError, match="backends serve m, not this alias"):
        read('[models.chat]\ntargets = [{model = "m"}]\ntarget_ttft_s = 1')
    assert read('[models.m]\ntargets = [{model = "m"}, {model = "n"}]\ntarget_ttft_s = 1').models["m"].goal == Goal(1.0)


def test_it_is_shown_and_compared() -> None:
    old, new = read("[models.m]\ntarget_ttft_s = 1"), read("[models.m]\ntarget_ttft_s = 2\nmin = 3")
    shown = dump(new)["models"]["m"]
    assert (shown["target_ttft_s"], shown["min"], shown["max"]) == (2.0, 3, None)
    assert diff(old, new) == ["models.m.target_ttft_s: 1.0 -> 2.0", "models.m.min: 1 -> 3"]
