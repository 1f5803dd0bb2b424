"""When engines are asked whether they can continue answers: against simulated and scripted ones, over sockets."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from router import clock
from router.config import Config, parse
from router.core.fleet import Fleet
from router.core.params import Params
from router.core.traits import Continues
from router.core.types import LoadSample
from router.observe import proving
from router.observe.observer import Observer
from tests.shell.test_prober import VLLM, observing, until
from tests.support.pages import page, serving
from tests.support.sim_engine import Client
from tests.support.sim_engine import engine as simulated


def url_of(sim: Client) -> str:
    return f"http://127.0.0.1:{sim.server.port}"


def answers_of(sim: Client) -> int:
    return sum(sim.server.finished_by_reason.values())


def config_of(*urls: str, engine: str = "vllm", extra: str = "") -> Config:
    backends = "".join(
        f'[[regions.backends]]\nname = "b{n}"\nurl = "{url}"\nengine = "{engine}"\n{extra}\n'
        for n, url in enumerate(urls)
    )
    text = f"[probes]\ninterval = 0.05\ntimeout = 2\n[[regions]]\nname = 'r'\n{backends}"
    return parse(text, "regions.toml", env={}, secrets=False)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proving, "_FIRST_S", 0.02)
    monkeypatch.setattr(proving, "_BUSY_S", 0.02)
    monkeypatch.setattr(proving, "_AGAIN_S", 0.02)


def how(observer: Observer, name: str = "r/b0") -> str:
    finding = observer.continues(name)
    assert finding is not None
    return finding.word


@pytest.mark.parametrize(("kind", "word"), [("vllm", "ids"), ("sglang", "text"), ("llamacpp", "text")])
async def test_each_kind_of_engine_is_asked_once(kind: str, word: str) -> None:
    async with simulated(kind) as sim, observing(config_of(url_of(sim), engine=kind)) as (observer, fleet):
        backend = fleet.backends["r/b0"]
        assert backend.continues is Continues.NO, "nothing is continued before it is proved"
        await until(lambda: how(observer) == word)
        assert backend.continues is Continues[word.upper()]
        asked = answers_of(sim)
        await asyncio.sleep(0.5)  # ten probes
        assert answers_of(sim) == asked
        assert 2 <= asked <= 5
        assert backend.inflight == backend.requests_total == 0
        assert backend.reputation.failures_total == 0


async def test_requests_that_waited_for_an_engine_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proving, "_FIRST_S", 60.0)
    async with simulated("vllm") as sim, observing(config_of(url_of(sim))) as (observer, fleet):
        await until(lambda: fleet.backends["r/b0"].models)
        await asyncio.sleep(0.3)
        assert answers_of(sim) == 0
        assert how(observer) == "unknown"


async def test_it_is_asked_again_after_it_was_away() -> None:
    async with simulated("vllm") as sim, observing(config_of(url_of(sim))) as (observer, fleet):
        await until(lambda: how(observer) == "ids")
        before = observer.continues("r/b0")
        port = sim.server.port
        await sim.server.stop()
        await until(lambda: fleet.backends["r/b0"].health.last_probe_ok is False)
        await sim.server.start(port=port)
        await until(lambda: observer.continues("r/b0") != before)
        assert how(observer) == "ids"


async def test_one_that_does_not_take_the_question_cannot(caplog: pytest.LogCaptureFixture) -> None:
    async with serving(VLLM | {"/v1/chat/completions": page(b"{}", status=404)}) as engine:
        async with observing(config_of(engine.url)) as (observer, fleet):
            await until(lambda: how(observer) == "no")
            assert fleet.backends["r/b0"].continues is Continues.NO
    assert any("cannot continue answers" in record.message for record in caplog.records)


async def test_failures_of_the_question_are_no_faults_and_it_is_asked_again() -> None:
    async with serving(VLLM | {"/v1/chat/completions": page(b"{}", status=503)}) as engine:
        async with observing(config_of(engine.url)) as (observer, fleet):
            asked = b"POST /v1/chat/completions"
            await until(lambda: sum(head.startswith(asked) for head in engine.requests) >= 3)
            finding = observer.continues("r/b0")
            assert finding is not None
            assert finding.how is None
            assert "503" in finding.reason
            assert fleet.backends["r/b0"].reputation.failures_total == 0


async def test_a_busy_engine_is_left_alone_for_a_while(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(proving, "_LOOKS_MAX", 25)
    looks = 0

    async with simulated("vllm") as sim:
        config = config_of(url_of(sim))
        fleet = Fleet(Params())
        fleet.apply(config.backends, clock.monotonic_s())
        backend = fleet.backends["r/b0"]

        def busy(now_s: float) -> LoadSample:
            nonlocal looks
            looks += 1
            return LoadSample(now_s, running=8, waiting=3)

        monkeypatch.setattr(type(backend.others), "fresh_load", lambda self, now_s: busy(now_s))
        observer = Observer(fleet, config)
        await observer.start()
        try:
            await until(lambda: looks > 10)
            assert how(observer) == "unknown"
            await until(lambda: how(observer) == "ids")  # at last it is asked all the same
        finally:
            await observer.stop()


@pytest.mark.parametrize(("extra", "word"), [('continues = "no"', "no"), ('continues = "text"', "text")])
async def test_what_is_configured_is_not_asked(extra: str, word: str) -> None:
    async with simulated("vllm") as sim, observing(config_of(url_of(sim), extra=extra)) as (observer, fleet):
        await until(lambda: fleet.backends["r/b0"].models)
        assert how(observer) == word
        assert fleet.backends["r/b0"].continues is Continues[word.upper()]
        await asyncio.sleep(0.2)
        assert answers_of(sim) == 0


async def test_one_engine_is_asked_at_a_time_and_stopping_ends_it() -> None:
    asked: list[Any] = []

    async def silent(writer: asyncio.StreamWriter) -> bool:
        asked.append(writer)
        await asyncio.sleep(60)
        return False

    async with serving(VLLM | {"/v1/chat/completions": silent}) as engine:
        async with observing(config_of(engine.url, engine.url, engine.url)):
            await until(lambda: asked)
            await asyncio.sleep(0.2)
            assert len(asked) == 1
        began_s = asyncio.get_running_loop().time()
    assert asyncio.get_running_loop().time() - began_s < 5.0
