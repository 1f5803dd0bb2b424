"""Whether what backends count agrees with the leases that are alive. For tests and soaks: it looks at every lease."""

from __future__ import annotations

from collections.abc import Collection, Mapping

from router.core.backend import Backend
from router.core.cost import prompt_pairs
from router.core.types import Lease


def audit(backends: Mapping[str, Backend], leases: Collection[Lease], full: Collection[Backend]) -> None:
    """Raises ``AssertionError`` if any count disagrees. ``full``: the backends that are listed as full."""
    for b in backends.values():
        mine = [lease for lease in leases if lease.backend == b.name]
        waiting = [lease for lease in mine if lease in b.prompts.pending or lease in b.prompts.unseen]
        assert b.inflight == len(mine), f"{b.name}: {b.inflight} counted, {len(mine)} leases"
        assert len(waiting) == len(b.prompts), f"{b.name}: pending leases that have ended"
        tokens = sum(lease.uncached_tokens for lease in waiting)
        pairs = sum(prompt_pairs(lease.prompt_tokens, lease.uncached_tokens) for lease in waiting)
        assert b.prompts.pairs == pairs, f"{b.name}: {b.prompts.pairs} pairs, {pairs} leased"
        assert b.prompts.tokens == tokens, f"{b.name}: {b.prompts.tokens} tokens, {tokens} leased"
        assert (b.inflight >= b.capacity.limit) == (b in full), f"{b.name}: wrongly listed as full or free"
    strangers = {lease.backend for lease in leases} - backends.keys()
    assert not strangers, f"leases on unknown backends: {strangers}"
