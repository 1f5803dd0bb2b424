"""The quote of a backend: its guesses, barriers and fading."""

from __future__ import annotations

import csv
from itertools import pairwise

import pytest

from router.core.cost import (
    Ahead,
    Rates,
    cost_terms,
    distance_km,
    distance_rtt_s,
    kv_pressure_s,
    peers_share,
    predicted_ttft_s,
    prompt_pairs,
)
from router.core.lane import Lane
from router.core.learn.first_token import TtftFit, prior_line
from router.core.params import Params

PARAMS = Params()

#: measured round trips between cities, median in ms, and where the cities are
MEASURED_MS = """\
Dallas,Washington DC,31
Dallas,Frankfurt,123
Dallas,Tokyo,143
Washington DC,London,75
Washington DC,Sydney,214
Frankfurt,London,13
London,Tokyo,243
Frankfurt,Sao Paulo,198
Tokyo,Osaka,9
"""
CITIES = {
    "Dallas": (32.8, -96.8),
    "Washington DC": (38.9, -77.0),
    "London": (51.5, -0.1),
    "Frankfurt": (50.1, 8.7),
    "Tokyo": (35.7, 139.7),
    "Osaka": (34.7, 135.5),
    "Sydney": (-33.9, 151.2),
    "Sao Paulo": (-23.5, -46.6),
}


def test_great_circles() -> None:
    assert distance_km((0.0, 0.0), (0.0, 0.0)) == 0.0
    assert distance_km((0.0, 0.0), (0.0, 180.0)) == pytest.approx(20_015, abs=5)
    assert distance_km(CITIES["London"], CITIES["Tokyo"]) == pytest.approx(9560, rel=0.01)


@pytest.mark.parametrize("row", list(csv.reader(MEASURED_MS.splitlines())), ids="-".join)
def test_the_guess_from_the_map_is_near_what_was_measured(row: list[str]) -> None:
    origin, target, measured_ms = row
    guess_ms = 1000 * distance_rtt_s(CITIES[origin], CITIES[target], PARAMS)
    # Cables do not follow great circles: London to Tokyo goes around Asia.
    assert 0.55 * float(measured_ms) <= guess_ms <= 1.5 * float(measured_ms)


def test_the_barrier_is_felt_near_the_end_only() -> None:
    pressures = [kv_pressure_s(kv / 100, PARAMS) for kv in range(101)]
    assert all(a <= b for a, b in pairwise(pressures))
    assert pressures[0] == 0.0
    assert pressures[50] < 0.05
    assert pressures[95] > 0.5
    assert kv_pressure_s(7.0, PARAMS) == pressures[100] < 2.0
    assert kv_pressure_s(-1.0, PARAMS) == 0.0


def test_a_peers_word_fades() -> None:
    assert peers_share(0.0, PARAMS) == 1.0
    assert peers_share(PARAMS.peers_full_s, PARAMS) == 1.0
    assert peers_share((PARAMS.peers_full_s + PARAMS.peers_gone_s) / 2, PARAMS) == pytest.approx(0.5)
    assert peers_share(PARAMS.peers_gone_s, PARAMS) == 0.0
    assert peers_share(float("inf"), PARAMS) == 0.0


def test_terms_prediction_and_cost_agree() -> None:
    rates = Rates(
        rtt_s=0.08,
        overhead_s=0.03,
        pressure_s=0.02,
        residual_s=-0.01,
        risk_s=0.25,
        token_s=0.00005,
        pair_s=5e-9,
        pace=2.0,
        busy_s=0.005,
        decode_each_s=0.002,
        decode_alone_s=0.01,
        toll=6.0,
        queue_toll=4.0,
        shared_toll=0.8,
        stall_ratio=0.045,
        first_token_s=0.08 + 0.03 - 0.01,
    )
    lane = Lane("m", TtftFit(PARAMS, prior_line(PARAMS), 0.0))
    lane.set_rates(rates)
    queue_s, requests = 0.4, 10.0
    fixed_s = lane.fixed_s + queue_s + requests * lane.request_s
    rate = lane.rate + queue_s * lane.queue_toll + requests * lane.stall
    ahead = Ahead(queue_s, 4000.0, 0.0, requests, rates)
    terms = dict(cost_terms(ahead, 3000, 2000))
    plain_s = 2000 * (rates.token_s + 4000 * rates.pair_s)
    assert terms == pytest.approx(
        {
            "rtt": 0.08,
            "overhead": 0.03,
            "queue": 0.4,
            "prefill": 0.28,
            "pressure": 0.07,
            "residual": -0.01,
            "risk": 0.25,
            "decode": 0.03,
            "toll": 0.28 * (6.0 * 0.28 + 4.0 * 0.4 + 0.8 + 0.45),
        }
    )
    assert sum(terms.values()) == pytest.approx(fixed_s + plain_s * (rate + plain_s * lane.curve))
    no_wait_s = 0.02 + 0.25 + terms["toll"] + terms["decode"]
    assert predicted_ttft_s(ahead, 3000, 2000) == pytest.approx(sum(terms.values()) - no_wait_s)


def test_attention_computes_each_uncached_token_with_all_before_it() -> None:
    assert prompt_pairs(1000, 1000) == 500_000
    assert prompt_pairs(1000, 100) == 100 * 950
    assert prompt_pairs(1000, 0) == 0
