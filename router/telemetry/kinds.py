"""Finished requests by kind: what is looked up or written alike for many of them is so once for all.

Of the requests that end within a moment most differ in nothing but their times and tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from router.telemetry.journal import AttemptRecord, Record


@dataclass(slots=True, eq=False)
class RequestKind:
    """Some requests that have all of this in common. Attributes are named as in ``Record``."""

    model: str | None
    served_model: str | None
    tenant: str
    method: str
    path: str
    stream: bool
    status: int
    error: str | None
    cause: str
    attempts: int  # how many
    #: of the last attempt, empty if there was none
    backend: str
    region: str
    outcome: str | None
    attempt_kind: str
    records: list[Record] = field(default_factory=list)
    prompt_tokens: int = 0
    output_tokens: int = 0
    ttfts_s: list[float] = field(default_factory=list)  # of those that had a first token
    line: bytes = b""  # what their lines in the log share, once it was asked for

    def add_up(self) -> None:
        records = self.records
        self.prompt_tokens = sum([r.prompt_tokens for r in records])
        self.output_tokens = sum([r.output_tokens for r in records])
        self.ttfts_s = [r.ttft_s for r in records if r.ttft_s is not None]


_NO_ATTEMPT = AttemptRecord("", "")


def kinds_of(records: Sequence[Record]) -> list[RequestKind]:
    """The kind of each record, in their order. Records of one kind have one and the same object."""
    found: dict[tuple[object, ...], RequestKind] = {}
    kinds = []
    for record in records:
        attempts = record.attempts
        last = attempts[-1] if attempts else _NO_ATTEMPT
        key = (
            record.model,
            record.served_model,
            record.tenant,
            record.method,
            record.path,
            record.stream,
            record.status,
            record.error,
            record.cause,
            len(attempts),
            last.backend,
            last.region,
            last.outcome,
            last.kind,
        )
        kind = found.get(key)
        if kind is None:
            kind = found[key] = RequestKind(*key)
        kind.records.append(record)
        kinds.append(kind)
    for kind in found.values():
        kind.add_up()
    return kinds
