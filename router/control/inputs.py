"""What operators send: query parameters and JSON bodies, checked."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import orjson
from aiohttp import web

from router.core.suggest import did_you_mean
from router.errors import RouterError
from router.moments import moment_s, span_s
from router.telemetry.minutes import GROUPS, KEPT_S

_KINDS: dict[str, type | tuple[type, ...]] = {"string": str, "integer": int, "number": (int, float), "array": list}


def number(request: web.Request, name: str, default: float, *, low: float, high: float) -> float:
    return float_of(request.query, name, default, low=low, high=high)


def float_of(query: Mapping[str, str], name: str, default: float, *, low: float, high: float) -> float:
    text = query.get(name)
    if text is None:
        return default
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise RouterError("invalid_request", f"{name} must be a number from {low:g} to {high:g}.", param=name)
    return value


def number_in(document: dict[str, Any], name: str, default: float, *, low: float, high: float) -> float:
    """A number of a body that was checked for its kind."""
    value = document.get(name)
    if value is None:
        return default
    if not low <= value <= high or isinstance(value, bool):
        raise RouterError("invalid_request", f"{name} must be a number from {low:g} to {high:g}.", param=name)
    return float(value)


async def document_of(request: web.Request, schema: dict[str, Any]) -> dict[str, Any]:
    """The body, a JSON object of the schema's properties. A web page cannot send this content type unasked."""
    if request.content_type != "application/json":
        raise RouterError("invalid_request", "The body must be JSON, with Content-Type: application/json.")
    try:
        document = orjson.loads(await request.read())
    except orjson.JSONDecodeError as exc:
        raise RouterError("invalid_request", f"The body is no JSON: {exc}.") from None
    if not isinstance(document, dict):
        raise RouterError("invalid_request", "The body must be a JSON object.")
    for name, value in document.items():
        if (described := schema["properties"].get(name)) is None:
            raise RouterError("invalid_request", f"Unknown field{did_you_mean(name, schema['properties'])}", param=name)
        kinds = [described["type"]] if isinstance(described["type"], str) else described["type"]
        if value is not None and not any(isinstance(value, _KINDS[kind]) for kind in kinds):
            raise RouterError("invalid_request", f"{name} must be of type {' or '.join(kinds)}.", param=name)
    return document


def text_of(document: dict[str, Any], name: str, *, required: bool = False) -> str:
    """A short printable string; empty when it is not there and need not be."""
    value = document.get(name)
    if value is None and not required:
        return ""
    if not isinstance(value, str) or not 0 < len(value) <= 200 or not value.isprintable():
        raise RouterError("invalid_request", f"{name} must be a string of 1 to 200 printable characters.", param=name)
    return value


def expiry_of(document: dict[str, Any], now_s: float) -> float | None:
    """The member ``expires``, in seconds since 1970. None: never."""
    text = document.get("expires")
    if text in (None, "never"):
        return None
    found_s = moment_s(text, now_s) if isinstance(text, str) else None
    if found_s is None:
        detail = "expires must be a span such as 30d, an ISO time such as 2027-01-31T12:00:00Z, or never."
        raise RouterError("invalid_request", detail, param="expires")
    return found_s


def span_in(document: dict[str, Any], name: str, default_s: float, *, most_s: float) -> float:
    """A span of time, as text or as a number of seconds."""
    value = document.get(name)
    if value is None:
        return default_s
    found_s = None if isinstance(value, bool) else span_s(str(value))
    if found_s is None or found_s > most_s:
        detail = f"{name} must be a span such as 30s, 24h or 7d, of {most_s / 86_400:.0f} days at most."
        raise RouterError("invalid_request", detail, param=name)
    return found_s


def usage_of(request: web.Request) -> tuple[float, tuple[str, ...]]:
    """How far to look back, and what to count by."""
    by = tuple(filter(None, request.query.get("by", "model").split(",")))
    for name in by:
        if name not in GROUPS:
            hint = did_you_mean(name, GROUPS) or "."
            raise RouterError("invalid_request", f"Count by some of {', '.join(GROUPS)}{hint}", param="by")
    return number(request, "since_s", 3600.0, low=60, high=KEPT_S), tuple(dict.fromkeys(by))
