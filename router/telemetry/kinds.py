"""Groups finished requests by kind, so that look-ups and texts they have in common are made once.

Most requests that end within the same moment differ only in their times and tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import NamedTuple

from router.core.outcomes import CONSEQUENCES, Charge, Outcome
from router.telemetry.journal import REFUSED, AttemptRecord, Record

#: Requests that end so cost nothing: their tokens are what was expected, and are not counted.
_FREE = frozenset({REFUSED, *(o.value for o in Outcome if CONSEQUENCES[o].charge is Charge.REFUND)})
_CLIENT_GONE = Outcome.CLIENT_GONE.value


class KeyUse(NamedTuple):
    """The use of one key under one plan by requests of one kind. The JWTs of a tenant share a key, and may differ in
    plan."""

    key_id: str
    plan: str
    records: list[Record]
    prompt_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0


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
    uses: list[KeyUse] = field(default_factory=list)  # by key and plan
    prompt_tokens: int = 0
    output_tokens: int = 0
    cost_usd: float = 0.0
    ttfts_s: list[float] = field(default_factory=list)  # of those that had a first token
    line: bytes = b""  # the common part of their log lines, once it was asked for

    def add_up(self) -> None:
        records = self.records
        by_charge: dict[tuple[str | None, str | None], list[Record]] = {}
        for record in records:
            by_charge.setdefault((record.key_id, record.plan), []).append(record)
        self.uses = [self._use(key_id or "", plan or "", found) for (key_id, plan), found in by_charge.items()]
        self.prompt_tokens = sum(use.prompt_tokens for use in self.uses)
        self.output_tokens = sum(use.output_tokens for use in self.uses)
        self.cost_usd = sum(use.cost_usd for use in self.uses)
        self.ttfts_s = [ttft_s for ttft_s in map(_ttft_s, records) if ttft_s is not None]

    def _use(self, key_id: str, plan: str, records: list[Record]) -> KeyUse:
        if self.free:
            return KeyUse(key_id, plan, records)
        prompt, output = sum(map(_prompt_tokens, records)), sum(map(_output_tokens, records))
        return KeyUse(key_id, plan, records, prompt, output, sum(filter(None, map(_cost_usd, records))))

    @property
    def free(self) -> bool:
        """They cost nothing, and their tokens are not counted. So it is with requests that no backend got because their
        client left before."""
        return self.cause in _FREE or (not self.attempts and self.cause == _CLIENT_GONE)


_NO_ATTEMPT = AttemptRecord("", "")
_prompt_tokens, _output_tokens, _ttft_s, _cost_usd = map(
    attrgetter, ("prompt_tokens", "output_tokens", "ttft_s", "cost_usd")
)
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
