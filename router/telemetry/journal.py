"""The record of every request: a ring in memory for operators, and lines on disk for ``router replay``.

Records hold no prompt and no answer. ``prefix_blocks`` are hashes.
"""

from __future__ import annotations

import asyncio
import itertools
from array import array
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Generic, Self, TypeVar

import orjson
from msgspec import field, to_builtins

from router.core.decisions import Candidate
from router.core.explain import Candidates
from router.core.limits import NAMES
from router.core.types import Value
from router.telemetry.text import TEXT_MAX, clean
from router.telemetry.traces import Trace
from router.telemetry.writer import LineWriter

#: Records that keep the candidates of their decision: with many backends these take more memory than all the rest.
_DECISIONS_MAX = 2000
#: In a rush, only one of this number of ordinary requests keeps them: memory that is kept is cold for later requests.
_RUSH_KEEPS_ONE_IN = 8
_SLOW_S = 1.0
#: Words of records, which metrics have as labels.
RETRIES = ("retry", "continue", "hedge")
REFUSED = "refused"
LIMITS = (*NAMES, "store")
#: Of the parts of a record in the file. No line is longer than LINE_BYTES_MAX.
_PART_TEXT_MAX = 88
_PARTS_MAX = 12
_SPAN_ID = 16
_BLOCKS_MAX = 1024
LINE_BYTES_MAX = 64 * 1024
SUBSCRIBERS_MAX = 32
_SUBSCRIBER_QUEUE = 1000

T = TypeVar("T")


class AttemptRecord(Value):
    """One attempt. ``started_s`` counts from the request's arrival."""

    backend: str
    region: str
    started_s: float = 0.0
    outcome: str = "ok"  # a value of core.outcomes.Outcome
    ttft_s: float | None = None
    predicted_ttft_s: float | None = None
    status: int | None = None
    kind: str = "first"  # first, or one of RETRIES
    duration_s: float | None = None
    detail: str | None = None  # what went wrong, for operators
    fault: str | None = None  # that it met on purpose: see upstream/chaos.py
    connect_s: float | None = None  # to open a connection; None: one was open
    first_byte_s: float | None = None  # from its start to the head of the backend's answer
    span_id: str | None = None  # of its trace, while traces are exported
    said_tokens: int | None = None  # of a leg that broke: what the client has of it, as far as can be told


class Record(Value, eq=False):
    """One request from arrival to the last byte. Durations count from arrival; None is unknown."""

    request_id: str
    arrival_s: float  # wall clock
    trace_id: str | None = None
    key_id: str | None = None
    tenant: str = "anonymous"
    plan: str | None = None
    method: str = "POST"
    path: str = ""
    model: str | None = None  # as the client asked
    served_model: str | None = None  # as the backend was asked
    stream: bool = False
    status: int = 0
    error: str | None = None  # a code of router.errors
    cause: str = "ok"  # a value of Outcome, or REFUSED: no backend was asked
    policy: str | None = None
    priority: str | None = None
    residency: tuple[str, ...] | None = None  # jurisdictions that were allowed; None: any
    attempts: list[AttemptRecord] = field(default_factory=list)
    candidates: Sequence[Candidate] = ()  # of the last decision; rendered when first read
    ttft_s: float | None = None  # of a stream only: a whole answer has no first token
    duration_s: float = 0.0
    wait_s: float = 0.0  # for a place, or for a backend that was woken
    prompt_tokens: int = 0
    output_tokens: int = 0
    max_output_tokens: int = 0
    cached_tokens: int | None = None
    cost_usd: float | None = None  # None: nothing was charged, or there are no prices
    usage_reported: bool = False
    limit: str | None = None  # the limit that refused the request, one of LIMITS
    limit_scope: str | None = None  # whose it is: the name of a core.scopes.Scope
    limit_of: str | None = None  # the name of the key, the tenant or the model
    limit_never: bool = False  # the request is above the whole limit
    refusal: str | None = None  # the words for that, or for why no backend could take it
    body_bytes: int = 0
    reply_bytes: int = 0
    prefix_blocks: Sequence[int] = ()  # a chain of 32-bit hashes, see core.affinity
    tokens_per_block: float = 0.0
    not_continued: str | None = None  # of a stream that broke off: why no other backend went on, see core.continuable
    repetition: str | None = None  # the answer repeated itself: "observed" or "stopped"
    repetition_bytes: int | None = None  # the length of the piece
    repetition_tokens: int | None = None  # of the answer, when it was noticed
    client_region: str | None = None  # where the client says it is
    degraded: str | None = None  # why a smaller variant was chosen: see core.degrading
    held_s: float = 0.0  # of ``wait_s``: while nothing of its model ran
    admitted_s: float | None = None  # until it was read, its key known, and its cost reserved
    first_byte_s: float | None = None  # until the client was sent the head of an answer of a backend
    trace: Trace | None = None  # while traces are exported

    @property
    def backend(self) -> str | None:
        """The backend of the last attempt."""
        return self.attempts[-1].backend if self.attempts else None

    @property
    def region(self) -> str | None:
        return self.attempts[-1].region if self.attempts else None


def as_document(record: Record, *, blocks: bool = True) -> dict[str, Any]:
    """The record as JSON values, without its decision; the shape of a line in the journal's file. ``blocks``: with the
    hashes of its prompt.

    Every field is bounded, whoever filled it: long texts are cut, and of many attempts the last ones are kept.
    """
    document = {name: _bounded(getattr(record, name)) for name in _PLAIN_FIELDS}
    document["backend"] = _bounded(record.backend)
    document["region"] = _bounded(record.region)
    if blocks:
        document["prefix_blocks"] = list(record.prefix_blocks[:_BLOCKS_MAX])
    document["attempts"] = [
        {
            name: _bounded(value, _SPAN_ID if name == "span_id" else _PART_TEXT_MAX)
            for name, value in to_builtins(attempt).items()
        }
        for attempt in record.attempts[-_PARTS_MAX:]
    ]
    return document


def known_of(record: Record) -> dict[str, Any]:
    """The part of the record that lists of requests show, of those on their way and of those that have ended."""
    return {name: getattr(record, name) for name in _KNOWN}


_KNOWN = (
    "request_id",
    "arrival_s",
    "tenant",
    "key_id",
    "method",
    "path",
    "model",
    "served_model",
    "stream",
    "ttft_s",
    "wait_s",
    "prompt_tokens",
)


def _bounded(value: Any, limit: int = TEXT_MAX) -> Any:
    if type(value) is str:
        return clean(value, limit)
    if type(value) is tuple:
        return [_bounded(part, _PART_TEXT_MAX) for part in value[:_PARTS_MAX]]
    return value


class WrittenCandidates(tuple[Candidate, ...]):
    """The candidates of a decision that was written down, and the rule that decided."""

    reason: str | None

    def __new__(cls, candidates: Iterable[Candidate], reason: str | None) -> Self:
        made = super().__new__(cls, candidates)
        made.reason = reason
        return made


def rule_of(candidates: Sequence[Candidate]) -> str | None:
    """The rule that decided between them, if it is known."""
    return candidates.reason if isinstance(candidates, Candidates | WrittenCandidates) else None


def decision_document(record: Record) -> dict[str, Any]:
    """The last decision that was made for the record's request, with the rule that decided. ``candidates`` is empty
    when they are not kept. Nobody is chosen if the last decision was that nobody is left."""
    candidates = record.candidates
    chosen = next((c.backend for c in candidates if c.struck is None and c.backend == record.backend), None)
    reason = rule_of(candidates) if chosen is not None else None
    return (
        {
            "policy": record.policy,
            "backend": chosen if candidates else record.backend,
            "reason": reason,
            "candidates": [
                {
                    "backend": candidate.backend,
                    "cost_s": candidate.cost_s,
                    "terms": dict(candidate.terms),
                    "struck": candidate.struck.value if candidate.struck is not None else None,
                    "chosen": candidate.backend == chosen,
                }
                for candidate in candidates
            ],
        }
        | (_refused(record) if record.refusal is not None else {})
        | _degraded(record)
    )


def _degraded(record: Record) -> dict[str, Any]:
    if record.degraded is None or record.served_model == record.model:
        return {}
    return {"degraded": {"model": record.served_model, "why": _bounded(record.degraded), "plans": [record.plan]}}


def _refused(record: Record) -> dict[str, Any]:
    return {name: _bounded(getattr(record, name)) for name in ("limit", "limit_scope", "limit_of", "plan", "refusal")}


def went_as_usual(record: Record) -> bool:
    return (
        record.error is None
        and record.cause == "ok"
        and len(record.attempts) == 1
        and not record.wait_s
        and (record.ttft_s is None or record.ttft_s < _SLOW_S)
    )


_PLAIN_FIELDS = tuple(
    name for name in Record.__struct_fields__ if name not in ("attempts", "candidates", "prefix_blocks", "trace")
)
_JSON = orjson.OPT_APPEND_NEWLINE | orjson.OPT_NON_STR_KEYS


class Subscription(Generic[T]):
    """A bounded queue of records, or of events, for one reader. ``dropped`` counts those that the reader missed."""

    def __init__(self, match: Callable[[T], bool] | None) -> None:
        self._match = match
        self._queue: asyncio.Queue[T] = asyncio.Queue(_SUBSCRIBER_QUEUE)
        self.dropped = 0

    def offer(self, record: T) -> None:
        if self._match is not None and not self._match(record):
            return
        try:
            self._queue.put_nowait(record)
        except asyncio.QueueFull:
            self.dropped += 1

    async def get(self) -> T:
        return await self._queue.get()


class Journal:
    """The last ``records`` requests, the newest 2000 decisions among them with their candidates.

    In a rush only some ordinary requests keep them, but every request does that failed, waited, was tried again or had
    its first token after a second or more. ``file`` takes every record as a JSON line as well.
    """

    def __init__(self, records: int = 10_000, file: LineWriter | None = None) -> None:
        self._ring: deque[Record] = deque(maxlen=records)
        self._decided: deque[Record] = deque()
        self.file = file
        self._subscriptions: list[Subscription[Record]] = []

    def add(self, record: Record) -> None:
        self._ring.append(record)
        if self._subscriptions:
            for subscription in self._subscriptions:
                subscription.offer(record)

    def remember(self, records: Sequence[Record]) -> None:
        """Put records, oldest first, before all others, as far as there is room."""
        room = self.size - len(self._ring)
        self._ring.extendleft(reversed(records[max(0, len(records) - room) :]))

    def settle(self, records: list[Record], *, rush: bool = False) -> None:
        """Write records to the file, if there is one, and shrink them. Called in batches, off the path of requests.

        As integers of Python the hashes of a long prompt take 36 KB; packed, they take 4.
        """
        if self.file is not None and records:
            self.file.put(b"".join(orjson.dumps(as_document(r), option=_JSON) for r in records))
        decided = self._decided
        for number, record in enumerate(records):
            if record.prefix_blocks:
                record.prefix_blocks = array("I", record.prefix_blocks)
            if rush and number % _RUSH_KEEPS_ONE_IN and went_as_usual(record):
                record.candidates = ()
            elif record.candidates:
                decided.append(record)
        while len(decided) > _DECISIONS_MAX:
            decided.popleft().candidates = ()

    @property
    def size(self) -> int:
        """How many records it keeps."""
        return self._ring.maxlen or 0

    def newest_first(self) -> Iterator[Record]:
        return reversed(self._ring)

    def find(self, request_id: str) -> Record | None:
        """The newest record with this id, or None when it never was or has left the ring."""
        return next((r for r in self.newest_first() if r.request_id == request_id), None)

    def list(self, match: Callable[[Record], bool] | None = None, *, limit: int = 100) -> list[Record]:
        """The newest matching records, newest first."""
        return list(itertools.islice((r for r in self.newest_first() if match is None or match(r)), limit))

    def subscribe(self, match: Callable[[Record], bool] | None = None) -> Subscription[Record]:
        """Follow new records. Raises RuntimeError when there are too many readers already."""
        if len(self._subscriptions) >= SUBSCRIBERS_MAX:
            raise RuntimeError(f"{SUBSCRIBERS_MAX} readers follow the journal already")
        subscription = Subscription(match)
        self._subscriptions.append(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription[Record]) -> None:
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)
