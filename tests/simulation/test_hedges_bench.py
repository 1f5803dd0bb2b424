"""The worth of hedges, in virtual time: much where one engine is frozen, nothing where all are slow."""

from __future__ import annotations

from bench.routing.hedges import SHARE, measure


def test_one_frozen_engine_is_hardly_felt() -> None:
    plain, hedged = measure("one frozen", "ttft", 0.0), measure("one frozen", "ttft", SHARE)
    assert plain["max"] > 3.0
    assert hedged["max"] < 1.0
    assert hedged["hedges"] <= SHARE


def test_a_fleet_that_is_slow_as_a_whole_is_left_alone() -> None:
    assert measure("all 5 times slower", "ttft", SHARE)["hedges"] < 0.015
