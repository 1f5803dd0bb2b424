"""The figures of a load while it runs."""

from __future__ import annotations

from rich.text import Text

from cli.bench_view import Live
from sim.loadgen import Shot


def test_the_figures_so_far() -> None:
    live = Live()
    assert str(live) == "0 requests"
    for n in range(1, 101):
        live.add(Shot(200, ttft_s=n / 1000))
    live.add(Shot(0, error="unreachable"))
    assert Text.from_markup(str(live)).plain == "101 requests · first token p50 51 ms · p99 99 ms · 1 failed"
