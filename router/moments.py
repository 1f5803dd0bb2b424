"""Moments and spans of time as people write them."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_SPAN = re.compile(r"(\d{1,12}(?:\.\d{1,9})?) ?(ms|[smhdwy]?)", re.ASCII)
#: The seconds of a unit; none is seconds.
_UNITS = {"": 1, "ms": 0.001, "s": 1, "m": 60, "h": 3600, "d": 86_400, "w": 7 * 86_400, "y": 365 * 86_400}
#: A century: who writes more has made a mistake.
SPAN_S_MAX = 100 * 365 * 86_400.0


def span_s(text: str) -> float | None:
    """``500ms``, ``30s``, ``5m``, ``2h``, ``1d``, ``2w``, ``1y`` or plain seconds. None: it is not such a span."""
    match = _SPAN.fullmatch(text.strip())
    if match is None:
        return None
    span = float(match[1]) * _UNITS[match[2]]
    return span if span <= SPAN_S_MAX else None


def span_text(seconds: float) -> str:
    """As it is typed: ``60s``, ``15m``, ``24h``, ``7d``."""
    for unit, length in (("d", 86_400), ("h", 3600), ("m", 60)):
        if seconds >= length and seconds % length == 0 and (unit != "d" or seconds > 2 * length):
            return f"{seconds / length:.0f}{unit}"
    return f"{seconds:.0f}s" if seconds == int(seconds) else f"{seconds:g}s"


def roughly(seconds: float) -> str:
    """How long something took or is ago, to be read: ``12 s``, ``13 min``."""
    return f"{seconds:.0f} s" if seconds < 119.5 else f"{seconds / 60:.0f} min"


def moment_s(text: str, now_s: float) -> float | None:
    """An ISO time, in UTC unless it has an offset, or a span with its unit from now on, in seconds since 1970. None: it
    is neither."""
    text = text.strip()
    if text[-1:].isalpha() and (span := span_s(text)) is not None:
        return now_s + span
    try:
        moment = datetime.fromisoformat(text)
        return (moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError):
        return None


def iso_of(wall_s: float) -> str:
    """``2026-12-30T09:00:00Z``."""
    try:
        return f"{datetime.fromtimestamp(wall_s, UTC).replace(tzinfo=None).isoformat('T', 'seconds')}Z"
    except (ValueError, OverflowError, OSError):
        return f"{wall_s:.0f} seconds after 1970"
