"""The real-time comparison asks for what the trace says: as many tokens, and the same ones where prefixes are shared."""

from __future__ import annotations

from bench.routing.live import prompt_of, workload
from sim.text import tokenizer


def test_prompts_are_as_long_and_as_alike_as_the_trace_says() -> None:
    trace = workload(5.0, 8.0, 1).at(8.0)
    prompts = [prompt_of(a, trace.block_tokens) for a in trace.arrivals]
    tokens = [tokenizer().encode(prompt.encode()) for prompt in prompts]
    for arrival, known in zip(trace.arrivals, tokens, strict=True):
        assert abs(len(known) - arrival.prompt_tokens) <= 1
    pairs = 0
    for i, first in enumerate(trace.arrivals):
        for j, second in enumerate(trace.arrivals[:i]):
            same = 0
            while same < min(len(first.blocks), len(second.blocks)) and first.blocks[same] == second.blocks[same]:
                same += 1
            size = same * trace.block_tokens
            assert tokens[i][:size] == tokens[j][:size]
            longer = size + trace.block_tokens
            if same < min(len(first.blocks), len(second.blocks)):
                assert tokens[i][:longer] != tokens[j][:longer]
            pairs += same > 0
    assert pairs, "nothing is shared"
