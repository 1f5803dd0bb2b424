"""Dashboard and rules in a real Prometheus that scrapes a real router with real requests."""

from __future__ import annotations

import asyncio
import json
import math
import os
from collections.abc import Iterator
from typing import Any

import aiohttp
import pytest

from tests.support.backends import Call, ScriptedBackend, say_hello, whole
from tests.support.prometheus import ROOT, Prometheus, fetched
from tests.support.router import RouterProcess, Site

ALERTS = ROOT / "deploy" / "prometheus" / "alerts.yml"
CHAT = "/v1/chat/completions"
HEAD = """\
[store]
redis = "embedded"
[plans.default]
requests_per_minute = 10000
budget_usd_day = 50.0
[plans.tiny]
requests_per_minute = 1
[models.m]
target_ttft_s = 2.0
price_usd_per_mtok = { input = 1.0, output = 2.0 }
"""
#: What has no series, or no number, when nothing of its kind has happened, or nothing of its kind is configured.
MAY_BE_EMPTY = ("Spans", "Prediction error", "KV cache", "Engine queues", "Idle backends", "GPU")


def _expressions() -> Iterator[tuple[str, str]]:
    board = json.loads((ROOT / "deploy" / "grafana" / "meridian.json").read_text())
    for panel in board["panels"]:
        for target in panel.get("targets", ()):
            yield panel["title"], _filled(target["expr"])


def _filled(expression: str) -> str:
    """As Grafana fills it in, with All chosen everywhere."""
    for variable in ("$router", "$region", "$model"):
        expression = expression.replace(variable, ".*")
    return expression.replace("$__rate_interval", "10s")


def _variables() -> Iterator[tuple[str, str]]:
    board = json.loads((ROOT / "deploy" / "grafana" / "meridian.json").read_text())
    for variable in board["templating"]["list"]:
        if variable["type"] == "query":
            selector, _, label = variable["definition"].removeprefix("label_values(").removesuffix(")").rpartition(", ")
            yield _filled(selector), label


async def _ask(http: aiohttp.ClientSession, r: RouterProcess, key: str, **more: object) -> int:
    headers = {"authorization": f"Bearer {key}", "traceparent": f"00-{'4b' * 16}-{'0f' * 8}-01"}
    body = {"model": "m", "messages": [{"role": "user", "content": "hi"}], **more}
    async with http.post(r.url + CHAT, json=body, headers=headers) as reply:
        await reply.read()
        return reply.status


async def _traffic(http: aiohttp.ClientSession, r: RouterProcess, key: str, tiny: str, stop: asyncio.Event) -> None:
    """Streams, whole answers, retries and refusals, until told to stop."""
    while not stop.is_set():
        await asyncio.gather(
            *(_ask(http, r, key, stream=True) for _ in range(4)), _ask(http, r, key), _ask(http, r, tiny)
        )
        await asyncio.sleep(0.1)


def _numbers(series: list[dict[str, Any]]) -> list[float]:
    return [float(one["value"][1]) for one in series]


async def test_every_panel_and_every_rule_reads_a_real_router(http: aiohttp.ClientSession) -> None:
    if await asyncio.to_thread(fetched, "prometheus") is None and "CI" not in os.environ:
        pytest.skip("prometheus is not installed, and Debian's package of it cannot be had")
    calls = 0

    async def sometimes_broken(call: Call) -> None:
        nonlocal calls
        calls += 1
        if calls % 7 == 0:
            await call.send(whole(500, {"error": {"message": "out of order"}}))
        else:
            await say_hello(call)

    async with ScriptedBackend(sometimes_broken) as one, ScriptedBackend() as two:
        sites = [Site("us", "a", one.url), Site("eu", "a", two.url, jurisdiction="eu")]
        router = RouterProcess(sites, head='policy = "round_robin"\n' + HEAD, wait="/readyz")
        async with router as r, Prometheus([r.admin_address], [ALERTS]) as prometheus:
            keys = [await asyncio.to_thread(r.create_key, plan, plan) for plan in ("default", "tiny")]
            stop = asyncio.Event()
            traffic = asyncio.create_task(_traffic(http, r, keys[0], keys[1], stop))
            try:
                await _panels(prometheus)
                await _rules(prometheus)
                await _money(prometheus)
                await _exemplars(prometheus)
            finally:
                stop.set()
                await traffic
            await _idle(prometheus)


async def _panels(prometheus: Prometheus) -> None:
    """Each expression has series whose values are numbers, as soon as there was traffic for some seconds."""
    wanted = [(title, expr) for title, expr in _expressions() if not title.startswith(MAY_BE_EMPTY)]
    empty = wanted
    async with asyncio.timeout(90):
        while empty:
            await asyncio.sleep(1.0)
            empty = [(t, e) for t, e in empty if not _are_numbers(_numbers(await prometheus.query(e)))]
    for title, expression in _expressions():
        if title.startswith(MAY_BE_EMPTY):
            await prometheus.query(expression)  # it runs
    for selector, label in _variables():
        found = await prometheus.query(selector)
        assert {one["metric"].get(label) for one in found} - {None, ""}, f"{selector} has no {label}"


def _are_numbers(values: list[float]) -> bool:
    return bool(values) and not any(math.isnan(value) for value in values)


async def _rules(prometheus: Prometheus) -> None:
    """All are evaluated without an error; those that are recorded have series."""
    groups = (await prometheus.ask("/api/v1/rules"))["groups"]
    rules = [rule for group in groups for rule in group["rules"]]
    assert len(rules) > 25
    assert [(rule["name"], rule.get("lastError")) for rule in rules if rule["health"] == "err"] == []
    recorded = [rule["name"] for rule in rules if rule["type"] == "recording"]
    async with asyncio.timeout(60):
        while not all([await prometheus.query(name) for name in recorded]):  # noqa: ASYNC110
            await asyncio.sleep(1.0)


async def _money(prometheus: Prometheus) -> None:
    """Dollars per hour by tenant, model and region are the same dollars; a budget is used, and less than forecast."""
    asked = {title: expr for title, expr in _expressions() if title.startswith(("Spend", "Budgets"))}
    per_hour = [sum(_numbers(await prometheus.query(e.replace("10s", "5m")))) for t, e in asked.items() if "Spend" in t]
    assert len(per_hour) == 3
    assert min(per_hour) > 0
    assert max(per_hour) < 1.5 * min(per_hour)
    (used,) = _numbers(await prometheus.query(asked["Budgets used"]))
    (forecast,) = _numbers(await prometheus.query(asked["Budgets at the end"]))
    assert 0 < used < forecast


async def _exemplars(prometheus: Prometheus) -> None:
    """Prometheus asks for OpenMetrics, and keeps the traces of first tokens."""
    found = await prometheus.ask("/api/v1/query_exemplars", query="router_ttft_seconds_bucket", start="0", end="1e11")
    traces = {exemplar["labels"]["trace_id"] for series in found for exemplar in series["exemplars"]}
    assert traces == {"4b" * 16}


async def _idle(prometheus: Prometheus) -> None:
    """Nothing is asked any more: the share of failures becomes 0, and is never not a number."""
    failed = [(title, expr) for title, expr in _expressions() if title.startswith("Fail")]
    assert len(failed) == 2
    async with asyncio.timeout(60):
        while True:
            shares = [_numbers(await prometheus.query(expr)) for _, expr in failed]
            assert all(map(_are_numbers, shares)), "empty, or not a number, while nothing is asked"
            if not any(map(any, shares)):
                return
            await asyncio.sleep(1.0)
