"""ISO 8601 beside seconds: the admin API tells moments in seconds since 1970, which nobody reads."""

from __future__ import annotations

from typing import Any

#: Seconds in this range are a moment, from 2001 to 2096; a span is never as long.
_MOMENTS_S = (1e9, 4e9)


def with_iso_times(value: Any) -> Any:
    """``value``, where each moment ``NAME_s`` is followed by ``NAME``, the same as an ISO time, unless it has one.

    Nothing is taken away and no value is changed.
    """
    if isinstance(value, list | tuple):
        return [with_iso_times(each) for each in value]
    if not isinstance(value, dict):
        return value
    told: dict[Any, Any] = {}
    for name, each in value.items():
        told[name] = with_iso_times(each)
        if _is_moment(name, each) and (beside := name.removesuffix("_s")) not in value:
            told[beside] = iso(each)
    return told


def iso(wall_s: float) -> str:
    """``2026-12-30T09:00:00.250Z``."""
    from datetime import UTC, datetime

    return datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _is_moment(name: object, value: object) -> bool:
    least_s, most_s = _MOMENTS_S
    return (
        isinstance(name, str) and name.endswith("_s") and isinstance(value, int | float) and least_s <= value < most_s
    )
