"""What each kind of engine calls its load, and where it tells it.

Names in order of preference: engines rename metrics, and a rename must not blind the router. What a page does not
hold is unknown (None), never zero: SGLang's counters, for one, do not exist before the first finished request.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from router.core.types import LoadSample
from router.observe.exposition import Exposition, Sample


@dataclass(frozen=True, slots=True)
class Engine:
    """How to ask one kind of engine.

    ``probe_path`` answers cheaply and does no inference. ``metrics_path`` is None when there is no page to scrape.
    """

    probe_path: str
    metrics_path: str | None = None
    running: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    kv_ratio: tuple[str, ...] = ()
    output_tokens_total: tuple[str, ...] = ()
    hit_ratio: tuple[str, ...] = ()  # a gauge, 0..1
    hit_tokens: tuple[str, ...] = ()
    asked_tokens: tuple[str, ...] = ()  # hits are part of it
    missed_tokens: tuple[str, ...] = ()  # hits are not part of it
    capacity_tokens: tuple[str, ...] = ()
    capacity_info: str | None = None  # a metric whose labels tell the KV cache's size
    #: of the samples of one metric those that add up
    pick: Callable[[list[Sample]], list[Sample]] = lambda samples: samples

    @property
    def names(self) -> set[str]:
        """All metrics that are read."""
        info = () if self.capacity_info is None else (self.capacity_info,)
        return {
            *(*self.running, *self.waiting, *self.kv_ratio, *self.output_tokens_total, *self.hit_ratio),
            *(*self.hit_tokens, *self.asked_tokens, *self.missed_tokens, *self.capacity_tokens, *info),
        }


#: ranks that work on the same requests; a data-parallel rank (``dp_rank``) has requests of its own
_SGLANG_RANKS = ("pp_rank", "tp_rank", "moe_ep_rank")


def _sglang_totals(samples: list[Sample]) -> list[Sample]:
    """With priority scheduling each gauge comes once per priority and once in all, as ``priority=""``. Of the tensor-,
    pipeline- and expert-parallel ranks that repeat each other the lowest speaks: with attention computed data-parallel,
    ``dp_rank`` 3 may begin at ``tp_rank`` 3.
    """
    lowest: dict[tuple[tuple[str, str], ...], tuple[tuple[int, ...], Sample]] = {}
    for sample in samples:
        labels = sample.labels
        if labels.get("priority", "") != "":
            continue
        counted = tuple(sorted((label, value) for label, value in labels.items() if label not in _SGLANG_RANKS))
        ranks = tuple(_rank(labels.get(label, "0")) for label in _SGLANG_RANKS)
        if counted not in lowest or ranks < lowest[counted][0]:
            lowest[counted] = (ranks, sample)
    return [sample for _, sample in lowest.values()]


def _rank(text: str) -> int:
    """A rank that is no number comes last."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 10**9


ENGINE_TABLE: dict[str, Engine] = {
    "vllm": Engine(
        probe_path="/health",
        metrics_path="/metrics",
        running=("vllm:num_requests_running",),
        waiting=("vllm:num_requests_waiting",),
        kv_ratio=("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
        output_tokens_total=("vllm:generation_tokens_total", "vllm:generation_tokens"),
        hit_ratio=("vllm:gpu_prefix_cache_hit_rate",),
        hit_tokens=("vllm:prefix_cache_hits_total", "vllm:gpu_prefix_cache_hits_total", "vllm:prefix_cache_hits"),
        asked_tokens=(
            "vllm:prefix_cache_queries_total",
            "vllm:gpu_prefix_cache_queries_total",
            "vllm:prefix_cache_queries",
        ),
        capacity_info="vllm:cache_config_info",
    ),
    "sglang": Engine(
        # /health generates a token: it takes a second and a slot, and hangs with the scheduler.
        probe_path="/v1/models",
        metrics_path="/metrics",
        running=("sglang:num_running_reqs",),
        waiting=("sglang:num_queue_reqs",),
        kv_ratio=("sglang:token_usage", "sglang:full_token_usage"),
        output_tokens_total=("sglang:generation_tokens_total",),
        hit_ratio=("sglang:cache_hit_rate",),
        hit_tokens=("sglang:cached_tokens_total",),
        asked_tokens=("sglang:prompt_tokens_total",),
        capacity_tokens=("sglang:max_total_num_tokens",),
        pick=_sglang_totals,
    ),
    "llamacpp": Engine(
        probe_path="/health",
        metrics_path="/metrics",
        running=("llamacpp:requests_processing",),
        waiting=("llamacpp:requests_deferred",),
        kv_ratio=("llamacpp:kv_cache_usage_ratio",),
        output_tokens_total=("llamacpp:tokens_predicted_total",),
        hit_tokens=("llamacpp:prompt_tokens_cached_total",),
        missed_tokens=("llamacpp:prompt_tokens_total",),
    ),
    "tgi": Engine(
        probe_path="/health",
        metrics_path="/metrics",
        running=("tgi_batch_current_size",),
        waiting=("tgi_queue_size",),
        output_tokens_total=("tgi_request_generated_tokens_sum",),
        capacity_tokens=("tgi_batch_current_max_tokens",),
    ),
    "openai": Engine(probe_path="/v1/models"),
    "router": Engine(probe_path="/readyz"),
}


class LoadReader:
    """Reads one page of one engine as it comes: ``feed`` it the pieces, then ask for the ``sample``."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._page = Exposition(engine.names)
        self.feed = self._page.feed

    def sample(self, at_s: float) -> LoadSample:
        """What the page said. A page without any known metric gives a sample of unknowns."""
        self._page.close()
        engine, reading = self._engine, _Reading(self._engine, self._page)
        return LoadSample(
            at_s=at_s,
            running=reading.count(engine.running),
            waiting=reading.count(engine.waiting),
            kv_ratio=reading.ratio(engine.kv_ratio),
            prefix_hit_ratio=reading.hit_ratio(),
            output_tokens_total=reading.count(engine.output_tokens_total),
            kv_capacity_tokens=reading.capacity(),
        )


def read_load(engine: Engine, page: bytes, at_s: float) -> LoadSample:
    """What a page says that is here already."""
    reader = LoadReader(engine)
    reader.feed(page)
    return reader.sample(at_s)


def knows_load(sample: LoadSample) -> bool:
    """Does the sample say how busy the engine is?"""
    return sample.running is not None or sample.waiting is not None


class _Reading:
    """One page of one engine."""

    def __init__(self, engine: Engine, page: Exposition) -> None:
        self._engine = engine
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

    def hit_ratio(self) -> float | None:
        hits = self.count(self._engine.hit_tokens)
        asked = self.count(self._engine.asked_tokens)
        missed = self.count(self._engine.missed_tokens)
        if hits is not None and missed is not None:
            asked = hits + missed
        return min(hits / asked, 1.0) if hits is not None and asked else self.ratio(self._engine.hit_ratio)

    def capacity(self) -> float | None:
        if self._engine.capacity_info is None:
            return self.count(self._engine.capacity_tokens) or None
        return sum(_labelled_capacity(s.labels) for s in self._first((self._engine.capacity_info,))) or None

    def _first(self, names: tuple[str, ...]) -> list[Sample]:
        """The samples under the first name that the page has."""
        for name in names:
            if samples := self._engine.pick(self._page.samples(name)):
                return samples
        return []


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
