"""How large the KV cache of an engine must be: by the prompt tokens that it said it found there."""

from __future__ import annotations

from collections.abc import Sequence
from heapq import heappop, heappush
from math import ceil

from sim.kv import KvCache
from sim.recording import Served

_SIZES = tuple(1 << power for power in range(12, 23))  # 4 thousand to 4 million tokens
#: sizes that explain the hits about as well as the best are equal: the largest of them is taken
_EQUAL = 0.02


def least_kv_tokens(served: Sequence[Served]) -> int:
    """The most tokens that were there at the same time."""
    ends: list[tuple[float, int]] = []
    held = most = 0
    for one in served:
        while ends and ends[0][0] <= one.sent_s:
            held -= heappop(ends)[1]
        tokens = one.prompt_tokens + one.output_tokens
        held += tokens
        heappush(ends, (one.ended_s, tokens))
        most = max(most, held)
    return most


def fitted_kv_tokens(served: Sequence[Served], block_tokens: int) -> int | None:
    """The size with which a cache that forgets the oldest finds as many tokens of these prompts as were found. None:
    they do not tell, because nothing was found, or nothing was ever forgotten."""
    found = sum(one.cached_tokens for one in served)
    if not found or not any(one.blocks for one in served):
        return None
    hits = {size: _hits(served, size, block_tokens) for size in _SIZES if size >= least_kv_tokens(served)}
    if not hits or max(hits.values()) == min(hits.values()):
        return None
    off = {size: abs(tokens - found) / found for size, tokens in hits.items()}
    best = min(off.values())
    fitting = [size for size, error in off.items() if error <= best + _EQUAL]
    return None if fitting[-1] == _SIZES[-1] else fitting[-1]


def _hits(served: Sequence[Served], size: int, block_tokens: int) -> int:
    cache = KvCache(max(1, size // block_tokens))
    hits = 0
    for one in served:
        blocks = one.blocks[: one.prompt_tokens // block_tokens]
        known = cache.hits(blocks, max(0, one.prompt_tokens - 1) // block_tokens)
        holding = cache.acquire(blocks, known, ceil((one.prompt_tokens + one.output_tokens) / block_tokens))
        if holding is not None:
            hits += known * block_tokens
            cache.commit(holding, blocks[known:])
            cache.release(holding)
    return hits
