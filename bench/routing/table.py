"""Rows of one case as text, and how the default compares with the best of the others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from statistics import geometric_mean
from typing import Any

OURS = "ttft"
METRICS = ("ttft_s_p50", "ttft_s_p90", "ttft_s_p99", "e2e_s_p50", "e2e_s_p99")

_FAILED_BY_CHANCE = 3

Row = Mapping[str, Any]


def case_text(name: str, rows: Sequence[Row]) -> str:
    """A table: each policy with its quantiles and their 95 % intervals, the quickest first."""
    heads = "".join(f"{metric.replace('_s_', ' '):>26}" for metric in METRICS)
    lines = [name, f"{'policy':<15}{heads}{'hits':>7}{'local':>7}{'failed':>7}"]
    for row in sorted(rows, key=lambda row: row["ttft_s_p50"] or float("inf")):
        cells = "".join(f"{_cell(row, metric):>26}" for metric in METRICS)
        shares = f"{row['prefix_hit_ratio']:7.2f}{row['local_ratio']:7.2f}{row['failed']:7d}"
        lines.append(f"{row['policy']:<15}{cells}{shares}")
    return "\n".join([*lines, verdict_text(rows)])


def _cell(row: Row, metric: str) -> str:
    value = row[metric]
    if value is None:
        return "-"
    low, high = row["intervals"][metric]
    return f"{value:.3f} [{low:.3f}, {high:.3f}]"


def gains(rows: Sequence[Row]) -> dict[str, float]:
    """For each metric, the best of the others divided by ours: above 1, ours is better.

    A policy that failed more requests than ours, by more than chance, does not count: it left out the slow ones.
    """
    ours = next(row for row in rows if row["policy"] == OURS)
    others = [row for row in rows if row["policy"] != OURS and row["failed"] <= ours["failed"] + _FAILED_BY_CHANCE]
    out = {}
    for metric in METRICS:
        values = [row[metric] for row in others if row[metric] is not None]
        if values and ours[metric]:
            out[metric] = min(values) / ours[metric]
    return out


def verdict_text(rows: Sequence[Row]) -> str:
    parts = [f"{metric.replace('_s_', ' ')} {gain:.2f}x" for metric, gain in gains(rows).items()]
    return f"best of the others / {OURS}: " + ", ".join(parts)


def summary_text(cases: Sequence[Mapping[str, Any]]) -> str:
    """One line per case: what ``gains`` says."""
    width = max((len(case["case"]) for case in cases), default=4) + 2
    lines = [f"{'case':<{width}}" + "".join(f"{metric.replace('_s_', ' '):>11}" for metric in METRICS)]
    lines += [
        f"{case['case']:<{width}}" + "".join(f"{case['gains'].get(metric, 0.0):10.2f}x" for metric in METRICS)
        for case in cases
    ]
    return "\n".join(lines)


def means_text(cases: Sequence[Mapping[str, Any]]) -> str:
    """One line per load: the geometric mean of ``gains`` over the workloads, the least and the most of them."""
    by_load: defaultdict[str, list[Mapping[str, float]]] = defaultdict(list)
    for case in cases:
        # "drawn 3 60% region lost": two words name the workload
        by_load[case["case"].split(" ", 2)[2]].append(case["gains"])
    lines = [f"{'load':<24}" + "".join(f"{metric.replace('_s_', ' '):>20}" for metric in METRICS)]
    for load, gained in by_load.items():
        cells = []
        for metric in METRICS:
            values = [g[metric] for g in gained if metric in g]
            cells.append(f"{geometric_mean(values):.2f} [{min(values):.2f}, {max(values):.2f}]" if values else "-")
        lines.append(f"{load:<24}" + "".join(f"{cell:>20}" for cell in cells))
    return "\n".join(lines)
