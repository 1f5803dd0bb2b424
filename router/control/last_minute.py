"""The last minute: how much keys used, and how many requests backends answered, by the journal of this router.

``routes/quotas`` and ``routes/fleet`` add up the counts of all routers.

The account of a rate cannot say it: what was used flows off as fast as the rate allows, so that it stands at nothing
while requests keep coming.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from router.telemetry.journal import REFUSED, Record

SPAN_S = 60.0


@dataclass(slots=True)
class Use:
    """``refused`` were not answered because a limit of the key was reached; ``requests`` leaves them out."""

    requests: int = 0
    tokens: int = 0
    refused: int = 0

    def plus(self, other: Use) -> Use:
        return Use(self.requests + other.requests, self.tokens + other.tokens, self.refused + other.refused)

    def document(self) -> dict[str, Any]:
        return {"requests": self.requests, "tokens": self.tokens, "refused": self.refused}


def requests_by_backend(newest_first: Iterable[Record], now_s: float) -> dict[str, int]:
    """Requests that were answered in the last minute, by the backend of their last attempt."""
    counts: dict[str, int] = {}
    for record in newest_first:
        if record.arrival_s + record.duration_s < now_s - SPAN_S:
            break
        if (backend := record.backend) is not None:
            counts[backend] = counts.get(backend, 0) + 1
    return counts


def used(newest_first: Iterable[Record], now_s: float) -> dict[str, Use]:
    """By key id, from records that end with the newest. ``now_s``: of the wall's clock, as in records."""
    uses: dict[str, Use] = {}
    for record in newest_first:
        ended_s = record.arrival_s + record.duration_s
        if ended_s < now_s - SPAN_S:
            break  # records are kept in the order in which their requests ended
        if record.key_id is None:
            continue
        use = uses.setdefault(record.key_id, Use())
        if record.limit is not None:
            use.refused += 1
        elif record.cause != REFUSED:
            use.requests += 1
            use.tokens += record.prompt_tokens + record.output_tokens
    return uses
