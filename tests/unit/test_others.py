"""Requests of others: the larger of two views, and nothing from views that are too old."""

from __future__ import annotations

from router.core.others import Others
from router.core.params import Params
from router.core.types import LoadSample

PARAMS = Params()


def scraped(running: float, waiting: float, *, inflight: int = 0, prompts: int = 0) -> Others:
    others = Others(PARAMS)
    sample = LoadSample(0.0, running=running, waiting=waiting)
    others.take_scrape(sample, inflight=inflight, prompts=prompts, mean_tokens=100.0)
    return others


def counted(others: Others, now_s: float) -> tuple[float, float]:
    return others.counted(others.fresh_load(now_s), 7.0, now_s)


def test_ours_are_taken_off_a_scrape() -> None:
    assert counted(scraped(5, 3, inflight=2, prompts=1), 0.0) == (6.0, 200.0)
    assert counted(scraped(1, 0, inflight=9, prompts=4), 0.0) == (0.0, 0.0), "never below nothing"


def test_peers_and_the_scrape_see_the_same_requests() -> None:
    others = scraped(5, 3)
    others.take_peers(20, 50, 0.0)
    assert counted(others, 0.0) == (20.0, 300.0)


def test_without_a_fresh_scrape_the_mean_of_the_fleet_stands_in() -> None:
    others = scraped(5, 3)
    assert counted(others, PARAMS.load_fresh_s + 0.1) == (7.0, 0.0)


def test_peers_fade_and_are_gone() -> None:
    others = scraped(0, 0)
    others.take_peers(20, 50, 0.0)
    middle_s = (PARAMS.peers_full_s + PARAMS.peers_gone_s) / 2
    assert 0.0 < counted(others, middle_s)[0] < 20.0
    assert others.counted(None, 0.0, PARAMS.peers_gone_s) == (0.0, 0.0)
