"""The table of metrics: its names, its buckets, and the document made from it."""

from __future__ import annotations

import re
from bisect import bisect_left
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.telemetry.metrics import METRICS, SPECS, table

DOCS = Path(__file__).parent.parent.parent / "docs"


def test_names_follow_the_rules() -> None:
    assert len(SPECS) == len(METRICS)
    for spec in METRICS:
        assert re.fullmatch(r"(router|gen_ai)_[a-z_]+", spec.name), spec.name
        assert spec.name.endswith("_total") == (spec.kind == "counter"), spec.name
        assert bool(spec.buckets) == (spec.kind == "histogram"), spec.name
        assert list(spec.buckets) == sorted(set(spec.buckets)), spec.name
        assert spec.help.endswith("."), spec.name


def test_the_document_is_the_table() -> None:
    text = (DOCS / "metrics.md").read_text()
    assert table() in text
    mentioned = set(re.findall(r"(?:router|gen_ai)_[a-z_]+", text))
    known = set(SPECS) | {f"{name}_bucket" for name in SPECS} | {label for spec in METRICS for label in spec.labels}
    assert mentioned <= known


@pytest.mark.parametrize("name", ["router_ttft_seconds", "router_request_duration_seconds"])
@given(st.floats(0.02, 9.9), st.integers(1, 99))
def test_a_quantile_is_read_within_three_tenths(name: str, middle_s: float, percent: int) -> None:
    """As histogram_quantile does: linear within the bucket. The values here are all equal, the worst case."""
    bounds = SPECS[name].buckets
    i = bisect_left(bounds, middle_s)
    read_s = bounds[i - 1] + (bounds[i] - bounds[i - 1]) * percent / 100
    assert abs(read_s - middle_s) <= 0.3 * middle_s
    assert bounds[i] / bounds[i - 1] < 1.3


def test_histograms_have_a_bounded_number_of_buckets() -> None:
    assert max(len(spec.buckets) for spec in METRICS) <= 40
