"""The KV cache of one engine: fixed-size blocks, shared by prefix, the unused ones forgotten oldest first."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(slots=True)
class Holding:
    """The blocks one request has. ``shared`` are known by their hash, ``private`` by number only."""

    shared: list[int] = field(default_factory=list)
    private: int = 0


class KvCache:
    """``capacity`` blocks. A block is free, private to a request, or known by the hash of all tokens up to its end.

    Known blocks that nobody holds stay, least recently used first to go, until their space is needed: the rules of
    vLLM's automatic prefix caching.
    """

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self._free = capacity
        self._holders: dict[int, int] = {}
        self._idle: dict[int, None] = {}  # in order of last use, oldest first

    @property
    def available(self) -> int:
        """Blocks that a new request could get, forgetting what nobody holds."""
        return self._free + len(self._idle)

    @property
    def known(self) -> int:
        """Blocks that a prompt could find."""
        return len(self._holders) + len(self._idle)

    def hits(self, blocks: Sequence[int], limit: int) -> int:
        """How many leading ``blocks``, at most ``limit``, are here."""
        count = 0
        for block in blocks[:limit]:
            if block not in self._holders and block not in self._idle:
                break
            count += 1
        return count

    def acquire(self, blocks: Sequence[int], hits: int, total: int) -> Holding | None:
        """Take ``total`` blocks, of which the first ``hits`` are found by hash. None: there are not enough."""
        found = list(blocks[:hits])
        idle = self._idle
        needed = total - hits
        if needed > self._free + len(idle) - sum(1 for b in found if b in idle):
            return None
        for block in found:
            if block in idle:
                del idle[block]
                self._holders[block] = 1
            else:
                self._holders[block] += 1
        self._take(needed)
        return Holding(found, needed)

    def _take(self, count: int) -> None:
        evicted = count - self._free
        if evicted <= 0:
            self._free -= count
            return
        self._free = 0
        idle = self._idle
        for _ in range(evicted):
            del idle[next(iter(idle))]

    def commit(self, holding: Holding, blocks: Sequence[int]) -> None:
        """The private blocks that come next in ``holding`` are computed: from now on they are found by these hashes.

        A block that someone else made known in the meantime stays private, a duplicate, as in vLLM.
        """
        for block in blocks:
            if block in self._holders or block in self._idle:
                continue
            self._holders[block] = 1
            holding.shared.append(block)
            holding.private -= 1

    def release(self, holding: Holding) -> None:
        """Give everything back. The end of the sequence is forgotten before its beginning."""
        self._free += holding.private
        holders, idle = self._holders, self._idle
        for block in reversed(holding.shared):
            left = holders[block] - 1
            if left:
                holders[block] = left
            else:
                del holders[block]
                idle[block] = None
        holding.shared, holding.private = [], 0

    def forget(self) -> None:
        """Drop every known block that nobody holds, as a restart does."""
        self._free += len(self._idle)
        self._idle.clear()
