"""From slices to the table: medians, ratios to a named base, the generated parts of the documents."""

from __future__ import annotations

import json
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from bench.peers import PEERS
from bench.scenarios import SCENARIOS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

REPOSITORY = Path(__file__).parents[1]
DOCUMENTS = (REPOSITORY / "docs" / "performance.md", REPOSITORY / "README.md")
KEPT_UP = 0.97
BENCH_LIMIT = 0.9
NONE = "none"

Slices = list[dict[str, Any]]


def merge(results: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Several runs on one machine as one. Raises ValueError if versions differ."""
    first: dict[str, Any] = json.loads(json.dumps(results[0]))
    for other in results[1:]:
        for name, version in other["versions"].items():
            if first["versions"].setdefault(name, version) != version:
                raise ValueError(f"{name}: {first['versions'][name]} and {version} cannot stand in one table")
        first["skipped"] = {name: why for name, why in first["skipped"].items() if name not in other["versions"]}
        first["idle_pss_bytes"] |= other["idle_pss_bytes"]
        first["slices"] += other["slices"]
        first["date"] = other["date"]
    return first


def percentile_ns(histogram: Sequence[Sequence[int]], share: float) -> float:
    total = sum(count for _, count in histogram)
    seen = 0
    for value, count in sorted(map(tuple, histogram)):
        seen += count
        if seen >= share * total:
            return float(value)
    return float("nan")


class Figures:
    """What the cells of the table are computed from."""

    def __init__(self, results: dict[str, Any]) -> None:
        self.results = results
        self.by_cell: dict[tuple[str, str], Slices] = {}
        for one in results["slices"]:
            self.by_cell.setdefault((one["peer"], one["scenario"]), []).append(one)

    def peers(self) -> list[str]:
        measured = {peer for peer, _ in self.by_cell}
        return [name for name in PEERS if name in measured and name != NONE]

    def slices(self, peer: str, scenario: str) -> Slices:
        return self.by_cell.get((peer, scenario), [])

    def cpu_us(self, scenario: str) -> Callable[[str], float | None]:
        """CPU per request or chunk, the median over the rounds; CPU of the gateway's stores included."""
        unit = "chunks" if SCENARIOS[scenario].unit == "chunk" else "requests"

        def figure(peer: str) -> float | None:
            costs = [one["cpu_s"] / one[unit] * 1e6 for one in self.slices(peer, scenario) if one[unit] > 0]
            return median(costs) if costs else None

        return figure

    def added_us(self, scenario: str, share: float) -> Callable[[str], float | None]:
        """What a gateway adds to a latency percentile: round by round against no gateway, then the median."""

        def figure(peer: str) -> float | None:
            pairs = zip(self.slices(peer, scenario), self.slices(NONE, scenario), strict=False)
            added = [
                percentile_ns(with_["latency_ns"], share) - percentile_ns(without["latency_ns"], share)
                for with_, without in pairs
                if with_["latency_ns"] and without["latency_ns"]
            ]
            return median(added) / 1e3 if added else None

        return figure

    def added_gap_ms(self, peer: str) -> float | None:
        """What a gateway adds to the 99th percentile of the time between two tokens while many streams are opened."""
        added = [
            percentile_ns(with_["gap_ns"], 0.99) - percentile_ns(without["gap_ns"], 0.99)
            for with_, without in zip(self.slices(peer, "opening"), self.slices(NONE, "opening"), strict=False)
            if with_["gap_ns"] and without["gap_ns"]
        ]
        return median(added) / 1e6 if added else None

    def requests_per_s(self, peer: str) -> float | None:
        rates = [one["requests"] / one["window_s"] for one in self.slices(peer, "whole-200") if one["requests"]]
        return median(rates) if rates else None

    def bench_was_limit(self, peer: str) -> bool:
        return any(one["bench_use"] > BENCH_LIMIT for one in self.slices(peer, "whole-200"))

    def kept_up(self, peer: str, scenario: str) -> float:
        """Share of the chunks due that came, against the share that came without a gateway on this busy machine."""
        direct = self._arrived(NONE, scenario) or 1.0
        return min(1.0, self._arrived(peer, scenario) / direct)

    def _arrived(self, peer: str, scenario: str) -> float:
        plan = SCENARIOS[scenario]
        due_per_s = plan.connections / (plan.interval_us / 1e6)
        shares = [
            one["chunks"] / (due_per_s * one["window_s"]) for one in self.slices(peer, scenario) if one["window_s"]
        ]
        return median(shares) if shares else 0.0

    def idle_mib(self, peer: str) -> float | None:
        idle = self.results["idle_pss_bytes"].get(peer)
        return idle / 2**20 if idle else None

    def open_mib(self, scenario: str) -> Callable[[str], float | None]:
        def figure(peer: str) -> float | None:
            sizes = [one["open_pss_bytes"] for one in self.slices(peer, scenario) if one["open_pss_bytes"]]
            return median(sizes) / 2**20 if sizes else None

        return figure

    def streams_open(self, peer: str, scenario: str) -> int:
        return max((one["streams_open"] for one in self.slices(peer, scenario)), default=0)

    def errors(self, peer: str) -> int:
        return sum(one["errors"] for (name, _), cell in self.by_cell.items() if name == peer for one in cell)

    def left_open(self, peer: str) -> int:
        return max(
            (one["left_open"] for (name, _), cell in self.by_cell.items() if name == peer for one in cell), default=0
        )

    def rewrites(self, peer: str) -> bool:
        return any(one["rewritten"] for (name, _), cell in self.by_cell.items() if name == peer for one in cell)

    def others_cores(self, peer: str) -> float | None:
        """Noise: how many cores everybody else used, the median over the slices."""
        cell = [
            one["others_cores"]
            for (name, _), cell in self.by_cell.items()
            if name == peer
            for one in cell
            if one["cpu_s"]
        ]
        return median(cell) if cell else None


def number(value: float) -> str:
    """Three significant digits, thin thousands."""
    if abs(value) >= 99.95:
        return f"{value:,.0f}".replace(",", " ")
    return f"{value:.1f}"


def with_ratio(value: float | None, base: float | None) -> str:
    if value is None:
        return "–"
    return number(value) + (f" (×{value / base:.2f})" if base and base > 0 and value > 0 else "")


def table(results: dict[str, Any], base: str) -> str:
    """The whole table as markdown; ratios are to `base`."""
    figures = Figures(results)
    columns = _columns(figures, base)
    lines = ["| gateway | version | " + " | ".join(columns) + " |", "|---" * (len(columns) + 2) + "|"]
    for peer in figures.peers():
        cells = [cell(peer) for cell in columns.values()]
        lines.append(f"| {PEERS[peer].title} | {results['versions'].get(peer, '')} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _columns(figures: Figures, base: str) -> dict[str, Callable[[str], str]]:
    def ratio(figure: Callable[[str], float | None]) -> Callable[[str], str]:
        return lambda peer: with_ratio(figure(peer), figure(base))

    def alone(scenario: str) -> Callable[[str], str]:
        def cell(peer: str) -> str:
            kept = figures.kept_up(peer, scenario)
            note = "" if kept >= KEPT_UP or not figures.slices(peer, scenario) else f", {kept:.0%} kept up"
            return with_ratio(figures.cpu_us(scenario)(peer), figures.cpu_us(scenario)(base)) + note

        return cell

    def memory(scenario: str) -> Callable[[str], str]:
        def cell(peer: str) -> str:
            text = with_ratio(figures.open_mib(scenario)(peer), figures.open_mib(scenario)(base))
            opened = figures.streams_open(peer, scenario)
            short = figures.slices(peer, scenario) and opened < SCENARIOS[scenario].connections
            return text + (f", {number(opened)} opened" if short else "")

        return cell

    def rate(peer: str) -> str:
        return ("≥ " if figures.bench_was_limit(peer) else "") + ratio(figures.requests_per_s)(peer)

    def errors(peer: str) -> str:
        left = figures.left_open(peer)
        return str(figures.errors(peer)) + (f"; {left} streams left open" if left else "")

    def noise(peer: str) -> str:
        cores = figures.others_cores(peer)
        return "–" if cores is None else f"{cores:.2f}"

    return {
        "CPU µs / request, 200 B": ratio(figures.cpu_us("whole-200")),
        "16 KiB": ratio(figures.cpu_us("whole-16k")),
        "CPU µs / chunk, streams of 64": ratio(figures.cpu_us("stream-64")),
        "of 256": ratio(figures.cpu_us("stream-256")),
        "alone, 100 × 20 ms": alone("alone-100"),
        "alone, 1 000 × 20 ms": alone("alone-1000"),
        "added p50 µs": ratio(figures.added_us("latency", 0.5)),
        "added p99 µs": ratio(figures.added_us("latency", 0.99)),
        "added p50 µs, stream of 16": ratio(figures.added_us("latency-stream", 0.5)),
        "added p99 µs at 200/s": ratio(figures.added_us("latency-open", 0.99)),
        "added gap p99 ms, 1 000 opened at once": ratio(figures.added_gap_ms),
        "requests/s, one core": rate,
        "MiB idle": ratio(figures.idle_mib),
        "MiB, 1 000 streams": memory("open-1000"),
        "MiB, 10 000 streams": memory("open-10000"),
        "errors": errors,
        "noise, cores": noise,
    }


def summary(results: dict[str, Any], base: str) -> str:
    """The few columns a newcomer reads."""
    figures = Figures(results)
    columns: dict[str, Callable[[str], float | None]] = {
        "CPU µs / request": figures.cpu_us("whole-200"),
        "16 KiB prompt": figures.cpu_us("whole-16k"),
        "CPU µs / streamed chunk": figures.cpu_us("alone-1000"),
        "added p50 µs": figures.added_us("latency", 0.5),
        "requests/s, one core": figures.requests_per_s,
        "MiB, 1 000 open streams": figures.open_mib("open-1000"),
    }
    lines = ["| | " + " | ".join(columns) + " |", "|---" + "|---:" * len(columns) + "|"]
    for peer in figures.peers():
        cells = [with_ratio(figure(peer), figure(base)) for figure in columns.values()]
        lines.append(f"| {PEERS[peer].title} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def conditions(results: dict[str, Any], base: str) -> str:
    """Machine, date and reading aid, one paragraph."""
    machine = results["machine"]
    rounds = max((len(cell) for cell in Figures(results).by_cell.values()), default=0)
    text = (
        f"{results['date']} · {machine['cpu']}, {machine['cores']} cores · {machine['system']}, "
        f"Linux {machine['kernel']} · Python {machine['python']} · "
        f"medians of up to {rounds} interleaved slices · ratios (×) to {_plain(base)}"
    )
    missing = [f"{_plain(name)}: {why.splitlines()[0][:120]}" for name, why in results["skipped"].items()]
    return text + ("\n\nNot measured: " + "; ".join(missing) if missing else "")


def _plain(peer: str) -> str:
    return PEERS[peer].title.strip("*") if peer in PEERS else peer


def load(paths: Iterable[Path]) -> dict[str, Any]:
    return merge([json.loads(path.read_text()) for path in paths])


def write(results: dict[str, Any], base: str) -> list[Path]:
    """Renews what stands between `<!-- bench:NAME -->` and `<!-- /bench:NAME -->` in the documents."""
    parts = {
        "conditions": conditions(results, base),
        "table": table(results, base),
        "summary": summary(results, base),
    }
    changed = []
    for path in DOCUMENTS:
        if not path.exists():
            continue
        before = path.read_text()
        text = before
        for name, part in parts.items():
            opening, closing = f"<!-- bench:{name} -->\n", f"<!-- /bench:{name} -->"
            head, found, rest = text.partition(opening)
            if found and closing in rest:
                text = head + opening + part + "\n" + closing + rest.partition(closing)[2]
        if text != before:
            path.write_text(text)
            changed.append(path)
    return changed
