"""What if, on a fleet that was measured: held against worlds in which it really happens."""

from __future__ import annotations

from dataclasses import replace

import pytest

from router.core.what_if import WhatIf
from sim.measured import NotComparableError, changed, measure, quantile, what_ifs
from sim.traces import TraceError
from tests.support.journals import lived, played, slow_profile, small_plan, traffic

PLAN = small_plan(slow_profile())
TRACE = traffic(5.0, 100.0)


def test_what_really_ran_is_played_again_nearly_as_it_was() -> None:
    learned, records = lived(PLAN, TRACE)
    found = what_ifs(measure(learned, records), [])
    recorded, replayed = found["rows"]
    assert (recorded["row"], recorded["measured"]) == ("as recorded", True)
    assert recorded["ttft_s_p50"] == quantile([r["ttft_s"] for r in records], 0.5)
    assert (replayed["row"], replayed["measured"]) == ("replayed", False)
    assert found["refused"] is None
    errors = [found["error"][f"{time}_p{q}"] for time in ("ttft_s", "e2e_s") for q in (50, 95)]
    assert found["error"]["worst"] == max(errors) < 0.25
    assert replayed["prefix_hit_ratio"] == pytest.approx(recorded["prefix_hit_ratio"], abs=0.05)
    assert any("fitted to" in line for line in found["measured"])
    assert any("no backend fails" in line for line in found["assumed"])


def test_a_lost_region_is_foretold() -> None:
    learned, records = lived(PLAN, TRACE)
    gone = WhatIf(without=("us-east",))
    row = what_ifs(measure(learned, records), [gone])["rows"][2]
    assert row["row"] == "without us-east"
    _, flows = played(changed(PLAN, gone), TRACE)
    really = [f.ttft_s for f in flows if f.ttft_s is not None]
    for share, name in ((0.5, "ttft_s_p50"), (0.95, "ttft_s_p95")):
        truth = quantile(really, share)
        assert truth is not None
        assert row[name] == pytest.approx(truth, rel=0.3)
    assert set(row["requests_by_region"]) == {"eu-central", "ap-northeast"}


def test_each_change_moves_what_it_should() -> None:
    learned, records = lived(PLAN, TRACE)
    measured = measure(learned, records)
    more, twin = WhatIf(scale=1.6), WhatIf(add=(("us-east/z", "us-east/a"),))
    changes = [more, twin, WhatIf(without=("us-east", "eu-central", "ap-northeast"))]
    rows = {row["row"]: row for row in what_ifs(measured, changes, ["nearest"])["rows"]}
    replayed = rows["replayed"]
    assert rows[more.words()]["ttft_s_p50"] > replayed["ttft_s_p50"] > rows[twin.words()]["ttft_s_p50"]
    assert rows[twin.words()]["requests_by_backend"]["us-east/z"] > 50
    assert set(rows["policy nearest"]["requests_by_region"]) == {"us-east"}
    nowhere = rows[changes[2].words()]
    assert (nowhere["answered"], nowhere["failed"], nowhere["ttft_s_p50"]) == (0, replayed["answered"], None)
    again = what_ifs(measured, changes, ["nearest"])
    assert {row["row"]: row for row in again["rows"]} == rows, "the same seed gives the same"


def test_what_cannot_be_played_again_is_not_compared() -> None:
    learned, records = lived(PLAN, TRACE)
    # A fleet that is far slower at times for reasons that no request shows.
    for i, record in enumerate(records):
        if i % 8 == 0:
            late_s = 4.0
            record["ttft_s"] += late_s
            record["duration_s"] += late_s
            record["attempts"] = [
                {**a, "ttft_s": a["ttft_s"] + late_s, "duration_s": a["duration_s"] + late_s}
                for a in record["attempts"]
            ]
    found = what_ifs(measure(learned, records), [WhatIf(scale=2.0)], error_max=0.05)
    assert [row["row"] for row in found["rows"]] == ["as recorded", "replayed"]
    assert "off by" in found["refused"]
    few = what_ifs(measure(learned, records[:5]), [])
    assert "too few" in few["refused"]


def test_several_models_go_to_their_own_engines() -> None:
    small = replace(PLAN.machines[0].spec, name="us-east/s", models=("small",))
    plan = replace(PLAN, many_models=True, machines=(*PLAN.machines, replace(PLAN.machines[0], spec=small)))
    arrivals = tuple(replace(a, model="small" if i % 3 else "") for i, a in enumerate(TRACE.arrivals))
    learned, records = lived(plan, replace(TRACE, arrivals=arrivals))
    measured = measure(learned, records)
    row = what_ifs(measured, [], error_max=9.0)["rows"][1]
    assert row["requests_by_backend"]["us-east/s"] == sum(a.model == "small" for a in arrivals)


def test_another_fleets_journal_is_told() -> None:
    learned, records = lived(PLAN, traffic(2.0, 20.0))
    for b in learned["backends"]:
        b["name"] = b["name"].replace("/a", "/elsewhere")
    with pytest.raises(NotComparableError, match="no backend of the router"):
        measure(learned, records)
    with pytest.raises(TraceError):
        measure(learned, [{"request_id": "x"}])


def test_how_much_is_computed_at_once_is_what_plays_best() -> None:
    plan = small_plan(replace(slow_profile(), batch_tokens=512))
    measured = measure(*lived(plan, traffic(9.0, 60.0)))
    assert {fit.batch_from for fit in measured.fits} <= {"played", "fitted"}
    assert any("as many tokens at once as played best" in line for line in measured.assumed)
    assert what_ifs(measured, [])["error"]["worst"] < 0.25
