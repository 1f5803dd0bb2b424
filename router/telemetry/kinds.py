"""Groups finished requests by kind, so that look-ups and texts they have in common are made once.

Most requests that end within the same moment differ only in their times and tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter

from router.telemetry.journal import AttemptRecord, Record


@dataclass(slots=True, eq=False)
class RequestKind:
    """Requests that have all of these values in common. Attributes are named as in ``Record``."""

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
    line: bytes = b""  # the common part of their log lines, once it was asked for

    def add_up(self) -> None:
        records = self.records
        self.prompt_tokens = sum(map(_prompt_tokens, records))
        self.output_tokens = sum(map(_output_tokens, records))
        self.ttfts_s = [ttft_s for ttft_s in map(_ttft_s, records) if ttft_s is not None]


_NO_ATTEMPT = AttemptRecord("", "")
_prompt_tokens, _output_tokens, _ttft_s = map(attrgetter, ("prompt_tokens", "output_tokens", "ttft_s"))
#: What a kind has in common, in the order of its attributes: of the request ...
_of_request = attrgetter("model", "served_model", "tenant", "method", "path", "stream", "status", "error", "cause")
#: ... and of its last attempt.
_of_attempt = attrgetter("backend", "region", "outcome", "kind")


def kinds_of(records: Sequence[Record]) -> list[RequestKind]:
    """The kind of each record, in their order. Records of one kind have one and the same object."""
    found: dict[tuple[object, ...], RequestKind] = {}
    kinds = []
    for record in records:
        attempts = record.attempts
        last = attempts[-1] if attempts else _NO_ATTEMPT
        key = (*_of_request(record), len(attempts), *_of_attempt(last))
        kind = found.get(key)
        if kind is None:
            kind = found[key] = RequestKind(*key)
        kind.records.append(record)
        kinds.append(kind)
    for kind in found.values():
        kind.add_up()
    return kinds
