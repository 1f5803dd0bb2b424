"""What each engine's page says about its load."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from router.core.traits import TRAITS, LoadMetrics
from router.core.types import LoadSample
from router.observe.engines import LoadReader, knows_load, read_load
from router.observe.prober import model_names

DATA = Path(__file__).parent.parent / "data" / "engines"


def page(engine: str, name: str) -> bytes:
    return (DATA / engine / f"metrics_{name}.txt").read_bytes()


def load(engine: str, name: str) -> LoadSample:
    return read_load(metrics_of(engine), page(engine, name), 7.0)


def metrics_of(engine: str) -> LoadMetrics:
    metrics = TRAITS[engine].load
    assert metrics is not None
    return metrics


def test_no_probe_makes_an_engine_generate() -> None:
    assert TRAITS["sglang"].probe_path != "/health", "it generates a token"


REAL = {
    ("vllm", "under_load"): LoadSample(7.0, 4, 3, 0.06299212598425197, 16384),
    ("vllm", "idle"): LoadSample(7.0, 0, 0, 0, 16384),
    ("sglang", "under_load"): LoadSample(7.0, 1, 0, 0.02, 16384),
    ("sglang", "after_load"): LoadSample(7.0, 0, 0, 0, 16384),
    ("llamacpp", "under_load"): LoadSample(7.0, 2, 4, None, None),
    ("llamacpp", "after_load"): LoadSample(7.0, 0, 0, None, None),
}


@pytest.mark.parametrize(("engine", "name"), REAL, ids=lambda v: v)
def test_real_pages(engine: str, name: str) -> None:
    found = load(engine, name)
    for field in LoadSample.__slots__:
        assert getattr(found, field) == pytest.approx(getattr(REAL[engine, name], field)), field


def test_absent_is_unknown_not_zero() -> None:
    for metrics in (traits.load for traits in TRAITS.values() if traits.load is not None):
        found = read_load(metrics, b"process_cpu_seconds_total 3\n", 7.0)
        assert found == LoadSample(7.0)
        assert not knows_load(found)


def test_old_names_are_known() -> None:
    old = b"vllm:num_requests_running 1\nvllm:gpu_cache_usage_perc 0.5\n"
    assert read_load(metrics_of("vllm"), old, 0) == LoadSample(0, running=1, kv_ratio=0.5)
    both = old + b"vllm:kv_cache_usage_perc 0.75\n"
    assert read_load(metrics_of("vllm"), both, 0).kv_ratio == 0.75, "the new name wins"
    older_llama = b"llamacpp:kv_cache_usage_ratio 0.5\n"
    assert read_load(metrics_of("llamacpp"), older_llama, 0).kv_ratio == 0.5


def test_data_parallel_engines_add_up() -> None:
    text = b"""
vllm:num_requests_running{engine="0",model_name="m"} 3
vllm:num_requests_running{engine="1",model_name="m"} 4
vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.25
vllm:kv_cache_usage_perc{engine="1",model_name="m"} 0.75
vllm:cache_config_info{engine="0",block_size="16",num_gpu_blocks="1000"} 1
vllm:cache_config_info{engine="1",block_size="16",num_gpu_blocks="1000"} 1
"""
    found = read_load(metrics_of("vllm"), text, 0)
    assert found == LoadSample(0, running=7, kv_ratio=0.5, kv_capacity_tokens=32000)


def test_sglang_counts_each_request_once() -> None:
    text = b"""
sglang:num_running_reqs{priority="",tp_rank="0",dp_rank="0"} 5
sglang:num_running_reqs{priority="1",tp_rank="0",dp_rank="0"} 2
sglang:num_running_reqs{priority="9",tp_rank="0",dp_rank="0"} 3
sglang:num_running_reqs{priority="",tp_rank="1",dp_rank="0"} 5
sglang:num_running_reqs{priority="",tp_rank="0",dp_rank="1"} 1
"""
    assert read_load(metrics_of("sglang"), text, 0).running == 6
    without_priorities = b'sglang:num_running_reqs{model_name="m"} 5\n'
    assert read_load(metrics_of("sglang"), without_priorities, 0).running == 5


def dp_attention(dp: int, tp_each: int, pp: int = 1) -> bytes:
    """Every rank tells: ``dp`` groups of ``tp_each`` tensor-parallel ranks, group i runs i + 1 requests."""
    lines = []
    for group in range(dp):
        for tp in range(group * tp_each, (group + 1) * tp_each):
            for stage in range(pp):
                ranks = f'dp_rank="{group}",model_name="m",moe_ep_rank="{tp}",pp_rank="{stage}",tp_rank="{tp}"'
                lines.append(f"sglang:num_running_reqs{{{ranks}}} {group + 1}")
                lines.append(f"sglang:token_usage{{{ranks}}} {0.1 * (group + 1)}")
    return "\n".join(reversed(lines)).encode()


@pytest.mark.parametrize(
    ("dp", "tp_each", "pp"), [(4, 1, 1), (2, 2, 1), (1, 8, 1), (3, 4, 2), (12, 1, 1)], ids=lambda v: str(v)
)
def test_sglang_with_attention_computed_data_parallel(dp: int, tp_each: int, pp: int) -> None:
    found = read_load(metrics_of("sglang"), dp_attention(dp, tp_each, pp), 0)
    assert found.running == dp * (dp + 1) / 2
    if dp < 10:
        assert found.kv_ratio == pytest.approx(0.1 * (dp + 1) / 2)


def test_a_page_of_many_engines_is_read_whatever_its_length() -> None:
    """vLLM with 32 data-parallel engines: 1 MB, of which a few lines are kept."""
    reader, one = LoadReader(metrics_of("vllm")), page("vllm", "under_load")
    for engine in range(128):
        reader.feed(one.replace(b'engine="0"', b'engine="%d"' % engine))
    found = reader.sample(7.0)
    assert (found.running, found.waiting, found.kv_capacity_tokens) == (4 * 128, 3 * 128, 16384 * 128)


def test_tgi() -> None:
    text = b"tgi_batch_current_size 4\ntgi_queue_size 2\n"
    expected = LoadSample(0, running=4, waiting=2)
    assert read_load(metrics_of("tgi"), text, 0) == expected


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"vllm:num_requests_running -5\n", LoadSample(0)),
        (b"vllm:kv_cache_usage_perc 70\n", LoadSample(0)),
        (b"vllm:kv_cache_usage_perc -1\n", LoadSample(0)),
        (b'vllm:cache_config_info{block_size="None",num_gpu_blocks="None"} 1\n', LoadSample(0)),
        (b"\x00\xff" * 100, LoadSample(0)),
    ],
)
def test_nonsense_is_unknown(text: bytes, expected: LoadSample) -> None:
    assert read_load(metrics_of("vllm"), text, 0) == expected


def test_a_page_of_another_engine_tells_nothing() -> None:
    found = read_load(metrics_of("sglang"), page("vllm", "under_load"), 7.0)
    assert found == replace(LoadSample(7.0))


def test_models_of_real_engines() -> None:
    assert model_names((DATA / "vllm" / "models.json").read_bytes()) == ("tiny", "tiny-alias")
    assert model_names((DATA / "sglang" / "models.json").read_bytes()) == ("tiny",)
    assert model_names((DATA / "llamacpp" / "models.json").read_bytes()) == ("tiny",)


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b"", ()),
        (b"null", ()),
        (b"[]", ()),
        (b'{"data": {}}', ()),
        (b'{"data": [1, {}, {"id": 5}, {"id": ""}, {"id": "a\\nb"}, {"id": "ok"}, {"id": "ok"}]}', ("ok",)),
        (b'{"error": {"message": "Loading model", "code": 503}}', ()),
        (b"[" * 100_000, ()),
    ],
)
def test_lists_that_are_none(body: bytes, expected: tuple[str, ...]) -> None:
    assert model_names(body) == expected
