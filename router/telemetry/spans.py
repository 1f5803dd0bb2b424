"""The spans of a finished request: one for the request, and below it one for each attempt, legs of a continuation
included. Pure.

Names follow OpenTelemetry's conventions for generative AI and for HTTP. Whatever has a word in neither is
``meridian.*``; ``gen_ai.gateway.*`` is as proposed in https://github.com/open-telemetry/semantic-conventions-genai/issues/299.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from urllib.parse import urlsplit

from router.core.outcomes import Outcome
from router.telemetry.journal import Record
from router.telemetry.operations import operation_of
from router.telemetry.otlp import Attributes, Span, SpanKind, StatusCode
from router.telemetry.stats import is_error
from router.telemetry.text import clean
from router.telemetry.traces import Trace

_NAME_MAX = 128
#: Ends of attempts that are nobody's fault.
_NO_FAULT = frozenset(o.value for o in (Outcome.OK, Outcome.SUPERSEDED, Outcome.MOVED, Outcome.CLIENT_GONE))


@dataclass(frozen=True, slots=True)
class Where:
    """Where a backend is: the engine that runs there, and its address."""

    engine: str
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Gateway:
    """This router, as spans tell it. ``place_of``: where a backend is, None when it has gone."""

    name: str
    version: str
    scheme: str
    place_of: Callable[[str], Where | None]


def place_of(found: tuple[str, str] | None) -> Where | None:
    """The place of a backend, from its engine and its URL."""
    if found is None:
        return None
    engine, url = found
    parts = urlsplit(url)
    return Where(engine, parts.hostname or "", parts.port or (443 if parts.scheme == "https" else 80))


def spans_of(record: Record, gateway: Gateway) -> list[Span]:
    """The request's own span first. The record must have a trace."""
    trace = record.trace
    assert trace is not None
    attempts = range(len(record.attempts))
    return [_of_request(record, trace, gateway), *(_of_attempt(record, trace, n, gateway) for n in attempts)]


def _of_request(record: Record, trace: Trace, gateway: Gateway) -> Span:
    parent, failed = trace.parent, is_error(record) and not 400 <= record.status < 500
    error = record.error or (record.cause if record.cause != "ok" else None)
    backends = tuple(dict.fromkeys(attempt.backend for attempt in record.attempts))
    usage = record.cause != "refused"
    attributes: Attributes = {
        "http.request.method": record.method,
        "url.scheme": gateway.scheme,
        "url.path": clean(record.path),
        "http.route": clean(record.path),
        "http.response.status_code": record.status or None,
        "http.request.body.size": record.body_bytes,
        "http.response.body.size": record.reply_bytes or None,
        "error.type": error,
        **_model(record),
        "gen_ai.request.max_tokens": record.max_output_tokens or None,
        "gen_ai.response.model": _clean(record.served_model) if record.status == 200 else None,
        "gen_ai.response.time_to_first_chunk": record.ttft_s,
        "gen_ai.usage.input_tokens": record.prompt_tokens if usage else None,
        "gen_ai.usage.output_tokens": record.output_tokens if usage else None,
        "gen_ai.usage.cache_read.input_tokens": record.cached_tokens,
        "gen_ai.gateway.name": "meridian",
        "gen_ai.gateway.version": gateway.version,
        "gen_ai.gateway.request.id": clean(record.request_id),
        "gen_ai.gateway.request.model": _clean(record.model),
        "gen_ai.gateway.providers.attempted": backends or None,
        "meridian.router": gateway.name,
        "meridian.region": record.region,
        "meridian.backend": record.backend,
        "meridian.attempts": len(record.attempts),
        "meridian.cause": record.cause,
        "meridian.policy": record.policy,
        "meridian.priority": record.priority,
        "meridian.tenant": clean(record.tenant),
        "meridian.key.id": record.key_id,
        "meridian.plan": record.plan,
        "meridian.limit": record.limit,
        "meridian.limit.scope": record.limit_scope,
        "meridian.admitted_s": record.admitted_s,
        "meridian.wait_s": record.wait_s or None,
        "meridian.usage_reported": record.usage_reported if usage else None,
        "meridian.not_continued": record.not_continued,
        "meridian.repetition": record.repetition,
        "meridian.client_region": record.client_region,
    }
    return Span(
        trace.trace_id,
        trace.span_id,
        parent.span_id if parent is not None else "",
        _name(record),
        SpanKind.SERVER,
        _ns(record.arrival_s),
        _ns(record.arrival_s + record.duration_s),
        attributes,
        StatusCode.ERROR if failed else StatusCode.UNSET,
        clean(record.refusal or error or "") if failed else "",
        parent.state.decode("latin-1") if parent is not None else "",
        trace.flags,
        remote_parent=parent is not None,
    )


def _of_attempt(record: Record, trace: Trace, number: int, gateway: Gateway) -> Span:
    attempt = record.attempts[number]
    failed, began_s = attempt.outcome not in _NO_FAULT, record.arrival_s + attempt.started_s
    place = gateway.place_of(attempt.backend)
    ends_s = began_s + attempt.duration_s if attempt.duration_s is not None else record.arrival_s + record.duration_s
    attributes: Attributes = {
        "http.request.method": record.method,
        "http.response.status_code": attempt.status,
        "http.request.resend_count": number or None,
        "server.address": place.host if place is not None else None,
        "server.port": place.port if place is not None else None,
        "error.type": attempt.outcome if failed or attempt.outcome == Outcome.CLIENT_GONE.value else None,
        **_model(record),
        "gen_ai.request.model": _clean(record.served_model or record.model),
        "gen_ai.provider.name": place.engine if place is not None else None,
        "gen_ai.response.time_to_first_chunk": attempt.ttft_s,
        "meridian.region": attempt.region,
        "meridian.backend": attempt.backend,
        "meridian.attempt.kind": attempt.kind,
        "meridian.outcome": attempt.outcome,
        "meridian.predicted_ttft_s": attempt.predicted_ttft_s,
        "meridian.connect_s": attempt.connect_s,
        "meridian.first_byte_s": attempt.first_byte_s,
        "meridian.fault": attempt.fault,
    }
    return Span(
        trace.trace_id,
        attempt.span_id or trace.ended(attempt),
        trace.span_id,
        _name(record, record.served_model),
        SpanKind.CLIENT,
        _ns(began_s),
        _ns(ends_s),
        attributes,
        StatusCode.ERROR if failed else StatusCode.UNSET,
        clean(attempt.detail or "") if failed else "",
        trace.parent.state.decode("latin-1") if trace.parent is not None else "",
        trace.flags,
    )


def _model(record: Record) -> Attributes:
    return {
        "gen_ai.operation.name": operation_of(record.path),
        "gen_ai.request.model": _clean(record.model),
        "gen_ai.request.stream": record.stream,
    }


def _name(record: Record, model: str | None = None) -> str:
    return f"{operation_of(record.path)} {_clean(model or record.model) or ''}".rstrip()


def _clean(text: str | None) -> str | None:
    return None if text is None else clean(text, _NAME_MAX)


def _ns(at_s: float) -> int:
    return round(at_s * 1e9)
