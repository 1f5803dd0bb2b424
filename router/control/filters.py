"""Which requests an operator asks for, and in what order. A value that nothing has ever had is an error."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from router.control.inputs import float_of
from router.control.plane import ControlPlane
from router.control.unknown import unknown
from router.errors import RouterError
from router.store.base import Key
from router.telemetry.journal import Record


def lasted_s(record: Record) -> float:
    """How long the client waited: for the first token of a stream, else for the whole answer."""
    return record.duration_s if record.ttft_s is None else record.ttft_s


#: name -> what requests are ordered by, the largest first
ORDERS: Mapping[str, Callable[[Record], float]] = {
    "time": lambda r: r.arrival_s + r.duration_s,
    "ttft": lambda r: -1.0 if r.ttft_s is None else r.ttft_s,
    "duration": lambda r: r.duration_s,
    "wait": lambda r: r.wait_s,
    "tokens": lambda r: r.prompt_tokens + r.output_tokens,
    "attempts": lambda r: len(r.attempts),
}
#: the same of requests as the admin API lists them, when several routers or workers have told theirs
SUMMARY_ORDERS: Mapping[str, Callable[[dict[str, Any]], float]] = {
    "time": lambda r: float(r["arrival_s"] + r["duration_s"]),
    "ttft": lambda r: -1.0 if r["ttft_s"] is None else float(r["ttft_s"]),
    "duration": lambda r: float(r["duration_s"]),
    "wait": lambda r: float(r["wait_s"]),
    "tokens": lambda r: float(r["prompt_tokens"] + r["output_tokens"]),
    "attempts": lambda r: float(r["attempts"]),
}


@dataclass(frozen=True, slots=True)
class RequestFilter:
    """None: any. ``status`` may have an x for a digit; ``key`` is an id."""

    model: str | None = None
    tenant: str | None = None
    place: str | None = None  # backend or region of the last attempt
    region: str | None = None
    key: str | None = None
    status: str | None = None
    since_s: float = 0.0
    slower_than_s: float | None = None

    def __call__(self, record: Record) -> bool:
        return (
            (self.model is None or self.model in (record.model, record.served_model))
            and (self.tenant is None or record.tenant == self.tenant)
            and (self.place is None or self.place in (record.backend, record.region))
            and (self.region is None or record.region == self.region)
            and (self.key is None or record.key_id == self.key)
            and (self.status is None or _has_status(record, self.status))
            and record.arrival_s >= self.since_s
            and (self.slower_than_s is None or lasted_s(record) > self.slower_than_s)
        )


def filter_of(query: Mapping[str, str], control: ControlPlane, keys: Iterable[Key]) -> RequestFilter:
    """The filter of a query. Raises RouterError for a value that is malformed, or that nothing here has or had."""
    status = query.get("status")
    if status is not None and not _is_status(status):
        raise RouterError("invalid_request", "A status is like 200 or 5xx.", param="status")
    slower = query.get("slower_than_s")
    found = RequestFilter(
        model=query.get("model"),
        tenant=query.get("tenant"),
        place=query.get("backend"),
        region=query.get("region"),
        key=query.get("key"),
        status=status,
        since_s=float_of(query, "since_s", 0.0, low=0.0, high=1e12),
        slower_than_s=None if slower is None else float_of(query, "slower_than_s", 0.0, low=0.0, high=1e6),
    )
    _check_names(found, control, list(keys))
    return found


def take(records: Iterable[Record], match: RequestFilter, order: str, limit: int) -> tuple[list[Record], int]:
    """The first ``limit`` of those that match, and how many match. ``records`` are the newest first."""
    matching = [r for r in records if match(r)]
    if order == "time":
        return matching[:limit], len(matching)
    return heapq.nlargest(limit, matching, key=ORDERS[order]), len(matching)


def oldest_first(entries: list[dict[str, Any]], limit: int) -> list[dict[str, Any]]:
    """Requests in flight of several routers, or workers, as one list."""
    return sorted(entries, key=lambda entry: float(entry["age_s"]), reverse=True)[:limit]


def _check_names(asked: RequestFilter, control: ControlPlane, keys: list[Key]) -> None:
    records = control.telemetry.journal.newest_first
    config = control.reloader.config
    regions = {r.spec.name for r in config.regions}
    if asked.model is not None:
        models = {*control.fleet.models(), *config.models}
        _check("model", asked.model, models, lambda r: (r.model, r.served_model), records())
    if asked.tenant is not None:
        _check("tenant", asked.tenant, {k.tenant for k in keys}, lambda r: (r.tenant,), records())
    if asked.place is not None:
        places = {*regions, *control.fleet.backends}
        _check("backend", asked.place, places, lambda r: (r.backend, r.region), records(), "backend or region")
    if asked.region is not None:
        _check("region", asked.region, regions, lambda r: (r.region,), records())
    if asked.key is not None:
        _check("key", asked.key, {k.id for k in keys}, lambda r: (r.key_id,), records())


def _check(
    param: str,
    value: str,
    known: set[str],
    of: Callable[[Record], tuple[str | None, ...]],
    records: Iterable[Record],
    word: str = "",
) -> None:
    """``known`` is what there is; a name that a kept request had is good, too."""
    if value in known or any(value in of(record) for record in records):
        return
    raise unknown(param, value, known, word=word)


def _is_status(text: str) -> bool:
    return len(text) == 3 and text[0] in "12345" and text[1:].replace("x", "0").isdecimal() and text.isascii()


def _has_status(record: Record, status: str) -> bool:
    return all(a in ("x", b) for a, b in zip(status, f"{record.status:03}", strict=False))
