"""Scrapes against real sockets: what cannot be read is unknown, and nothing a page holds can hurt."""

from __future__ import annotations

import asyncio
import gzip
import logging
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from router import clock
from router.core.fleet import Fleet
from router.core.params import Params
from router.core.types import BackendSpec, LoadSample, RegionSpec
from router.observe.client import EngineClient
from router.observe.exposition import PAGE_BYTES_MAX
from router.observe.scraper import Scraper
from tests.support.pages import Answer, drip, flood, page, raw, serving, silence
from tests.support.stopwatch import Stopwatch

DATA = Path(__file__).parent.parent / "data" / "engines"
PAGE = (DATA / "vllm" / "metrics_under_load.txt").read_bytes()


@asynccontextmanager
async def scraping(
    answer: Answer, engine: str = "vllm", timeout_s: float = 0.3
) -> AsyncIterator[tuple[Scraper, Fleet]]:
    async with serving({"/metrics": answer}) as pages:
        spec = BackendSpec("r/a", RegionSpec("r"), pages.url, engine=engine)
        fleet = Fleet(Params())
        fleet.apply([spec], clock.monotonic_s())
        client = EngineClient()
        try:
            yield Scraper(spec, None, fleet, client, timeout_s=timeout_s, now_s=clock.monotonic_s), fleet
        finally:
            await client.close()


@pytest.mark.parametrize(
    ("engine", "name", "waiting"),
    [("vllm", "under_load", 3), ("sglang", "after_load", 0), ("llamacpp", "under_load", 4)],
)
async def test_real_pages_reach_the_fleet(engine: str, name: str, waiting: float) -> None:
    text = (DATA / engine / f"metrics_{name}.txt").read_bytes()
    async with scraping(page(text), engine) as (scraper, fleet):
        sample = await scraper.scrape()
        assert sample is not None
        load = fleet.backends["r/a"].others.fresh_load(clock.monotonic_s())
        assert load is not None
        assert (sample.waiting, load.waiting) == (waiting, waiting)
        assert scraper.last_error is None


async def test_a_page_of_megabytes_is_read() -> None:
    text = b"".join(PAGE.replace(b'engine="0"', b'engine="%d"' % n) for n in range(64))
    assert len(text) > 2 * 1024 * 1024
    async with scraping(page(text), timeout_s=30.0) as (scraper, _):
        sample = await scraper.scrape()
        assert sample is not None, scraper.last_error
        assert (sample.running, sample.waiting) == (64 * 4, 64 * 3)


CANNOT_BE_READ: dict[str, tuple[Answer, str]] = {
    "missing": (page(b"", status=404), "status 404"),
    "refused": (page(b"", status=401), "status 401"),
    "silent": (silence, "no answer within"),
    "dripping": (drip, "no answer within"),
    "endless": (flood, f"over {PAGE_BYTES_MAX} bytes"),
    "bomb": (page(gzip.compress(b"a 1\n" * 2_000_000), headers=b"content-encoding: gzip\r\n"), "compressed"),
    "cut": (raw(b"HTTP/1.1 200 OK\r\ncontent-length: 99999\r\n\r\n" + PAGE[:5000]), "HTTP answer"),
    "garbage": (raw(b"\x00\x01\x02\r\n\r\n"), "no valid HTTP answer"),
}


@pytest.mark.parametrize("name", CANNOT_BE_READ)
async def test_what_cannot_be_read_is_unknown(name: str) -> None:
    answer, reason = CANNOT_BE_READ[name]
    # what is judged by what it says has the time to say it
    async with scraping(answer, timeout_s=0.3 if "no answer" in reason else 30.0) as (scraper, fleet):
        watch = Stopwatch()
        assert await scraper.scrape() is None
        assert watch.elapsed_s < 1.0
        assert reason in str(scraper.last_error)
        assert fleet.backends["r/a"].others.load is None


async def test_a_failed_scrape_keeps_the_last_one_until_it_is_old() -> None:
    async with serving({"/metrics": page(PAGE)}) as pages:
        spec = BackendSpec("r/a", RegionSpec("r"), pages.url, engine="vllm")
        params = Params()
        fleet = Fleet(params)
        fleet.apply([spec], 0.0)
        client = EngineClient()
        now_s = [100.0]
        scraper = Scraper(spec, None, fleet, client, timeout_s=0.3, now_s=lambda: now_s[0])
        await scraper.scrape()
        pages.answers["/metrics"] = page(b"", status=500)
        backend = fleet.backends["r/a"]
        now_s[0] += 1
        assert await scraper.scrape() is None
        assert backend.others.fresh_load(now_s[0]) is not None
        now_s[0] += params.load_fresh_s
        assert await scraper.scrape() is None
        assert backend.others.fresh_load(now_s[0]) is None
        await client.close()


async def test_a_page_without_known_metrics_is_warned_of_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "router.observe")
    async with scraping(page(b"vllm:requests_now_running 3\n")) as (scraper, _):
        for _ in range(3):
            sample = await scraper.scrape()
            assert sample == LoadSample(sample.at_s if sample else 0.0)
        warnings = [r.getMessage() for r in caplog.records]
    assert len(warnings) == 1
    assert warnings[0].startswith("no known load metric at backend r/a (its page is not that of vllm)")


@pytest.mark.parametrize(("answer", "lines"), [(silence, [0, 0, 1, 1]), (page(b"", status=404), [1, 1, 1, 1])])
async def test_a_page_that_cannot_be_had_is_warned_of_once(
    caplog: pytest.LogCaptureFixture, answer: Answer, lines: list[int]
) -> None:
    caplog.set_level(logging.WARNING, "router.observe")
    async with scraping(answer) as (scraper, _):
        counts = []
        for _ in range(4):
            await scraper.scrape()
            counts.append(len(caplog.records))
    assert counts == lines


async def test_of_a_backend_that_is_gone_the_probe_speaks_not_the_scrape(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "router.observe")
    async with serving({}) as pages:
        gone = BackendSpec("r/a", RegionSpec("r"), pages.url, engine="vllm")
    fleet = Fleet(Params())
    fleet.apply([gone], clock.monotonic_s())
    client = EngineClient()
    scraper = Scraper(gone, None, fleet, client, timeout_s=0.3, now_s=clock.monotonic_s)
    for _ in range(5):
        assert await scraper.scrape() is None
    await client.close()
    assert scraper.last_error == "metrics: connection refused"
    assert not caplog.records


async def test_the_whole_page_is_asked_for_as_it_is() -> None:
    async with serving({"/metrics": page(PAGE)}) as pages:
        spec = BackendSpec("r/a", RegionSpec("r"), pages.url, engine="vllm")
        client = EngineClient()
        await asyncio.gather(*(client.ask(spec, "/metrics", key=None, timeout_s=1, bytes_max=2**20) for _ in range(3)))
        await client.close()
        assert all(b"Accept-Encoding: identity\r\n" in head for head in pages.requests)
