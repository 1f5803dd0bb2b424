"""Reads, in every form that backends use, after how many seconds to ask again: 0 to 600, or None."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any

#: A longer time is not believed.
LONGEST_S = 600.0

_NUMBER = re.compile(r"\+?(\d{1,15}(?:\.\d{0,9})?|\.\d{1,9})")
_DURATION = re.compile("".join(rf"(?:(\d{{1,9}}(?:\.\d{{1,9}})?){unit})?" for unit in ("d", "h", "m(?!s)", "s", "ms")))
_UNITS_S = (86400.0, 3600.0, 60.0, 1.0, 0.001)
#: A number above this is a point in time, in seconds or milliseconds since 1970.
_EPOCH_S = 1e9
_EPOCH_MS = 1e12
_IN_TEXT = re.compile(
    r"(?:try again|retry)(?: again)?(?: in| after)? (?:about )?(\d[\d.]*) ?"
    r"(ms|milliseconds?|s|secs?|seconds?|m(?=\d)|minutes?|mins?)((?:[\d.]+s)?)\b",
    re.IGNORECASE,
)
_FIELDS_S = (
    "retry_after",
    "retry_after_s",
    "retry_after_seconds",
    "retryAfter",
    "retryDelay",
    "retry-after",
    "estimated_time",
)
_FIELDS_MS = ("retry_after_ms", "retryAfterMs", "retry-after-ms")
_HOLDERS = ("error", "metadata", "headers", "details", "detail", "parameters")
_NESTED_MAX = 5


def retry_after_s(headers: Iterable[tuple[bytes, bytes]], said: object, message: str, wall_s: float) -> float | None:
    """The wait that an answer's head names, else its body. ``said``: the error as JSON. ``wall_s``: the time now."""
    named = {name.lower(): value.decode("latin-1").strip() for name, value in headers}
    for found in (
        _of_headers(named, wall_s),
        _of_document(said, wall_s, 0),
        _of_text(message),
        _of_limits(named, wall_s),
    ):
        if found is not None:
            return min(max(found, 0.0), LONGEST_S)
    return None


def _of_headers(named: dict[bytes, str], wall_s: float) -> float | None:
    for name in (b"retry-after-ms", b"x-ms-retry-after-ms"):
        milliseconds = _number(named.get(name, ""))
        if milliseconds is not None:
            return milliseconds / 1000
    value = named.get(b"retry-after")
    return None if value is None else wait_s(value, _date_s(named.get(b"date", "")) or wall_s)


def wait_s(value: str, wall_s: float) -> float | None:
    """Seconds, with or without decimals; ``6m0s``; a point in time as HTTP, ISO 8601 or Unix write it."""
    value = value.strip()
    number = _number(value)
    if number is not None:
        if number >= _EPOCH_MS:
            return number / 1000 - wall_s
        return number - wall_s if number >= _EPOCH_S else number
    spans = _DURATION.fullmatch(value)
    if spans is not None and value:
        return sum(float(span) * unit_s for span, unit_s in zip(spans.groups(), _UNITS_S, strict=True) if span)
    date_s = _date_s(value)
    return None if date_s is None else date_s - wall_s


def _number(value: str) -> float | None:
    match = _NUMBER.fullmatch(value)
    return float(match[1]) if match is not None else None


def _date_s(value: str) -> float | None:
    """Seconds since 1970 of a date; dates without a zone are UTC."""
    if not 8 <= len(value) <= 64:
        return None
    for parse in (parsedate_to_datetime, datetime.fromisoformat):
        try:
            date = parse(value)
            return (date if date.tzinfo is not None else date.replace(tzinfo=UTC)).timestamp()
        except (ValueError, TypeError, OverflowError, IndexError):
            continue
    return None


def _of_document(said: object, wall_s: float, depth: int) -> float | None:
    """Google: ``details[].retryDelay``; OpenRouter: ``metadata.headers``; Hugging Face: ``estimated_time``."""
    if depth > _NESTED_MAX:
        return None
    if isinstance(said, list):
        for entry in said[:20]:
            found = _of_document(entry, wall_s, depth + 1)
            if found is not None:
                return found
        return None
    if not isinstance(said, dict):
        return None
    for names, factor in ((_FIELDS_MS, 0.001), (_FIELDS_S, 1.0)):
        for name in names:
            found = _of_value(said.get(name), wall_s)
            if found is not None:
                return found * factor
    limits = _of_limits({str(n).lower().encode(): str(v) for n, v in said.items()}, wall_s) if depth else None
    if limits is not None:
        return limits
    for name in _HOLDERS:
        found = _of_document(said.get(name), wall_s, depth + 1)
        if found is not None:
            return found
    return None


def _of_value(value: Any, wall_s: float) -> float | None:
    if isinstance(value, str):
        return wait_s(value, wall_s)
    if isinstance(value, (int, float)) and not isinstance(value, bool) and math.isfinite(value) and value >= 0:
        return wait_s(f"{min(float(value), 1e15):.9f}".rstrip("0"), wall_s)
    return None


def _of_text(message: str) -> float | None:
    """OpenAI: "Please try again in 1m2.5s."; Azure: "Please retry after 6 seconds."."""
    match = _IN_TEXT.search(message[:2000])
    if match is None:
        return None
    number = _number(match[1].rstrip("."))
    if number is None:
        return None
    unit = match[2].lower()
    if unit.startswith(("ms", "milli")):
        return number / 1000
    if unit.startswith("m"):
        return number * 60 + (_number(match[3][:-1]) or 0.0)
    return number


def _of_limits(named: dict[bytes, str], wall_s: float) -> float | None:
    """``x-ratelimit-reset-*`` and Anthropic's: of the limits that are used up the latest, else of all the earliest."""
    used_up: list[float] = []
    left: list[float] = []
    for name, value in named.items():
        if b"ratelimit" not in name or b"reset" not in name:
            continue
        reset_s = wait_s(value, wall_s)
        if reset_s is None:
            continue
        remaining = _number(named.get(name.replace(b"reset", b"remaining"), ""))
        (used_up if remaining == 0 else left).append(reset_s)
    if used_up:
        return max(used_up)
    return min(left, default=None)
