"""The traits of each kind of engine: one row for each, and nothing about an engine anywhere else in the router.

Probing, scraping, the quirks of its answers, the choices in ``regions.toml`` and the help of the CLI are made from
these rows. Facts are from the engines' own answers: tests/data/engines, tests/data/captures.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

from router.core.shapes import LLAMACPP, VLLM, Assembled

#: uvicorn (vLLM) closes idle connections after 4.8 s, llama.cpp after 4.9 s: ours are closed before them.
IDLE_LIMIT_S = 4.0


class Continues(IntEnum):
    """How an engine can continue an answer that another one began. The later ones include the earlier."""

    NO = 0
    TEXT = 1  # after the text so far, without a character between or a new turn
    IDS = 2  # after the very tokens so far, which it names in its streams

    @property
    def word(self) -> str:
        """For people and JSON."""
        return self.name.lower()


@dataclass(frozen=True, slots=True)
class LoadMetrics:
    """Which metrics tell an engine's load.

    Names in order of preference: engines rename metrics, and a rename must not blind the router.
    """

    path: str = "/metrics"
    running: tuple[str, ...] = ()
    waiting: tuple[str, ...] = ()
    kv_ratio: tuple[str, ...] = ()
    capacity_tokens: tuple[str, ...] = ()
    #: a metric whose labels tell the KV cache's size
    capacity_info: str | None = None
    #: labels of ranks that work on the same requests and repeat each other's numbers: the lowest rank counts
    ranks: tuple[str, ...] = ()
    #: a label by which each gauge is split besides its total, which has an empty value there
    split_by: str | None = None

    @property
    def names(self) -> frozenset[str]:
        """All metrics that are read."""
        info = () if self.capacity_info is None else (self.capacity_info,)
        return frozenset((*self.running, *self.waiting, *self.kv_ratio, *self.capacity_tokens, *info))


@dataclass(frozen=True, slots=True)
class Traits:
    #: what it is, for people
    title: str
    #: answers cheaply and does no inference
    probe_path: str
    #: what its list of models says owns them; None: that tells nothing about the engine
    owner: str | None = None
    #: None: the engine has no metrics page
    load: LoadMetrics | None = None
    #: a stream of several choices has one usage for each choice, and they add up
    sums_usage: bool = False
    #: streams take ``stream_options``; None: the first answer tells
    takes_usage_option: bool | None = True
    #: what it is believed to be able to do until a probe of the live engine tells: a safe belief, see ADR 23
    continues: Continues = Continues.NO
    #: how whole answers are put together from streams. None: the streams lack a part, or nobody knows. Those of SGLang
    #: lack the versions of its weights.
    assembled: Assembled | None = None
    #: continues a last message of the assistant by default, where others begin a new turn
    prefills: bool = False
    #: takes POST /sleep and /wake_up, if it was started so
    sleeps: bool = False
    #: tokens of a completion whose request names no limit; None: as many as there is room for
    completion_tokens: int | None = None


TRAITS: dict[str, Traits] = {
    "vllm": Traits(
        "vLLM",
        probe_path="/health",
        owner="vllm",
        load=LoadMetrics(
            running=("vllm:num_requests_running",),
            waiting=("vllm:num_requests_waiting",),
            kv_ratio=("vllm:kv_cache_usage_perc", "vllm:gpu_cache_usage_perc"),
            capacity_info="vllm:cache_config_info",
        ),
        continues=Continues.IDS,
        assembled=VLLM,
        sleeps=True,
        completion_tokens=16,
    ),
    "sglang": Traits(
        "SGLang",
        # /health generates a token: it takes a second and a place, and hangs with the scheduler.
        probe_path="/v1/models",
        owner="sglang",
        load=LoadMetrics(
            running=("sglang:num_running_reqs",),
            waiting=("sglang:num_queue_reqs",),
            kv_ratio=("sglang:token_usage", "sglang:full_token_usage"),
            capacity_tokens=("sglang:max_total_num_tokens",),
            # A data-parallel rank (dp_rank) has requests of its own. With attention computed data-parallel, dp_rank 3
            # may begin at tp_rank 3.
            ranks=("pp_rank", "tp_rank", "moe_ep_rank"),
            split_by="priority",
        ),
        continues=Continues.TEXT,
        completion_tokens=16,
    ),
    "tgi": Traits(
        "Text Generation Inference",
        probe_path="/health",
        load=LoadMetrics(
            running=("tgi_batch_current_size",),
            waiting=("tgi_queue_size",),
            capacity_tokens=("tgi_batch_current_max_tokens",),
        ),
    ),
    "llamacpp": Traits(
        "llama.cpp",
        probe_path="/health",
        owner="llamacpp",
        load=LoadMetrics(
            running=("llamacpp:requests_processing",),
            waiting=("llamacpp:requests_deferred",),
            kv_ratio=("llamacpp:kv_cache_usage_ratio",),
        ),
        sums_usage=True,
        continues=Continues.TEXT,
        assembled=LLAMACPP,
        prefills=True,
    ),
    "openai": Traits("anything else with OpenAI's API", probe_path="/v1/models", takes_usage_option=None),
    "router": Traits("another router of ours, one hop away", probe_path="/readyz", owner="meridian"),
}

#: the names that ``engine`` may have in regions.toml
ENGINES = tuple(TRAITS)
