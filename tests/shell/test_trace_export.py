"""Spans on their way to a collector: real HTTP, busy and failing collectors, and what is lost."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import formatdate
from random import Random

import pytest

from router.config import TracingSection
from router.telemetry import trace_export
from router.telemetry.journal import AttemptRecord, Record
from router.telemetry.spans import Gateway, Where
from router.telemetry.trace_export import TraceExporter, headers_of, url_of
from router.telemetry.tracing import BATCH_MAX, Tracing
from tests.support.collector import Answer, Collector
from tests.support.ports import free_port

GATEWAY = Gateway("edge-1", "0.1.0", "http", lambda name: Where("vllm", "10.0.0.1", 8000))


def record(tracing: Tracing, number: int = 0) -> Record:
    made = Record(f"req-{number}", 1000.0, path="/v1/completions", model="m", status=200, trace=tracing.begin(None))
    made.attempts = [AttemptRecord("us/a", "us", 0.0, "ok", span_id=f"{number + 1:016x}")]
    return made


@asynccontextmanager
async def exporting(url: str, **section: object) -> AsyncIterator[Tracing]:
    tracing = Tracing(Random(1))
    tracing.apply(TracingSection(collector=url, **section))  # type: ignore[arg-type]
    exporter = TraceExporter(tracing, GATEWAY)
    await exporter.start()
    try:
        yield tracing
    finally:
        await exporter.stop()


async def test_spans_arrive_with_their_resource() -> None:
    async with Collector() as collector:
        async with exporting(collector.url) as tracing:
            tracing.offer([record(tracing)])
            await collector.until(lambda c: len(c.spans) == 2)
            (received,) = collector.received
            assert received.resource["service.name"] == "meridian-router"
            assert received.resource["service.instance.id"] == "edge-1"
            assert received.scope == ("meridian", "0.1.0")
            request, attempt = received.spans
            assert (request.kind, attempt.kind) == (2, 3)
            assert attempt.parent_id == request.span_id
            assert request.attributes["gen_ai.operation.name"] == "text_completion"
        assert tracing.sent == 2
        assert not tracing.dropped


async def test_what_is_left_at_the_end_is_sent() -> None:
    async with Collector() as collector:
        async with exporting(collector.url) as tracing:
            tracing.offer([record(tracing, n) for n in range(3)])
        assert len(collector.spans) == 6


async def test_many_go_in_batches_and_compressed() -> None:
    async with Collector() as collector:
        async with exporting(collector.url, compression="gzip") as tracing:
            tracing.offer([record(tracing, n) for n in range(BATCH_MAX + 10)])
            await collector.until(lambda c: len(c.spans) == 2 * (BATCH_MAX + 10))
        assert len(collector.received) == 2
        assert all(r.headers["Content-Encoding"] == "gzip" for r in collector.received)


async def test_headers_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTLP_HEADERS", "api-key=s3cret, x-scope=a%20b%2Cc,broken")
    async with Collector() as collector:
        async with exporting(collector.url, headers_env="OTLP_HEADERS") as tracing:
            tracing.offer([record(tracing)])
        (received,) = collector.received
    assert received.headers["api-key"] == "s3cret"
    assert received.headers["x-scope"] == "a b,c"
    assert headers_of(TracingSection(headers_env="NOT_THERE")) == {}


@pytest.mark.parametrize("busy", [429, 502, 503, 504])
@pytest.mark.parametrize("when", ["seconds", "date"])
async def test_a_busy_collector_is_asked_again_when_it_says(busy: int, when: str) -> None:
    again = "0" if when == "seconds" else formatdate(0, usegmt=True)

    def script(number: int) -> Answer:
        return (busy, {"Retry-After": again}, b"") if number < 2 else (200, {}, b"")

    async with Collector(script) as collector:
        async with exporting(collector.url) as tracing:
            tracing.offer([record(tracing)])
            await collector.until(lambda c: len(c.spans) == 2)
        assert len({r.body for r in collector.received}) == 1
        assert (tracing.sent, tracing.dropped) == (2, {})


async def test_a_collector_that_refuses_is_not_asked_again() -> None:
    async with Collector(lambda n: (400, {}, b"no") if n == 0 else (200, {}, b"")) as collector:
        async with exporting(collector.url) as tracing:
            tracing.offer([record(tracing)])
            await collector.until(lambda c: len(c.received) == 1)
            tracing.offer([record(tracing)])
            await collector.until(lambda c: len(c.received) == 2)
        assert (tracing.sent, tracing.dropped) == (2, {"refused": 2})


async def test_a_partial_success_is_counted_and_told(caplog: pytest.LogCaptureFixture) -> None:
    async with Collector(lambda n: (200, {}, b"\x0a\x0b\x08\x01\x12\x07too old")) as collector:
        async with exporting(collector.url) as tracing:
            tracing.offer([record(tracing)])
            await collector.until(lambda c: len(c.received) == 1)
        assert (tracing.sent, tracing.dropped) == (1, {"rejected": 1})
    assert "too old" in caplog.text


async def test_a_collector_that_is_away_costs_the_spans_and_nothing_else(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(trace_export, "_RETRIES_S", 0.0)
    async with exporting(f"http://127.0.0.1:{free_port()}") as tracing:
        tracing.offer([record(tracing)])
        async with asyncio.timeout(20):
            while not tracing.dropped:  # noqa: ASYNC110
                await asyncio.sleep(0.01)
    assert (tracing.sent, tracing.dropped) == (0, {"unreachable": 2})


async def test_a_reload_switches_it_on_and_off() -> None:
    tracing = Tracing(Random(1))
    exporter = TraceExporter(tracing, GATEWAY)
    await exporter.start()
    try:
        async with Collector() as collector:
            await asyncio.sleep(0)
            tracing.apply(TracingSection(collector=collector.url))
            tracing.offer([record(tracing)])
            await collector.until(lambda c: len(c.spans) == 2)
            tracing.offer([record(tracing)])
            tracing.apply(TracingSection())
            async with asyncio.timeout(20):
                while tracing.queue:  # noqa: ASYNC110
                    await asyncio.sleep(0.01)
            assert len(collector.spans) == 2
    finally:
        await exporter.stop()


@pytest.mark.parametrize(
    ("endpoint", "url"),
    [
        ("http://collector:4318", "http://collector:4318/v1/traces"),
        ("http://collector:4318/", "http://collector:4318/v1/traces"),
        ("https://host/otlp", "https://host/otlp/v1/traces"),
        ("https://host/otlp/v1/traces", "https://host/otlp/v1/traces"),
    ],
)
def test_the_path_of_otlp_is_added(endpoint: str, url: str) -> None:
    assert url_of(endpoint) == url
