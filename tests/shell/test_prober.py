"""Probes against real sockets: distance, verdicts, models, and what the fleet makes of them."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import pytest

from router import clock, tasks
from router.config import Config, parse
from router.core.fleet import Fleet
from router.core.health import State
from router.core.params import Params
from router.observe.observer import Observer
from router.observe.prober import Prober, ProbeResult
from tests.support.pages import Answer, Pages, drip, flood, page, raw, serving, silence
from tests.support.stopwatch import Stopwatch

DATA = Path(__file__).parent.parent / "data" / "engines"
VLLM: dict[str, Answer] = {
    "/health": page(b""),
    "/v1/models": page((DATA / "vllm" / "models.json").read_bytes()),
    "/metrics": page((DATA / "vllm" / "metrics_under_load.txt").read_bytes()),
}


def config_of(
    *pages: Pages, engine: str = "vllm", interval: float = 0.05, timeout: float = 0.2, extra: str = ""
) -> Config:
    backends = "".join(
        f'[[regions.backends]]\nname = "b{n}"\nurl = "{p.url}"\nengine = "{engine}"\n{extra}\n'
        for n, p in enumerate(pages)
    )
    text = f"[probes]\ninterval = {interval}\ntimeout = {timeout}\n[[regions]]\nname = 'r'\n{backends}"
    return parse(text, "regions.toml", env={"KEY": "secret"}, secrets=False)


@asynccontextmanager
async def observing(
    config: Config, refused: Callable[[str], None] | None = None
) -> AsyncIterator[tuple[Observer, Fleet]]:
    fleet = Fleet(Params())
    fleet.apply(config.backends, clock.monotonic_s())
    observer = Observer(fleet, config, refused=refused)
    await observer.start()
    try:
        yield observer, fleet
    finally:
        await observer.stop()


async def until(condition: Callable[[], object], timeout_s: float = 30.0) -> None:
    deadline_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline_s, "it did not come to that"
        await asyncio.sleep(0.01)


async def test_first_contact_tells_distance_models_and_load() -> None:
    async with serving(dict(VLLM)) as engine, observing(config_of(engine, interval=60)) as (_, fleet):
        backend = fleet.backends["r/b0"]
        await until(lambda: backend.models and backend.others.load and backend.rtt.mean_s is not None)
        assert backend.models == {"tiny", "tiny-alias"}
        assert fleet.models() == ["tiny", "tiny-alias"]
        assert backend.others.load is not None
        assert backend.others.load.waiting == 3
        assert 0 < backend.rtt_s < 0.2


async def test_the_round_trip_is_that_of_a_warm_connection() -> None:
    connections: list[object] = []

    async def health(writer: asyncio.StreamWriter) -> bool:
        """Slow to the first request of a connection, as a proxy that shakes hands of its own is."""
        await asyncio.sleep(0.05 if writer in connections else 1.5)
        connections.append(writer)
        return await page(b"")(writer)

    async with (
        serving(VLLM | {"/health": health}) as engine,
        observing(config_of(engine, timeout=10.0)) as (_, fleet),
    ):
        await until(lambda: fleet.backends["r/b0"].rtt.mean_s is not None)
        await until(lambda: engine.count("/health") >= 6)
        rtt = fleet.backends["r/b0"].rtt
        assert rtt.mean_s is not None
        assert rtt.floor_s is not None
        assert 0.045 <= rtt.floor_s <= rtt.mean_s < 0.75
        assert engine.connections <= 3, "the connection is kept warm"


async def test_configured_models_are_not_asked_for() -> None:
    async with (
        serving(dict(VLLM)) as engine,
        observing(config_of(engine, extra='models = ["mine"]')) as (_, fleet),
    ):
        await until(lambda: engine.count("/health") >= 3)
        assert engine.count("/v1/models") == 0
        assert fleet.models() == ["mine"]


async def test_sglang_is_not_asked_for_its_health() -> None:
    answers = {"/v1/models": VLLM["/v1/models"], "/metrics": VLLM["/metrics"]}
    async with serving(answers) as engine, observing(config_of(engine, engine="sglang")) as (_, fleet):
        await until(lambda: engine.count("/v1/models") >= 3 and fleet.backends["r/b0"].models)
        assert not any(b"/health" in head for head in engine.requests)
        assert fleet.backends["r/b0"].models == {"tiny", "tiny-alias"}


async def test_openai_and_router_have_no_page_to_scrape() -> None:
    for name, path in (("openai", "/v1/models"), ("router", "/readyz")):
        answers = {"/v1/models": VLLM["/v1/models"], "/readyz": page(b"{}")}
        async with serving(answers) as engine, observing(config_of(engine, engine=name)) as (_, fleet):
            await until(lambda engine=engine, path=path: engine.count(path) >= 3)
            assert engine.count("/metrics") == 0
            assert fleet.backends["r/b0"].others.load is None


async def test_the_key_goes_to_its_own_backend_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KEY", "secret\n")
    async with serving(dict(VLLM)) as first, serving(dict(VLLM)) as second:
        text = config_of(first, second, extra="")
        keyed = config_of(first, extra='key_env = "KEY"')
        region = text.regions[0]
        both = (keyed.backends[0], region.backends[1])
        config = Config(probes=text.probes, regions=(type(region)(region.spec, both),))
        async with observing(config):
            await until(lambda: first.count("/metrics") and second.count("/metrics"))
            await until(lambda: first.count("/health") and second.count("/health"))
    assert all(b"Authorization: Bearer secret\r\n" in head for head in first.requests)
    assert not any(b"uthorization" in head for head in second.requests)
    assert all(f"Host: 127.0.0.1:{first.port}\r\n".encode() in head for head in first.requests)


async def test_a_refused_connection_takes_a_backend_out_and_its_return_brings_it_back() -> None:
    refusals: list[str] = []
    async with serving(dict(VLLM)) as engine, observing(config_of(engine, interval=1.0), refusals.append) as (_, fleet):
        backend = fleet.backends["r/b0"]
        await until(lambda: backend.models)
        await engine.close()
        watch = Stopwatch()
        await until(lambda: backend.state is State.EJECTED)
        assert watch.elapsed_s < 2.0, "confirmed in quick succession, not an interval each"
        await until(lambda: refusals)
        await asyncio.sleep(0.3)
        assert refusals == ["r/b0"], "told once per absence"
        asked = engine.count("/v1/models")
        await engine.listen(engine.port)
        await until(lambda: backend.state is State.PROBATION and backend.usable(clock.monotonic_s()))
        await until(lambda: engine.count("/v1/models") > asked)


async def test_models_that_change_while_the_backend_is_away_are_learned() -> None:
    async with serving(dict(VLLM)) as engine, observing(config_of(engine)) as (_, fleet):
        backend = fleet.backends["r/b0"]
        await until(lambda: backend.models)
        await engine.close()
        await until(lambda: backend.state is State.EJECTED)
        engine.answers["/v1/models"] = page(b'{"data": [{"id": "other"}]}')
        await engine.listen(engine.port)
        await until(lambda: backend.models == {"other"})


async def test_what_was_known_of_models_outlives_a_bad_answer() -> None:
    async with serving(dict(VLLM)) as engine, observing(config_of(engine)) as (observer, fleet):
        backend = fleet.backends["r/b0"]
        await until(lambda: backend.models)
        for bad in (page(b"oops", status=500), page(b"{}"), raw(b"HTTP/1.1 200 OK\r\n\r\n{"), silence):
            engine.answers["/v1/models"] = bad
            await observer.probe_now("r/b0")
            assert backend.models == {"tiny", "tiny-alias"}


BAD: dict[str, tuple[Answer, str]] = {
    "starting": (page(b'{"error": {"message": "Loading model"}}', status=503), "status 503"),
    "key refused": (page(b"", status=401), "refuses the key"),
    "elsewhere": (page(b"", status=302, headers=b"location: http://127.0.0.1:1/\r\n"), "redirected"),
    "silent": (silence, "no answer within"),
    "dripping": (drip, "no answer within"),
    "endless": (flood, "over 1048576 bytes"),
    "closed": (raw(b""), "closed before an answer"),
    "not HTTP": (raw(b"SSH-2.0-OpenSSH_9.2\r\n"), "no valid HTTP answer"),
    "half an answer": (raw(b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nabc"), "HTTP answer"),
    "huge head": (raw(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 100_000 + b"\r\n\r\n"), "no valid HTTP answer"),
    "compressed": (page(b"\x1f\x8b\x08", headers=b"content-encoding: gzip\r\n"), "compressed"),
}


@pytest.mark.parametrize("name", BAD)
async def test_bad_answers_are_failures_with_a_reason(name: str) -> None:
    answer, reason = BAD[name]
    timeout_s = 0.2 if "no answer" in reason else 30.0  # what is judged by what it says has the time to say it
    config = partial(config_of, timeout=timeout_s)
    async with serving(VLLM | {"/health": answer}) as engine, observing(config(engine)) as (observer, fleet):
        watch = Stopwatch()
        result = await observer.probe_now("r/b0")
        assert watch.elapsed_s < 1.0
        assert not result["ok"]
        assert reason in result["error"], result
        assert str(engine.port) not in result["error"]
        assert observer.last_error("r/b0") == result["error"]
        await until(lambda: fleet.backends["r/b0"].state is State.EJECTED)


@pytest.mark.parametrize("status", [200, 204, 404, 405, 429])
async def test_a_front_end_that_answers_is_alive(status: int) -> None:
    async with serving(VLLM | {"/health": page(b"", status=status)}) as engine, observing(config_of(engine)) as (o, _):
        assert (await o.probe_now("r/b0"))["ok"]


async def test_one_bad_probe_changes_nothing() -> None:
    async with serving(dict(VLLM)) as engine, observing(config_of(engine, interval=60)) as (observer, fleet):
        await until(lambda: fleet.backends["r/b0"].models)
        engine.answers["/health"] = page(b"", status=500)
        assert not (await observer.probe_now("r/b0"))["ok"]
        assert fleet.backends["r/b0"].state is State.HEALTHY


async def test_a_silent_backend_disturbs_no_other() -> None:
    dead = dict.fromkeys(VLLM, silence)
    async with (
        serving(dead) as hung,
        serving(dict(VLLM)) as well,
        observing(config_of(*[hung] * 8, well, timeout=5.0)) as (_, fleet),
    ):
        await until(lambda: well.count("/health") >= 10)
        assert fleet.backends["r/b8"].models


async def test_a_name_that_does_not_resolve_is_a_failure() -> None:
    nowhere = Pages({}, url="http://no-such-host.invalid:80")
    async with observing(config_of(nowhere, timeout=2.0)) as (observer, _):
        result = await observer.probe_now("r/b0")
        assert not result["ok"]


async def test_reload_watches_what_is_new_and_lets_go_of_what_is_gone() -> None:
    async with (
        serving(dict(VLLM)) as first,
        serving(dict(VLLM)) as second,
        observing(config_of(first)) as (observer, fleet),
    ):
        await until(lambda: first.count("/health") and first.count("/metrics"))
        warm = set(first.writers)
        both = config_of(first, second)
        fleet.apply(both.backends, clock.monotonic_s())
        observer.reload(both)
        await until(lambda: second.count("/health") and fleet.backends["r/b1"].models)
        assert warm <= first.writers, "what did not change is watched on undisturbed"
        moved = config_of(second)
        fleet.apply(moved.backends, clock.monotonic_s())
        observer.reload(moved)
        await asyncio.sleep(0.05)
        asked = len(first.requests)
        await asyncio.sleep(0.2)
        assert len(first.requests) == asked
        with pytest.raises(KeyError):
            await observer.probe_now("r/b1")


async def test_stopping_leaves_nothing_behind() -> None:
    async with serving(dict(VLLM)) as engine:
        async with observing(config_of(engine)):
            await until(lambda: engine.count("/health") >= 2)
        assert not [t for t in asyncio.all_tasks() if t.get_name().startswith(("probe", "scrape"))]
        await until(lambda: not engine.writers)


async def test_an_unforeseen_fault_is_told_once_and_does_not_end_the_watch(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "PAUSE_S", 0.001)
    faults = 0
    honest = Prober.probe

    async def faulty(self: Prober, *, ask_models: bool = False) -> ProbeResult:
        nonlocal faults
        faults += 1
        if faults <= 5:
            raise ValueError("nobody foresaw this")
        return await honest(self, ask_models=ask_models)

    monkeypatch.setattr(Prober, "probe", faulty)
    async with serving(VLLM) as engine, observing(config_of(engine)) as (_, fleet):
        await until(lambda: fleet.backends["r/b0"].models)
    told = [r for r in caplog.records if r.exc_info is not None]
    assert 1 <= len(told) < 5
    assert "probe r/b0" in told[0].getMessage()


async def test_a_state_change_is_logged_once_not_at_each_probe(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "router.observe")
    async with serving(VLLM | {"/health": page(b"", status=500)}) as engine, observing(config_of(engine)):
        await until(lambda: engine.count("/health") >= 5)
        engine.answers["/health"] = page(b"")
        await until(lambda: engine.count("/health") >= 8)
    fails = [r.getMessage() for r in caplog.records if "fails its probe" in r.getMessage()]
    again = [r.getMessage() for r in caplog.records if "answers its probe again" in r.getMessage()]
    assert (len(fails), len(again)) == (1, 1)


@pytest.mark.parametrize(
    "answer", [page(b"", status=401), page(b'{"data": []}'), raw(b"")], ids=["401", "empty", "cut"]
)
async def test_a_backend_that_names_no_models_is_asked_more_rarely_and_told_of_once(
    caplog: pytest.LogCaptureFixture, answer: Answer
) -> None:
    caplog.set_level(logging.WARNING, "router.observe")
    async with serving(VLLM | {"/v1/models": answer}) as engine, observing(config_of(engine, interval=0.02)):
        await until(lambda: engine.count("/health") >= 60)
        assert engine.count("/v1/models") < engine.count("/health") / 4
    assert len([r for r in caplog.records if "models" in r.getMessage()]) == 1
