"""Traces of a real router: what a collector gets, and what backends are told."""

from __future__ import annotations

import asyncio
import re
import urllib.request

import aiohttp

from tests.integration.conftest import OPEN
from tests.support.backends import Call, ScriptedBackend, whole
from tests.support.collector import CollectedSpan, Collector
from tests.support.router import RouterProcess, Site

CHAT = "/v1/chat/completions"
ASK = {"model": "m", "messages": [{"role": "user", "content": "hi"}]}
TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def head(collector: Collector, more: str = "") -> str:
    return f'{OPEN}[tracing]\nendpoint = "{collector.url}"\n{more}\n'


def told(call: Call, name: str) -> list[str]:
    return re.findall(rf"(?im)^{name}: (.*?)\r?$", call.head.decode())


def by_kind(spans: list[CollectedSpan]) -> tuple[CollectedSpan, list[CollectedSpan]]:
    (request,) = [span for span in spans if span.kind == 2]
    return request, [span for span in spans if span.kind == 3]


async def test_a_stream_and_the_trace_of_its_client(http: aiohttp.ClientSession) -> None:
    headers = {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "rojo=1"}
    async with Collector() as collector, ScriptedBackend() as b:
        async with RouterProcess([Site("us", "a", b.url)], head=head(collector)) as r:
            async with http.post(r.url + CHAT, json=ASK | {"stream": True}, headers=headers) as reply:
                await reply.read()
                request_id = reply.headers["x-request-id"]
            await collector.until(lambda c: len(c.spans) == 2)
            record = r.record(request_id)
        request, (attempt,) = by_kind(collector.spans)
    assert request.trace_id == attempt.trace_id == record["trace_id"] == TRACE
    assert (request.parent_id, attempt.parent_id) == (SPAN, request.span_id)
    assert request.trace_state == "rojo=1"
    assert told(b.calls[0], "traceparent") == [f"00-{TRACE}-{attempt.span_id}-01"], "the parent there is the attempt"
    assert told(b.calls[0], "tracestate") == ["rojo=1"]
    assert record["attempts"][0]["span_id"] == attempt.span_id
    assert request.name == attempt.name == "chat m"
    assert request.attributes["gen_ai.gateway.request.id"] == request_id
    assert request.attributes["gen_ai.response.time_to_first_chunk"] > 0
    assert attempt.attributes["server.port"] == b.port
    assert request.start_ns <= attempt.start_ns <= attempt.end_ns <= request.end_ns + 10**7


async def test_a_retry_has_two_attempts_and_an_invalid_trace_begins_again(http: aiohttp.ClientSession) -> None:
    async def broken(call: Call) -> None:
        await call.send(whole(500, {"error": {"message": "out of order"}}))

    headers = {"traceparent": f"00-{'0' * 32}-{SPAN}-01", "tracestate": "rojo=1"}
    async with Collector() as collector, ScriptedBackend(broken) as bad, ScriptedBackend() as good:
        sites = [Site("us", "a", bad.url), Site("us", "b", good.url)]
        async with RouterProcess(sites, head='policy = "round_robin"\n' + head(collector, "sample = 0.0")) as r:
            for _ in range(20):
                async with http.post(r.url + CHAT, json=ASK, headers=headers) as reply:
                    assert reply.status == 200
                    if reply.headers["x-router-attempts"] == "2":
                        break
            await collector.until(lambda c: any(s.status == 2 for s in c.spans))
        request, attempts = by_kind(collector.spans)
    first, second = attempts
    assert len(collector.spans) == 3, "the ordinary ones are not exported"
    assert request.trace_id not in (TRACE, "0" * 32)
    assert request.parent_id == ""
    assert request.attributes["meridian.attempts"] == 2
    assert (first.attributes["error.type"], first.attributes["meridian.backend"]) == ("server_error", "us/a")
    assert (second.status, second.attributes["meridian.attempt.kind"]) == (0, "retry")
    assert told(bad.calls[-1], "traceparent") == [f"00-{request.trace_id}-{first.span_id}-00"]
    assert told(good.calls[-1], "traceparent") == [f"00-{request.trace_id}-{second.span_id}-00"]
    assert told(good.calls[-1], "tracestate") == []


async def test_a_continued_stream_has_a_span_for_each_leg(http: aiohttp.ClientSession) -> None:
    calls: list[Call] = []

    async def scripted(call: Call) -> None:
        calls.append(call)
        if len(calls) == 1:
            await call.stream("one ", "two ", finish=False)
            call.reset()
        else:
            await call.stream("three ", "four")

    async with Collector() as collector, ScriptedBackend(scripted) as first, ScriptedBackend(scripted) as second:
        sites = [
            Site("us", "a", first.url, continues="text"),
            Site("eu", "b", second.url, continues="text"),
        ]
        async with RouterProcess(sites, head=head(collector)) as r:
            async with http.post(r.url + CHAT, json=ASK | {"stream": True}) as reply:
                body = await reply.read()
            assert b"[DONE]" in body
            await collector.until(lambda c: len(c.spans) == 3)
        request, attempts = by_kind(collector.spans)
    assert [a.attributes["meridian.attempt.kind"] for a in attempts] == ["first", "continue"]
    assert attempts[0].attributes["error.type"] == "truncated"
    assert request.status == 0
    told_ids = [told(call, "traceparent")[0].split("-")[2] for call in calls]
    assert told_ids == [a.span_id for a in attempts]


async def test_without_a_collector_traces_pass_through(http: aiohttp.ClientSession) -> None:
    headers = {"traceparent": f"00-{TRACE}-{SPAN}-01", "tracestate": "rojo=1"}
    async with ScriptedBackend() as b, RouterProcess([Site("us", "a", b.url)], head=OPEN) as r:
        async with http.post(r.url + CHAT, json=ASK, headers=headers) as reply:
            record = r.record(reply.headers["x-request-id"])
        async with http.post(r.url + CHAT, json=ASK) as reply:
            assert reply.status == 200
    assert told(b.calls[0], "traceparent") == [f"00-{TRACE}-{SPAN}-01"]
    assert record["trace_id"] == TRACE
    assert told(b.calls[1], "traceparent") == []


async def test_a_collector_that_is_away_is_told_by_metrics_and_harms_nobody(http: aiohttp.ClientSession) -> None:
    async with Collector(lambda n: (403, {}, b"")) as collector, ScriptedBackend() as b:
        async with RouterProcess([Site("us", "a", b.url)], head=head(collector)) as r:
            async with http.post(r.url + CHAT, json=ASK) as reply:
                assert reply.status == 200
            await collector.until(lambda c: len(c.received) == 1)

            def page() -> str:
                with urllib.request.urlopen(r.admin + "/metrics", timeout=10) as answer:
                    return str(answer.read().decode())

            async with asyncio.timeout(20):
                while 'router_spans_dropped_total{reason="refused"} 2' not in await asyncio.to_thread(page):  # noqa: ASYNC110
                    await asyncio.sleep(0.05)
