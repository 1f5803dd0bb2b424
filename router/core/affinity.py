"""Which backend has already computed the beginning of a prompt.

A prompt is cut into blocks of equal size; each block's hash continues the one before it, so one equal hash means the
whole beginning is equal. Engines cache in the same way (vLLM's hash blocks, SGLang's radix tree), so the blocks we sent
to a backend tell what its KV cache holds, until it evicts them.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from functools import lru_cache
from zlib import crc32

from xxhash import xxh3_64_intdigest

from router.core.params import Params


def prefix_blocks(raw: bytes | memoryview, *, block_bytes: int, limit: int) -> tuple[int, ...]:
    """The chained hashes of the first ``limit`` whole blocks of ``raw``. A last, incomplete block does not count.

    XXH3 cut to 32 bits: all routers come to the same hashes, and a collision costs one misjudged cache hit.
    """
    whole = min(len(raw) // block_bytes, limit)
    if not whole:
        return ()
    before = 0
    blocks = map(memoryview(raw).__getitem__, _slices(block_bytes, limit)[:whole])
    return tuple([before := xxh3_64_intdigest(block, before) & 0xFFFFFFFF for block in blocks])


@lru_cache(8)
def _slices(block_bytes: int, count: int) -> tuple[slice, ...]:
    return tuple(slice(i * block_bytes, (i + 1) * block_bytes) for i in range(count))


class PrefixIndex:
    """The blocks one backend has been sent lately, the least recently used forgotten first.

    Blocks are kept in generations: new and touched ones enter the youngest, and that is closed when it holds a quarter
    of what the backend can. When a quarter more is known than the backend can hold, the oldest generation is forgotten,
    but for what was touched since. So they go in the order of their use, to within a quarter, at the price of a set
    update and without a list to keep in order. Rather too much than too little: a block that is still there and
    forgotten here moves its conversation to another backend, for which both pay; one that is gone there and remembered
    here costs one misjudged wait, and ``trust`` learns from it.

    Because a request touches all its blocks at once, a block is never remembered longer than the blocks before it; so a
    match can be found by bisection. What other routers tell may break that: then a match may be misjudged.
    """

    __slots__ = (
        "_generation_ratio",
        "_generations",
        "_kept_ratio",
        "_max",
        "_min",
        "_trust_min",
        "_trust_weight",
        "_young",
        "capacity_blocks",
        "known",
        "trust",
    )

    def __init__(self, params: Params) -> None:
        self._min, self._max = params.prefix_blocks_min, params.prefix_blocks_max
        self._generation_ratio, self._kept_ratio = params.prefix_generation_ratio, params.prefix_kept_ratio
        self._trust_weight, self._trust_min = params.prefix_trust_weight, params.prefix_trust_min
        #: what the backend's KV cache holds
        self.capacity_blocks = params.prefix_blocks_default
        #: every remembered block, of all generations; the same set as long as the index lives
        self.known: set[int] = set()
        self._young: set[int] = set()
        #: all of them, the oldest first
        self._generations = deque([self._young])
        #: tokens that were really cached per token we thought were: 1 until an engine says otherwise
        self.trust = 1.0

    def __len__(self) -> int:
        return len(self.known)

    def match(self, blocks: Sequence[int]) -> int:
        """How many blocks from the start are known."""
        return _leading(self.known, blocks)

    def insert(self, blocks: Sequence[int], about: int = 0) -> Sequence[int]:
        """The backend is about to compute these, or has them. Returns those that were not in the youngest generation.

        ``about``: how many of them were probably touched lately; a good guess saves the search.
        """
        young = self._young
        if blocks and blocks[-1] in young:
            return ()
        if len(young) >= self.capacity_blocks * self._generation_ratio:
            young = self._young = set()
            self._generations.append(young)
            self._forget()
        if not (0 < about < len(blocks) and blocks[about - 1] in young and blocks[about] not in young):
            about = _leading(young, blocks)
        fresh = blocks[about:]
        young.update(fresh)
        self.known.update(fresh)
        return fresh

    def _forget(self) -> None:
        generations = self._generations
        while len(self.known) > self.capacity_blocks * self._kept_ratio:
            self.known.difference_update(generations.popleft().difference(*generations))

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
        self._young = set()
        self._generations = deque([self._young])


def _leading(known: set[int], blocks: Sequence[int]) -> int:
    """How many leading ``blocks`` are in ``known``, by bisection."""
    if not blocks or blocks[0] not in known:
        return 0
    if blocks[-1] in known:
        return len(blocks)
    first_known, first_unknown = 0, len(blocks) - 1
    while first_unknown - first_known > 1:
        middle = (first_known + first_unknown) // 2
        if blocks[middle] in known:
            first_known = middle
        else:
            first_unknown = middle
    return first_known + 1


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
