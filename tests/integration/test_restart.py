"""One router takes over from another on the same addresses, and no client notices."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import pytest

from tests.integration.conftest import OPEN
from tests.support.backends import Call, ScriptedBackend, answer
from tests.support.effort import quick
from tests.support.router import Site
from tests.support.takeover import Load, Takeover


async def _talk(call: Call) -> None:
    if b'"stream":true' in call.body:
        await call.stream(*["word "] * 20, gap_s=0.04)
    else:
        await asyncio.sleep(0.005)
        await call.send(answer())


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("passes", [True, False], ids=["handed down", "shared port"])
async def test_restarts_under_load_lose_no_request(tmp_path: Path, passes: bool, workers: int) -> None:
    restarts = 2 if quick() else 10
    head = f"workers = {workers}\nshare_port = {str(not passes).lower()}\n{OPEN}"
    head += '[store]\nredis = "embedded"\n' if workers > 1 else ""
    async with ScriptedBackend(_talk) as b:
        site = Site("near", "a", b.url, models=["m"])
        with Takeover(tmp_path, [site], head=head, passes=passes) as host:
            router = await asyncio.to_thread(host.start)
            async with Load(host.listen) as load:
                for _ in range(restarts):
                    successor = await asyncio.to_thread(host.start)
                    host.stop(router)
                    router = successor
                    await asyncio.sleep(0.3)
            await asyncio.to_thread(host.end)
    assert load.failed == [], [log.read_text() for log in host.logs]
    assert load.answered > 100
    assert load.streamed > 4
    assert load.goodbyes >= restarts, "those who stay are told to go"


@pytest.mark.parametrize("workers", [1, 2])
async def test_the_service_manager_hears_of_reloads_and_of_the_end(tmp_path: Path, workers: int) -> None:
    head = f"workers = {workers}\n{OPEN}"
    head += '[store]\nredis = "embedded"\n' if workers > 1 else ""
    with Takeover(tmp_path, [Site("near", "a", "http://127.0.0.1:1", models=["m"])], head=head, passes=True) as host:
        router = await asyncio.to_thread(host.start)
        for text in (host.file.read_text() + "[timeouts]\nconnect = 2\n", "not toml"):
            host.file.write_text(text)
            router.send_signal(signal.SIGHUP)
            heard = [await asyncio.to_thread(host.hear) for _ in range(2)]
            assert [line for line, *_ in heard] == ["RELOADING=1", "READY=1"]
        host.stop(router)
        while (heard_last := await asyncio.to_thread(host.hear))[0] != "STOPPING=1":
            assert heard_last[0] in ("RELOADING=1", "READY=1"), "the watch of the file saw it, too"
        assert heard_last[2] == "EXTEND_TIMEOUT_USEC=310000000", "lead, drain and some seconds"
        assert await asyncio.to_thread(router.wait, 60) == 0


@pytest.mark.parametrize("workers", [1, 2])
async def test_one_more_signal_to_stop_does_not_spoil_the_end(tmp_path: Path, workers: int) -> None:
    """Service managers and terminals repeat themselves: the exit code of a router that has stopped stays 0."""
    head = f"workers = {workers}\n{OPEN}" + ('[store]\nredis = "embedded"\n' if workers > 1 else "")
    with Takeover(tmp_path, [Site("near", "a", "http://127.0.0.1:1", models=["m"])], head=head, passes=False) as host:
        router = await asyncio.to_thread(host.start)
        host.stop(router)
        while b"router test has stopped" not in host.logs[0].read_bytes():
            assert router.poll() is None, host.logs[0].read_text()
            await asyncio.sleep(0.001)
        while router.poll() is None:
            host.stop(router)
            router.send_signal(signal.SIGHUP)
            await asyncio.sleep(0.001)
        assert router.returncode == 0, host.logs[0].read_text()
