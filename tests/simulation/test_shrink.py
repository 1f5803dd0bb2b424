"""A failing scenario becomes as small as it can."""

from __future__ import annotations

import pytest

from router.core.admission import WaitQueue
from sim.seeds.scenario import part_of, scenario_of
from sim.seeds.shrink import broken_by, shrink


def test_what_is_left_fails_in_the_same_way_and_nothing_of_it_can_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(WaitQueue, "pop", lambda self, now_s, fits=None: None)
    seed, broken = next((i, b) for i in range(400) if (b := broken_by(scenario_of(i))) is not None)
    whole = scenario_of(seed)
    small = shrink(whole, broken.rule)
    assert len(small.asks) < len(whole.asks)
    again = broken_by(small)
    assert again is not None
    assert again.rule == broken.rule
    asks, troubles = {a.number for a in small.asks}, {t.number for t in small.troubles}
    for number in asks:
        less = broken_by(part_of(whole, asks - {number}, troubles))
        assert less is None or less.rule != broken.rule
