"""Engines fitted to a journal: of engines that are known, so that the fit can be held against them."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sim.calibration import calibrate, observed
from sim.profiles import PROFILES
from sim.recording import Served, read_recording
from tests.support.journals import lived, slow_profile, small_plan, traffic


@pytest.mark.parametrize("profile", [slow_profile(), PROFILES["a100-llama-3.1-8b"], PROFILES["l4-llama-3.1-8b"]])
def test_engines_are_found_again(profile: object) -> None:
    assert hasattr(profile, "prefill_token_s")
    learned, records = lived(small_plan(profile), traffic(2.0, 150.0))  # type: ignore[arg-type]
    recording = read_recording(records)
    fits = {fit.backend: fit for fit in calibrate(learned["backends"], recording, 64)}
    seen = [fit for fit in fits.values() if fit.from_ == "fitted" and fit.answers > 60]
    assert seen
    for fit in seen:
        found = fit.profile
        assert found.prefill_token_s == pytest.approx(profile.prefill_token_s, rel=0.35)
        each_s = profile.iteration_s + profile.sequence_s
        assert found.iteration_s + found.sequence_s == pytest.approx(each_s, rel=0.15)
        assert fit.first_token_error is not None
        assert fit.first_token_error < 0.2
        assert fit.decode_error is not None
        assert fit.decode_error < 0.1


def test_a_backend_of_another_pace_has_its_own() -> None:
    plan = small_plan(slow_profile())
    slow = replace(slow_profile(), prefill_token_s=0.0008, iteration_s=0.038, intake_s=0.02)
    near, far, *others = plan.machines
    plan = replace(plan, machines=(near, replace(far, profile=slow), *others))
    learned, records = lived(plan, traffic(5.0, 150.0))
    fits = {fit.backend: fit for fit in calibrate(learned["backends"], read_recording(records), 64)}
    quick_one, slow_one = fits[near.spec.name], fits[far.spec.name]
    assert slow_one.answers > 20
    assert slow_one.profile.iteration_s / quick_one.profile.iteration_s == pytest.approx(2.0, rel=0.2)
    assert slow_one.profile.prefill_token_s / quick_one.profile.prefill_token_s == pytest.approx(2.0, rel=0.3)


def test_where_nothing_was_seen() -> None:
    learned, records = lived(small_plan(), traffic(2.0, 30.0))
    only_near = [r for r in records if r["attempts"][-1]["backend"] == "us-east/a"]
    fits = {fit.backend: fit for fit in calibrate(learned["backends"], read_recording(only_near), 64)}
    assert fits["us-east/a"].from_ == "fitted"
    assert (fits["eu-central/a"].from_, fits["eu-central/a"].first_token_error) == ("like others", None)
    assert fits["eu-central/a"].document()["scatter_s_p95"] == 0.0
    none = calibrate(learned["backends"], read_recording([]), 64)
    assert {fit.from_ for fit in none} == {"learned"}
    assert none[0].profile.iteration_s == pytest.approx(learned["backends"][0]["itl_s"], rel=0.1)
    assert {fit.kv_from for fit in none} == {"told"}
    for b in learned["backends"]:
        b["kv_capacity_tokens"] = None
    assert {fit.kv_from for fit in calibrate(learned["backends"], read_recording([]), 64)} == {"assumed"}


def test_a_whole_answer_tells_of_both_and_one_that_waited_of_the_rest_only() -> None:
    whole = Served("us-east/a", "m", 0.0, None, 1.0, 0.0, 100, 0, 11)
    (told,) = observed(whole, 0.1)
    assert told.takes_s == pytest.approx(0.9)
    assert told.row[:2] == (1.0, 100.0)
    assert told.row[3] == 11.0, "one iteration for the first token, ten for the rest"
    waited = Served("us-east/a", "m", 0.0, 0.5, 1.0, 0.0, 100, 0, 11, ahead_tokens=500)
    assert [o.first for o in observed(waited, 0.1)] == [False]


def test_how_much_an_engine_computes_at_once_is_seen_when_prompts_wait() -> None:
    engine = replace(slow_profile(), batch_tokens=512, sequences=400)
    crowded, quiet = (lived(small_plan(engine), traffic(rate, 60.0)) for rate in (25.0, 0.5))
    seen = [fit for fit in calibrate(crowded[0]["backends"], read_recording(crowded[1]), 64) if fit.answers > 100]
    assert seen
    assert {(fit.profile.batch_tokens, fit.batch_from) for fit in seen} == {(512, "fitted")}
    unseen = calibrate(quiet[0]["backends"], read_recording(quiet[1]), 64)
    assert {fit.batch_from for fit in unseen} == {"assumed"}
