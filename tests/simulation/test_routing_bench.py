"""bench/routing: workloads that are drawn by chance, and what is said of many of them."""

from __future__ import annotations

import pytest

from bench.routing import play
from bench.routing.cases import drawn, named
from bench.routing.table import METRICS, gains, means_text
from sim.profiles import PROFILES


def test_a_drawn_workload_is_the_same_each_time_and_others_are_others() -> None:
    one = drawn(1, 200, seed=3)
    again = named("drawn 1", None, 200, 3)
    assert one.at(5.0).arrivals == again.at(5.0).arrivals
    assert one.profile == again.profile
    lengths = {drawn(n, 200, seed=3).at(5.0).arrivals[0].prompt_tokens for n in range(1, 9)}
    assert len(lengths) == 8
    assert {drawn(n, 50, seed=3).profile for n in range(1, 40)} < PROFILES.keys()


def test_the_load_does_not_depend_on_what_routers_tell(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else a row with late news would have fewer requests a second, and gains would differ for that."""
    monkeypatch.setattr(play, "capacity_per_s", lambda workload: (workload.told_every_s, workload.told_late_s))
    late = play.Told(every_s=0.06, late_s=0.166)
    assert play.capacity((None, 200, 3, "drawn 1", late, 0.0)) == play.capacity(
        (None, 200, 3, "drawn 1", play.Told(), 0.0)
    )
    assert play.workload((None, 200, 3, "drawn 1", late, 0.0)).told_late_s == 0.166


def test_gains_are_of_policies_that_served_as_many() -> None:
    def row(policy: str, seconds: float, failed: int) -> dict[str, object]:
        return {"policy": policy, "failed": failed, **dict.fromkeys(METRICS, seconds)}

    rows = [row("ttft", 2.0, 0), row("patient", 3.0, 2), row("careless", 1.0, 50)]
    assert gains(rows) == dict.fromkeys(METRICS, 1.5)


def test_the_mean_of_twice_and_half_is_one() -> None:
    said = means_text(
        [
            {"case": "drawn 1 80%", "gains": dict.fromkeys(METRICS, 2.0)},
            {"case": "drawn 2 80%", "gains": dict.fromkeys(METRICS, 0.5)},
            {"case": "drawn 1 60% region lost", "gains": {}},
        ]
    ).splitlines()
    assert said[1].split()[:4] == ["80%", "1.00", "[0.50,", "2.00]"]
    assert said[2].split() == ["60%", "region", "lost", *"-----"]
