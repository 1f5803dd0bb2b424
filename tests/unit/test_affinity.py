"""Prefix blocks, the index of them, and the place a key belongs to."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from zlib import crc32

from hypothesis import given
from hypothesis import strategies as st

from router.core.affinity import PrefixIndex, place_seed, prefix_blocks, rendezvous
from router.core.params import Params
from tests.support.effort import examples

PARAMS = Params(prefix_blocks_min=4)


class TestBlocks:
    def test_only_whole_blocks_count(self) -> None:
        assert prefix_blocks(b"", block_bytes=4, limit=10) == ()
        assert prefix_blocks(b"abc", block_bytes=4, limit=10) == ()
        assert len(prefix_blocks(b"abcd", block_bytes=4, limit=10)) == 1
        assert prefix_blocks(b"abcdefg", block_bytes=4, limit=10) == prefix_blocks(b"abcd", block_bytes=4, limit=10)

    def test_all_routers_come_to_the_same_hashes(self) -> None:
        assert prefix_blocks(b"abcdefgh", block_bytes=4, limit=10) == (1403558032, 179611608)

    @given(st.integers(0, 1279))
    def test_each_hash_is_that_of_the_whole_beginning(self, changed: int) -> None:
        raw = bytes(range(256)) * 5
        blocks = prefix_blocks(raw, block_bytes=100, limit=64)
        other = prefix_blocks(
            raw[:changed] + bytes((raw[changed] ^ 1,)) + raw[changed + 1 :], block_bytes=100, limit=64
        )
        assert len(blocks) == 12
        assert blocks[: changed // 100] == other[: changed // 100]
        assert all(a != b for a, b in zip(blocks[changed // 100 :], other[changed // 100 :], strict=True))

    def test_the_limit_bounds_the_work(self) -> None:
        raw = b"x" * 10_000
        assert prefix_blocks(raw, block_bytes=10, limit=7) == prefix_blocks(raw[:70], block_bytes=10, limit=1000)

    def test_a_memoryview_is_as_good(self) -> None:
        raw = b"0123456789" * 10
        assert prefix_blocks(memoryview(raw), block_bytes=8, limit=99) == prefix_blocks(raw, block_bytes=8, limit=99)

    @given(st.binary(max_size=200), st.binary(max_size=100), st.binary(max_size=100), st.integers(1, 16))
    def test_equal_beginnings_have_equal_blocks(self, common: bytes, a: bytes, b: bytes, size: int) -> None:
        of_a = prefix_blocks(common + a, block_bytes=size, limit=1000)
        of_b = prefix_blocks(common + b, block_bytes=size, limit=1000)
        shared = len(common) // size
        assert of_a[:shared] == of_b[:shared]
        assert len(of_a) == (len(common) + len(a)) // size


class TestIndex:
    def test_the_match_is_the_longest_known_beginning(self) -> None:
        index = PrefixIndex(PARAMS)
        index.insert((1, 2, 3, 4))
        assert index.match(()) == 0
        assert index.match((9,)) == 0
        assert index.match((1,)) == 1
        assert index.match((1, 2, 3, 4)) == 4
        assert index.match((1, 2, 3, 4, 5, 6)) == 4
        assert index.match((1, 2, 8, 9)) == 2

    def test_what_is_used_is_kept_and_the_rest_forgotten(self) -> None:
        index = PrefixIndex(PARAMS)
        index.resize(100)
        index.insert((1, 2, 3))
        for i in range(1000, 2000):
            index.insert((i,))
            if i % 10 == 0:
                index.insert((1, 2, 3))
        assert index.match((1, 2, 3)) == 3
        assert index.match((1000,)) == 0
        assert index.match((1999,)) == 1

    @given(
        st.lists(st.binary(min_size=1, max_size=12), max_size=60),
        st.integers(4, 40),
        st.binary(min_size=1, max_size=12),
    )
    @examples(3)
    def test_bisection_finds_what_a_scan_finds_in_bounded_memory(
        self, prompts: list[bytes], capacity: int, probe: bytes
    ) -> None:
        def chain(words: bytes) -> tuple[int, ...]:
            few = bytes(word % 4 for word in words)  # so that beginnings are shared
            return prefix_blocks(few, block_bytes=1, limit=99)

        index = PrefixIndex(PARAMS)
        index.resize(capacity)
        longest = 0
        for words in prompts:
            index.insert(chain(words))
            longest = max(longest, len(words))
            assert len(index) <= 1.5 * index.capacity_blocks + 2 * longest
            assert index.match(chain(words)) == len(words)
        blocks = chain(probe)
        scan = next((i for i, block in enumerate(blocks) if block not in index.known), len(blocks))
        assert index.match(blocks) == scan

    @given(st.lists(st.integers(1, 30), max_size=300), st.integers(16, 40))
    @examples(3)
    def test_what_was_used_longest_ago_goes_first(self, used: list[int], capacity: int) -> None:
        """Beside a list in exact order: as many as the backend can hold are known, and of the others only the next."""
        longest = 4
        index = PrefixIndex(replace(PARAMS, prefix_blocks_min=1))
        index.resize(capacity)
        order: dict[int, None] = {}
        for name in used:
            blocks = tuple(name * 10 + i for i in range(1 + name % longest))
            index.insert(blocks)
            for block in reversed(blocks):
                order.pop(block, None)
                order[block] = None
        latest = list(reversed(order))
        assert index.known.keys() >= set(latest[: capacity - longest])
        assert index.known.keys().isdisjoint(latest[capacity * 3 // 2 + 2 * longest :])

    def test_what_is_new_to_the_young_generation_is_told_once(self) -> None:
        index = PrefixIndex(replace(PARAMS, prefix_blocks_min=16))
        index.resize(16)
        assert tuple(index.insert((1, 2, 3))) == (1, 2, 3)
        assert tuple(index.insert((1, 2, 3))) == ()
        assert tuple(index.insert(())) == ()
        assert tuple(index.insert((1, 2, 8))) == (8,)
        assert tuple(index.insert((1, 2, 9))) == (1, 2, 9), "a new generation began"
        assert index.match((1, 2, 3)) == 3, "the old one is still known"

    def test_what_is_known_is_one_dict_for_life(self) -> None:
        """A line-up keeps it: one that was exchanged would be what was known once."""
        index = PrefixIndex(replace(PARAMS, prefix_blocks_min=4))
        index.resize(4)
        known = index.known
        for i in range(20):
            index.insert((i,))
        assert known.keys() == set(range(14, 20)), "a half more than the backend can hold at most"
        index.clear()
        assert not known
        index.insert((1,))
        assert known.keys() == {1}

    def test_the_capacity_has_bounds(self) -> None:
        index = PrefixIndex(PARAMS)
        index.resize(1e12)
        assert index.capacity_blocks == PARAMS.prefix_blocks_max
        index.resize(0.0)
        assert index.capacity_blocks == PARAMS.prefix_blocks_min

    def test_trust_follows_what_the_engine_reports(self) -> None:
        index = PrefixIndex(PARAMS)
        index.confirm(1000.0, 1000.0)
        assert index.trust == 1.0
        for _ in range(100):
            index.confirm(1000.0, 250.0)
        assert 0.24 < index.trust < 0.26
        for _ in range(100):
            index.confirm(1000.0, 0.0)
        assert index.trust == PARAMS.prefix_trust_min
        for _ in range(100):
            index.confirm(1000.0, 5000.0)
        assert index.trust > 0.99

    def test_clear(self) -> None:
        index = PrefixIndex(PARAMS)
        index.insert((1, 2))
        index.clear()
        assert (len(index), index.match((1, 2))) == (0, 0)


class TestRendezvous:
    SEEDS = tuple(place_seed(name) for name in ("us-east/a", "us-east/b", "us-west/a", "eu-west/a", "ap-east/a"))

    def test_keys_are_spread_evenly(self) -> None:
        counts = Counter(rendezvous(crc32(b"user-%d" % i), self.SEEDS) for i in range(5000))
        assert set(counts) == set(range(5))
        assert max(counts.values()) < 1.15 * min(counts.values())

    def test_only_the_keys_of_a_lost_place_move(self) -> None:
        left = self.SEEDS[:2] + self.SEEDS[3:]
        for i in range(500):
            before = self.SEEDS[rendezvous(i, self.SEEDS)]
            after = left[rendezvous(i, left)]
            assert after == before or before == self.SEEDS[2]

    def test_the_order_of_places_does_not_matter(self) -> None:
        for i in range(100):
            assert rendezvous(i, self.SEEDS) == 4 - rendezvous(i, self.SEEDS[::-1])
