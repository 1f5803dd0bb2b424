"""The owner of the sources (router.discovery.sources): tasks that follow the file, and one call for many changes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from router.config import Config, parse
from router.core.roll import Sighting
from router.core.types import BackendSpec
from router.discovery.sources import Sources
from tests.support.name_server import NameServer, name_server


def config(server: NameServer, *, name: str = "gpus", host: str = "vllm.internal:8000", more: str = "") -> Config:
    text = f"""
[[regions]]
name = "us-east"
  [[regions.backends]]
  name = "a"
  url = "http://127.0.0.1:1"

[[sources]]
name = "{name}"
kind = "dns"
region = "us-east"
host = "{host}"
nameserver = "{server.address}"
{more}
"""
    return parse(text, "regions.toml")


class Run:
    def __init__(self) -> None:
        self.sources = Sources(busy=lambda name: False)
        self.sources.changed = self.changed
        self.calls = 0

    def changed(self) -> None:
        self.calls += 1
        self.sources.stand()

    def names(self) -> list[str]:
        return [spec.name for spec in self.sources.call.specs]


@asynccontextmanager
async def running(first: Config) -> AsyncIterator[Run]:
    run = Run()
    run.sources.reload(first)
    run.sources.stand()
    await run.sources.start()
    try:
        yield run
    finally:
        await run.sources.stop()


async def until(what: Callable[[], object]) -> None:
    async with asyncio.timeout(10):
        while not what():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_what_a_source_finds_stands_after_the_file() -> None:
    async with name_server() as server:
        server.put("vllm.internal", "A", "10.0.0.1")
        async with running(config(server)) as run:
            assert run.names() == ["us-east/a"]
            await until(lambda: run.names() == ["us-east/a", "us-east/10.0.0.1-8000"])
            assert run.sources.heard


async def test_a_reload_begins_and_ends_sources_and_leaves_the_others_alone() -> None:
    async with name_server(ttl_s=300) as server:
        server.put("vllm.internal", "A", "10.0.0.1")
        server.put("other.internal", "A", "10.0.0.2")
        async with running(config(server)) as run:
            await until(lambda: len(run.names()) == 2)
            asked = len(server.asked)
            run.sources.reload(config(server))
            run.changed()
            assert len(run.names()) == 2
            run.sources.reload(config(server, host="other.internal:9000"))
            await until(lambda: "us-east/10.0.0.2-9000" in run.names())
            assert len(server.asked) == asked + 2, "only what has changed is asked for again"
            run.sources.reload(config(server, name="new"))
            await until(lambda: run.names() == ["us-east/a", "us-east/10.0.0.1-8000"])
            assert list(run.sources.reports) == ["file", "registered", "new"]


async def test_a_source_that_is_away_says_why_once_and_is_heard_again(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "router.discovery")
    async with name_server(code=2) as server:
        server.put("vllm.internal", "A", "10.0.0.1")
        async with running(config(server)) as run:
            await until(lambda: run.sources.reports["gpus"].problem)
            assert run.sources.heard, "clients are not kept waiting for it"
            server.code = 0
            await until(lambda: len(run.names()) == 2)
            assert run.sources.reports["gpus"].problem is None
    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "the source gpus cannot be heard: the name server failed"
    assert lines[-1] == "the source gpus is heard again"


async def test_many_changes_are_taken_together() -> None:
    async with name_server(ttl_s=300) as server:
        server.put("vllm.internal", "A")
        async with running(config(server)) as run:
            await until(lambda: run.sources.reports["gpus"].heard_s is not None)
            region = run.sources.config.regions[0].spec
            before = run.calls
            for n in range(200):
                spec = BackendSpec(f"us-east/p{n}", region, f"http://10.0.0.{n}:1")
                run.sources.tell("gpus", [Sighting(spec)])
            await until(lambda: "us-east/p199" in run.names())
            assert run.calls - before <= 4


async def test_which_backends_may_come_from_a_source_that_was_never_heard() -> None:
    async with name_server() as server:
        async with running(config(server, more='models = ["m"]')) as run:
            await until(lambda: run.sources.reports["gpus"].problem is not None)
            asked = [("m", "us-east"), ("m", None), ("m", "eu-west"), ("other", "us-east")]
            assert [run.sources.unheard(*each) for each in asked] == [True, True, False, False]
            server.put("vllm.internal", "A", "10.0.0.1")
            await until(lambda: run.sources.heard and run.sources.reports["gpus"].problem is None)
            assert not run.sources.unheard("m", "us-east")
        async with running(config(server, name="all")) as run:
            assert run.sources.unheard("anything", None), "one that names no models may bring all"
