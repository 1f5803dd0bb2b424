"""Reads how busy an engine is from its metrics page. Which metrics tell it: ``core/traits.py``.

A figure that a page does not hold is unknown (None), never zero: SGLang's counters, for example, do not exist before
the first finished request.
"""

from __future__ import annotations

from router.core.traits import LoadMetrics
from router.core.types import LoadSample
from router.observe.exposition import Exposition, PageSample


class LoadReader:
    """Reads one page of one engine as it comes: ``feed`` it the pieces, then ask for the ``sample``."""

    def __init__(self, metrics: LoadMetrics) -> None:
        self._metrics = metrics
        self._page = Exposition(metrics.names)
        self.feed = self._page.feed

    def sample(self, at_s: float) -> LoadSample:
        """The figures of the page. A page without any known metric gives a sample of unknowns."""
        self._page.close()
        metrics, reading = self._metrics, _Reading(self._metrics, self._page)
        return LoadSample(
            at_s=at_s,
            running=reading.count(metrics.running),
            waiting=reading.count(metrics.waiting),
            kv_ratio=reading.ratio(metrics.kv_ratio),
            kv_capacity_tokens=reading.capacity(),
        )


def read_load(metrics: LoadMetrics, page: bytes, at_s: float) -> LoadSample:
    """Read a complete page."""
    reader = LoadReader(metrics)
    reader.feed(page)
    return reader.sample(at_s)


def knows_load(sample: LoadSample) -> bool:
    """The sample says how busy the engine is."""
    return sample.running is not None or sample.waiting is not None


class _Reading:
    """One page of one engine."""

    def __init__(self, metrics: LoadMetrics, page: Exposition) -> None:
        self._metrics = metrics
        self._page = page

    def count(self, names: tuple[str, ...]) -> float | None:
        """The sum over data-parallel engines."""
        samples = self._first(names)
        total = sum(s.value for s in samples)
        return total if samples and total >= 0 else None

    def ratio(self, names: tuple[str, ...]) -> float | None:
        """The mean over data-parallel engines, which are of one size."""
        samples = self._first(names)
        mean = sum(s.value for s in samples) / len(samples) if samples else -1.0
        return mean if 0 <= mean <= 1 else None

    def capacity(self) -> float | None:
        if self._metrics.capacity_info is None:
            return self.count(self._metrics.capacity_tokens) or None
        return sum(_labelled_capacity(s.labels) for s in self._first((self._metrics.capacity_info,))) or None

    def _first(self, names: tuple[str, ...]) -> list[PageSample]:
        """The samples under the first name that the page has."""
        for name in names:
            if samples := _counted(self._page.samples(name), self._metrics):
                return samples
        return []


def _counted(samples: list[PageSample], metrics: LoadMetrics) -> list[PageSample]:
    """The samples of one metric that must be added up."""
    if not metrics.ranks:
        return samples
    lowest: dict[tuple[tuple[str, str], ...], tuple[tuple[int, ...], PageSample]] = {}
    for sample in samples:
        labels = sample.labels
        if metrics.split_by is not None and labels.get(metrics.split_by, "") != "":
            continue
        counted = tuple(sorted((label, value) for label, value in labels.items() if label not in metrics.ranks))
        ranks = tuple(_rank(labels.get(label, "0")) for label in metrics.ranks)
        if counted not in lowest or ranks < lowest[counted][0]:
            lowest[counted] = (ranks, sample)
    return [sample for _, sample in lowest.values()]


def _rank(text: str) -> int:
    """A rank that is not a number comes last."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 10**9


def _labelled_capacity(labels: dict[str, str]) -> float:
    """Tokens, from ``kv_cache_size_tokens`` or else blocks times block size; 0 when the labels do not tell."""
    for product in (("kv_cache_size_tokens",), ("block_size", "num_gpu_blocks")):
        numbers = [labels.get(label, "") for label in product]
        if all(n.isascii() and n.isdigit() and len(n) < 16 for n in numbers):
            size = 1.0
            for number in numbers:
                size *= int(number)
            return size
    return 0.0
