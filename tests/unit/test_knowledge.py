"""The knowledge of a fleet as plain values."""

from __future__ import annotations

import json

import pytest

from router.core.knowledge import knowledge_of
from router.core.types import LoadSample
from tests.support.fleets import MODEL, Driver, fleet_of


def test_it_is_what_was_seen() -> None:
    driver = Driver(fleet_of("us-east/a", "eu-west/a", cost_usd_hour=2.5))
    driver.fleet.observe_rtt("us-east/a", 0.004, 0.0)
    driver.fleet.observe_load("us-east/a", LoadSample(0.0, 1.0, 0.0, 0.1, 90_000.0), 0.0)
    for i in range(60):
        driver.serve(i * 0.5, ttft_s=0.3, prompt_tokens=2000)
    driver.fleet.tick(31.0, everywhere=True)
    known = json.loads(json.dumps(knowledge_of(driver.fleet, 31.0), allow_nan=False))
    assert known["router_region"] == "us-east"
    near, far = known["backends"]
    assert (near["name"], near["region"], near["models"], near["cost_usd_hour"]) == (
        "us-east/a",
        "us-east",
        [MODEL],
        2.5,
    )
    assert (near["rtt_s"], near["rtt_measured"], near["kv_capacity_tokens"]) == (0.004, True, 90_000.0)
    assert near["places"] is None
    lane = near["learned"][MODEL]
    assert lane["samples"] > 20
    first_s = lane["overhead_s"] + 2000 * lane["token_s"] + 2.0 * lane["attention_s_per_mpair"]
    assert first_s == pytest.approx(0.3, rel=0.15)
    assert (far["rtt_measured"], far["kv_capacity_tokens"]) == (False, None)
