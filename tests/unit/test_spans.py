"""The spans of a request: names, parents, times, and the words of OpenTelemetry."""

from __future__ import annotations

from random import Random

import pytest

from router.telemetry.journal import AttemptRecord, Record
from router.telemetry.otlp import SpanKind, StatusCode
from router.telemetry.spans import Gateway, Where, place_of, spans_of
from router.telemetry.traces import ClientSpan, Trace

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
GATEWAY = Gateway("edge-1", "0.1.0", "https", lambda name: None if name == "gone" else Where("vllm", "10.0.0.1", 8000))


def record(*attempts: AttemptRecord, parent: ClientSpan | None = None, **changes: object) -> Record:
    made = Record(
        "req-1",
        1000.0,
        path="/v1/chat/completions",
        model="fast",
        served_model="llama",
        stream=True,
        status=200,
        ttft_s=0.25,
        duration_s=2.0,
        prompt_tokens=100,
        output_tokens=20,
        cached_tokens=64,
        key_id="key_1",
        tenant="acme",
        trace=Trace(parent, Random(1)),
    )
    made.attempts = list(attempts)
    for name, value in changes.items():
        setattr(made, name, value)
    return made


OK = AttemptRecord("us/a", "us", 0.01, "ok", 0.24, 0.2, 200, duration_s=1.9, span_id="b" * 16)


def test_a_request_has_a_span_and_its_attempt_one_below() -> None:
    parent = ClientSpan(TRACE, SPAN, 1, b"rojo=1")
    request, attempt = spans_of(record(OK, parent=parent), GATEWAY)
    assert request.kind is SpanKind.SERVER
    assert (request.name, request.trace_id, request.parent_id) == ("chat fast", TRACE, SPAN)
    assert request.remote_parent
    assert request.trace_state == "rojo=1"
    assert (request.start_ns, request.end_ns) == (1000 * 10**9, 1002 * 10**9)
    assert attempt.kind is SpanKind.CLIENT
    assert (attempt.name, attempt.trace_id, attempt.parent_id) == ("chat llama", TRACE, request.span_id)
    assert attempt.span_id == "b" * 16
    assert not attempt.remote_parent
    assert attempt.end_ns - attempt.start_ns == pytest.approx(1.9e9, rel=1e-6)
    assert request.status is attempt.status is StatusCode.UNSET


def test_the_words_are_those_of_the_conventions() -> None:
    request, attempt = spans_of(record(OK), GATEWAY)
    assert (
        request.attributes.items()
        >= {
            "gen_ai.operation.name": "chat",
            "gen_ai.request.model": "fast",
            "gen_ai.request.stream": True,
            "gen_ai.response.model": "llama",
            "gen_ai.response.time_to_first_chunk": 0.25,
            "gen_ai.usage.input_tokens": 100,
            "gen_ai.usage.output_tokens": 20,
            "gen_ai.usage.cache_read.input_tokens": 64,
            "gen_ai.gateway.name": "meridian",
            "gen_ai.gateway.request.id": "req-1",
            "http.request.method": "POST",
            "http.response.status_code": 200,
            "url.path": "/v1/chat/completions",
            "url.scheme": "https",
            "meridian.router": "edge-1",
            "meridian.region": "us",
            "meridian.key.id": "key_1",
        }.items()
    )
    assert (
        attempt.attributes.items()
        >= {
            "gen_ai.operation.name": "chat",
            "gen_ai.provider.name": "vllm",
            "gen_ai.request.model": "llama",
            "server.address": "10.0.0.1",
            "server.port": 8000,
            "http.response.status_code": 200,
            "meridian.backend": "us/a",
            "meridian.attempt.kind": "first",
        }.items()
    )
    assert "gen_ai.usage.input_tokens" not in attempt.attributes, "tokens are counted once, at the request"
    assert attempt.attributes["error.type"] is None


def test_every_attempt_has_its_own_span_and_error() -> None:
    dead = AttemptRecord("gone", "us", 0.0, "unreachable", detail="refused", duration_s=0.1)
    rest = AttemptRecord("us/b", "us", 0.5, "ok", kind="continue", duration_s=1.5)
    request, first, second = spans_of(record(dead, rest), GATEWAY)
    assert (first.status, first.message, first.attributes["error.type"]) == (
        StatusCode.ERROR,
        "refused",
        "unreachable",
    )
    assert first.attributes["server.address"] is None, "the backend was removed meanwhile"
    assert second.status is StatusCode.UNSET
    assert second.attributes["meridian.attempt.kind"] == "continue"
    assert second.attributes["http.request.resend_count"] == 1
    assert request.status is StatusCode.UNSET, "the client has not seen it"
    assert request.attributes["gen_ai.gateway.providers.attempted"] == ("gone", "us/b")
    assert len({request.span_id, first.span_id, second.span_id}) == 3


@pytest.mark.parametrize(
    ("changes", "status", "error"),
    [
        ({"status": 503, "error": "no_backend_usable", "cause": "refused"}, StatusCode.ERROR, "no_backend_usable"),
        ({"error": "stream_interrupted", "cause": "truncated"}, StatusCode.ERROR, "stream_interrupted"),
        ({"status": 429, "error": "quota_exhausted", "cause": "refused"}, StatusCode.UNSET, "quota_exhausted"),
        ({"status": 499, "error": "client_gone", "cause": "client_gone"}, StatusCode.UNSET, "client_gone"),
    ],
)
def test_only_faults_that_are_not_the_clients_are_errors(
    changes: dict[str, object], status: StatusCode, error: str
) -> None:
    (request,) = spans_of(record(**changes), GATEWAY)  # type: ignore[arg-type]
    assert (request.status, request.attributes["error.type"]) == (status, error)


@pytest.mark.parametrize("outcome", ["ok", "superseded", "moved", "client_gone"])
def test_ends_that_are_nobodys_fault_are_no_errors(outcome: str) -> None:
    _, attempt = spans_of(record(AttemptRecord("us/a", "us", 0.0, outcome)), GATEWAY)
    assert attempt.status is StatusCode.UNSET
    assert attempt.attributes["meridian.outcome"] == outcome


def test_a_place_is_read_from_a_url() -> None:
    assert place_of(("vllm", "http://[::1]:8000/x")) == Where("vllm", "::1", 8000)
    assert place_of(("openai", "https://api.example.com")) == Where("openai", "api.example.com", 443)
    assert place_of(None) is None
