"""The history of the fleet, and who made it: events in memory, the same as all routers know them.

A request is in the journal; here is what changes for all requests: a backend's state, a drain, a configuration, a key.
"""

from __future__ import annotations

import secrets
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from itertools import count, islice
from typing import Any, Protocol

import orjson

from router import clock
from router.core.types import Value
from router.telemetry.journal import SUBSCRIBERS_MAX, Subscription
from router.telemetry.text import clean

#: Events in memory, those of other routers included.
EVENTS_MAX = 5000
#: Of these, events that the other routers have not been told yet; while the store is away the oldest get lost.
UNTOLD_MAX = 1000

#: The kinds of events, and what the subject of each is.
KINDS: dict[str, str] = {
    "health": "a backend whose state has changed",
    "drain": "a region or a backend that gets no new requests, or gets them again",
    "notice": "a region or a backend that goes away at a known time, or does not",
    "burn-in": "a backend that has to prove itself",
    "source": "a source of backends that is away, is heard again, or suddenly names nobody",
    "backend": "a backend that a source other than the file has brought, or names no more",
    "lease": "a backend that registered itself, took leave, or did not renew its lease in time",
    "wake": "a model of which nothing ran and a backend is woken, runs, or cannot be woken",
    "sleep": "a model whose backends were put to sleep, as nobody asked for it",
    "strain": "a model whose first tokens are late everywhere, so that smaller variants answer, or not any more",
    "config": "the file: a reload that was taken over, or refused",
    "key": "an API key that was made, changed or revoked",
    "quota": "an API key whose limits were reset",
    "budget": "a key, a tenant, a model or all, of whose budget 50, 80 or 100 % are used",
    "store": "the shared store, which is away or back",
    "chaos": "a fault on purpose, begun or ended",
    "router": "a router that has started, stops, is gone without a word, or is overloaded",
    "operator": "a call of the admin API that changes something: the audit trail",
}

_TEXT_MAX = 400


class Occurrence(Value):
    """One event. ``id`` is its own among all routers."""

    id: str
    at_s: float  # wall clock
    router: str
    kind: str  # one of KINDS
    subject: str
    region: str | None = None
    before: str | None = None
    after: str | None = None
    why: str | None = None
    who: str | None = None  # an operator


class Note(Protocol):
    """``History.note``, as those that have something to tell see it."""

    def __call__(
        self,
        kind: str,
        subject: str,
        *,
        before: str | None = None,
        after: str | None = None,
        why: str | None = None,
        who: str | None = None,
    ) -> None: ...


def say_nothing(kind: str, subject: str, **_: object) -> None:
    """A Note for those that are built without a history."""


class History:
    """The last events of this router and of those that share its store. ``counts`` has this router's own, by kind."""

    def __init__(self, router: str, *, most: int = EVENTS_MAX) -> None:
        self.router = router
        self.counts: Counter[str] = Counter()
        self.untold: deque[Occurrence] = deque(maxlen=UNTOLD_MAX)
        self._ring: deque[Occurrence] = deque(maxlen=most)
        self._subscriptions: list[Subscription[Occurrence]] = []
        self._prefix = f"{router}-{secrets.token_hex(3)}"
        self._numbers = count(1)

    def __repr__(self) -> str:
        return f"<History {len(self._ring)} events>"

    def note(
        self,
        kind: str,
        subject: str,
        *,
        before: str | None = None,
        after: str | None = None,
        why: str | None = None,
        who: str | None = None,
        at_s: float | None = None,
    ) -> None:
        """Something has happened here, now or at ``at_s`` of the wall clock."""
        assert kind in KINDS, kind
        self.counts[kind] += 1
        occurrence = Occurrence(
            f"{self._prefix}-{next(self._numbers)}",
            clock.wall_s() if at_s is None else at_s,
            self.router,
            kind,
            _text(subject) or "",
            region=region_of(kind, subject),
            before=before,
            after=after,
            why=_text(why),
            who=_text(who),
        )
        self.untold.append(occurrence)
        self._add(occurrence)

    def take(self, occurrences: Iterable[Occurrence]) -> None:
        """Events of other routers, or of this one before it was started again. Those that are known are left out."""
        known = {o.id for o in self._ring}
        fresh = {o.id: o for o in occurrences if o.id not in known}
        if not fresh:
            return
        for occurrence in fresh.values():
            self._add(occurrence)
        if any(a.at_s > b.at_s for a, b in zip(self._ring, islice(self._ring, 1, None), strict=False)):
            self._ring = deque(sorted(self._ring, key=lambda o: o.at_s), maxlen=self._ring.maxlen)

    def _add(self, occurrence: Occurrence) -> None:
        self._ring.append(occurrence)
        for subscription in self._subscriptions:
            subscription.offer(occurrence)

    def newest_first(self) -> Iterator[Occurrence]:
        return reversed(self._ring)

    def list(self, match: Callable[[Occurrence], bool] | None = None, *, limit: int = 100) -> list[Occurrence]:
        """The newest events that match, the newest first."""
        return list(islice((o for o in self.newest_first() if match is None or match(o)), limit))

    def last(self, kind: str, subject: str) -> Occurrence | None:
        """The newest event of this kind about the subject."""
        return next((o for o in self.newest_first() if o.kind == kind and o.subject == subject), None)

    def subscribe(self, match: Callable[[Occurrence], bool] | None = None) -> Subscription[Occurrence]:
        """Follow new events. Raises RuntimeError when there are too many readers already."""
        if len(self._subscriptions) >= SUBSCRIBERS_MAX:
            raise RuntimeError(f"{SUBSCRIBERS_MAX} readers follow the history already")
        subscription = Subscription(match)
        self._subscriptions.append(subscription)
        return subscription

    def unsubscribe(self, subscription: Subscription[Occurrence]) -> None:
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)


#: kinds whose subject is a region, or a backend as REGION/BACKEND
_OF_PLACES = frozenset({"health", "drain", "notice", "burn-in", "backend", "lease", "chaos"})


def region_of(kind: str, subject: str) -> str | None:
    return subject.partition("/")[0] or None if kind in _OF_PLACES else None


def document(occurrence: Occurrence) -> dict[str, Any]:
    """As the admin API shows it."""
    return {
        "id": occurrence.id,
        "at": iso(occurrence.at_s),
        "at_s": occurrence.at_s,
        "router": occurrence.router,
        "kind": occurrence.kind,
        "subject": occurrence.subject,
        "region": occurrence.region,
        "backend": occurrence.subject if occurrence.region and "/" in occurrence.subject else None,
        "from": occurrence.before,
        "to": occurrence.after,
        "why": occurrence.why,
        "who": occurrence.who,
    }


def encode(occurrence: Occurrence) -> bytes:
    """For the shared store."""
    return orjson.dumps(document(occurrence))


def decode(raw: bytes) -> Occurrence | None:
    """None: another version of the router wrote what this one cannot read."""
    try:
        return occurrence_of(orjson.loads(raw))
    except ValueError:
        return None


def occurrence_of(told: Any) -> Occurrence | None:
    """The event of a ``document``. None: another version of the router wrote what this one cannot read."""
    try:
        words = {name: None if told.get(name) is None else str(told[name]) for name in ("region", "why", "who")}
        return Occurrence(
            str(told["id"]),
            float(told["at_s"]),
            str(told["router"]),
            str(told["kind"]),
            str(told["subject"]),
            before=None if told.get("from") is None else str(told["from"]),
            after=None if told.get("to") is None else str(told["to"]),
            **words,
        )
    except (AttributeError, KeyError, TypeError, ValueError):
        return None


def iso(wall_s: float) -> str:
    """A moment in UTC as ISO 8601 writes it, to the millisecond."""
    return datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _text(text: str | None) -> str | None:
    return None if text is None else clean(text, _TEXT_MAX)
