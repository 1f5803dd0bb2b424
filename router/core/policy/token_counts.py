"""Tokens in flight per backend, for policies whose originals keep such a count."""

from __future__ import annotations

from collections import defaultdict

from router.core.types import Lease


class TokenCounts:
    """``queued``: uncached prompt tokens whose first token has not come; ``running``: prompt tokens after that."""

    __slots__ = ("_queued_leases", "queued", "running")

    def __init__(self) -> None:
        self.queued: defaultdict[str, int] = defaultdict(int)
        self.running: defaultdict[str, int] = defaultdict(int)
        self._queued_leases: set[Lease] = set()

    def dispatched(self, lease: Lease) -> None:
        self._queued_leases.add(lease)
        self.queued[lease.backend] += lease.uncached_tokens

    def first_token(self, lease: Lease) -> None:
        self._queued_leases.remove(lease)
        self.queued[lease.backend] -= lease.uncached_tokens
        self.running[lease.backend] += lease.prompt_tokens

    def ended(self, lease: Lease) -> None:
        if lease in self._queued_leases:
            self._queued_leases.remove(lease)
            self.queued[lease.backend] -= lease.uncached_tokens
        else:
            self.running[lease.backend] -= lease.prompt_tokens
