"""Which backend has already computed the beginning of a prompt.

A prompt is cut into blocks of equal size; each block's hash is that of everything up to its end, so one equal hash
means the whole beginning is equal. Engines cache in the same way (vLLM's hash blocks, SGLang's radix tree), so the
blocks we sent to a backend tell what its KV cache holds, until it evicts them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Mapping, Sequence
from functools import lru_cache
from itertools import accumulate, count
from operator import xor
from zlib import crc32

from xxhash import xxh3_64_intdigest

from router.core.params import Params
from router.core.types import Request

_LOW_BITS = 0xFFFFFFFF


def prefix_blocks(raw: bytes | memoryview, *, block_bytes: int, limit: int) -> tuple[int, ...]:
    """One hash for each of the first ``limit`` whole blocks of ``raw``, of everything up to its end. A last, incomplete
    block does not count.

    XXH3 of each block with its place as the seed, joined by XOR and cut to 32 bits: all routers come to the same
    hashes, and a collision costs one misjudged cache hit.
    """
    whole = min(len(raw) // block_bytes, limit)
    if not whole:
        return ()
    blocks = map(memoryview(raw).__getitem__, _slices(block_bytes, limit)[:whole])
    digests = map(xxh3_64_intdigest, blocks, count())  # a block hashes differently in another place
    return tuple(map(_LOW_BITS.__and__, accumulate(digests, xor)))


@lru_cache(8)
def _slices(block_bytes: int, count: int) -> tuple[slice, ...]:
    return tuple(slice(i * block_bytes, (i + 1) * block_bytes) for i in range(count))


class PrefixIndex:
    """The blocks one backend has been sent lately, the least recently used forgotten first.

    Each block is known with the generation of its latest use. A generation ends when it has seen a quarter of what the
    backend can hold. When a quarter more is known than that, the blocks of the oldest generation are forgotten, except
    those that were used since. So they go in the order of their use, to within a quarter, and no list is kept in order.
    Rather too much than too little: a block that is still there and forgotten here moves its conversation to another
    backend, for which both pay; one that is gone there and remembered here costs one misjudged wait, and ``trust``
    learns from it.

    Because a request uses all its blocks at once, a block is never remembered longer than the blocks before it; so a
    match can be found by bisection. News from other routers may break that: then a match may be misjudged.
    """

    __slots__ = (
        "_generation",
        "_generation_ratio",
        "_kept_factor",
        "_max",
        "_min",
        "_trust_min",
        "_trust_weight",
        "_used",
        "_young_blocks",
        "capacity_blocks",
        "known",
        "trust",
    )

    def __init__(self, params: Params) -> None:
        self._min, self._max = params.prefix_blocks_min, params.prefix_blocks_max
        self._generation_ratio, self._kept_factor = params.prefix_generation_ratio, params.prefix_kept_factor
        self._trust_weight, self._trust_min = params.prefix_trust_weight, params.prefix_trust_min
        #: what the backend's KV cache holds
        self.capacity_blocks = params.prefix_blocks_default
        #: the generation of every remembered block; the same dict as long as the index lives
        self.known: dict[int, int] = {}
        self._generation = 0
        #: how many blocks the latest generation has seen, and what each has, the oldest first
        self._young_blocks = 0
        self._used: deque[list[Sequence[int]]] = deque([[]])
        #: tokens that were really cached per token we thought were: 1 until an engine says otherwise
        self.trust = 1.0

    def __len__(self) -> int:
        return len(self.known)

    def match(self, blocks: Sequence[int]) -> int:
        """How many blocks from the start are known."""
        # Seen from the end, those that are not known come first.
        return len(blocks) - bisect_left(blocks[::-1], True, key=self.known.__contains__)

    def cached_tokens(self, request: Request) -> float:
        """Tokens of its prompt that the backend has probably computed already."""
        matched = self.match(request.prefix_blocks)
        return min(matched * request.tokens_per_block * self.trust, float(request.prompt_tokens))

    def insert(self, blocks: Sequence[int], about: int = 0) -> Sequence[int]:
        """The backend is about to compute these, or has them. Returns those that the latest generation had not seen.

        ``about``: how many of them it probably had; a good guess saves the search.
        """
        known, young = self.known, self._generation
        if not blocks or known.get(blocks[-1], -1) == young:
            return ()
        if self._young_blocks >= self.capacity_blocks * self._generation_ratio:
            self._begin_generation()
            young, about = self._generation, 0
        elif not (
            0 < about < len(blocks) and known.get(blocks[about - 1], -1) == young != known.get(blocks[about], -1)
        ):
            about = _leading(known, blocks, young)
        fresh = blocks[about:]
        known.update(dict.fromkeys(fresh, young))
        self._young_blocks += len(fresh)
        self._used[-1].append(fresh)
        return fresh

    def discard(self, blocks: Sequence[int]) -> None:
        """These were not computed after all."""
        for block in blocks:
            self.known.pop(block, None)

    def _begin_generation(self) -> None:
        known, used = self.known, self._used
        self._generation += 1
        self._young_blocks = 0
        used.append([])
        while len(known) > self.capacity_blocks * self._kept_factor:
            oldest = self._generation - len(used) + 1
            for blocks in used.popleft():
                for block in [b for b in blocks if known.get(b) == oldest]:
                    del known[block]

    def confirm(self, expected_tokens: float, cached_tokens: float) -> None:
        """The engine reported how much of a prompt it had cached, where we expected ``expected_tokens``."""
        if expected_tokens <= 0:
            return
        hit = min(cached_tokens / expected_tokens, 1.0)
        self.trust = max(self.trust + self._trust_weight * (hit - self.trust), self._trust_min)

    def resize(self, capacity_blocks: float) -> None:
        self.capacity_blocks = int(min(max(capacity_blocks, self._min), self._max))

    def clear(self) -> None:
        """The engine was restarted: its cache is empty."""
        self.known.clear()
        self._young_blocks = 0
        self._used = deque([[]])


def _leading(known: Mapping[int, int], blocks: Sequence[int], since: int) -> int:
    """How many leading ``blocks`` were used in generation ``since`` or later, by bisection."""
    return len(blocks) - bisect_left(blocks[::-1], since, key=lambda block: known.get(block, -1))


def place_seed(name: str) -> int:
    """What ``rendezvous`` needs of a place: the same number in every router."""
    return _mix(crc32(name.encode()))


def rendezvous(key: int, seeds: Sequence[int]) -> int:
    """The index of the place that a 32-bit key belongs to, by highest random weight.

    Every router that knows the same places comes to the same answer, and when a place is lost, only its keys move.
    Source: Thaler and Ravishankar, Using name-based mappings to increase hit rates (1998).
    """
    # _mix without the calls, and without its first step: the seeds are mixed already.
    weights = [
        (((x := (key ^ seed) * 0x85EBCA6B & 0xFFFFFFFF) ^ x >> 13) * 0xC2B2AE35 & 0xFFFFFFFF) >> 8 for seed in seeds
    ]
    return weights.index(max(weights))


def _mix(value: int) -> int:
    """Spread 32 bits over 32 (the finaliser of MurmurHash3): CRC alone is linear and would correlate the weights."""
    value ^= value >> 16
    value = value * 0x85EBCA6B & 0xFFFFFFFF
    value ^= value >> 13
    value = value * 0xC2B2AE35 & 0xFFFFFFFF
    return value ^ value >> 16
