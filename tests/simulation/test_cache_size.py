"""The size of a KV cache, by what was found in it."""

from __future__ import annotations

from sim.cache_size import fitted_kv_tokens, least_kv_tokens
from sim.kv import KvCache
from sim.recording import Served

BLOCK = 64


def answers(kv_tokens: int, sessions: int = 60, turns: int = 4) -> list[Served]:
    """Conversations in turn, each prompt 2048 tokens, at an engine with such a cache."""
    cache = KvCache(kv_tokens // BLOCK)
    out = []
    for turn in range(turns):
        for session in range(sessions):
            blocks = tuple(session * 1000 + i for i in range(32))
            hits = cache.hits(blocks, 31)
            holding = cache.acquire(blocks, hits, 33)
            assert holding is not None
            cache.commit(holding, blocks[hits:])
            cache.release(holding)
            at_s = float(turn * sessions + session)
            out.append(Served("us-east/a", "m", at_s, at_s + 0.1, at_s + 0.5, 0.0, 2048, hits * BLOCK, 60, blocks))
    return out


def test_the_size_is_found_within_its_power_of_two() -> None:
    full, half = answers(1 << 18), answers(1 << 16)
    assert sum(s.cached_tokens for s in half) < sum(s.cached_tokens for s in full)
    # All of 60 conversations fit into the larger one: nobody can tell that it is not larger.
    assert fitted_kv_tokens(full, BLOCK) is None
    found = fitted_kv_tokens(mixed(1 << 16), BLOCK)
    assert found is not None
    assert 1 << 15 <= found <= 1 << 17


def mixed(kv_tokens: int) -> list[Served]:
    """Some conversations come back soon, others late: a cache of each size finds another share."""
    cache = KvCache(kv_tokens // BLOCK)
    out = []
    order = [
        s for round_ in range(6) for s in (*range(8), *range(8), *range(8 + 12 * round_, 20 + 12 * round_), *range(40))
    ]
    for number, session in enumerate(order):
        blocks = tuple(session * 1000 + i for i in range(32))
        hits = cache.hits(blocks, 31)
        holding = cache.acquire(blocks, hits, 33)
        assert holding is not None
        cache.commit(holding, blocks[hits:])
        cache.release(holding)
        at_s = float(number)
        out.append(Served("us-east/a", "m", at_s, at_s + 0.1, at_s + 0.5, 0.0, 2048, hits * BLOCK, 60, blocks))
    return out


def test_without_hits_nothing_is_told() -> None:
    cold = answers(1 << 14, turns=1)
    assert fitted_kv_tokens(cold, BLOCK) is None


def test_what_was_there_at_once_must_fit() -> None:
    one = Served("us-east/a", "m", 0.0, 0.5, 2.0, 0.0, 1000, 0, 24)
    two = Served("us-east/a", "m", 1.0, 1.5, 3.0, 0.0, 500, 0, 76)
    later = Served("us-east/a", "m", 2.5, 2.6, 4.0, 0.0, 100, 0, 1)
    assert least_kv_tokens([one, two, later]) == 1600
