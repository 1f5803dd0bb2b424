"""The router is told to stop: what runs may end, what does not end in time is ended, here and at the backend."""

from __future__ import annotations

import asyncio
import os
import signal
import time

import orjson
import pytest

from router.gateway.server import FAREWELL_S
from tests.integration.conftest import OPEN
from tests.support.backends import DONE, Call, ScriptedBackend, chunk, event
from tests.support.processes import alive, all_serve, workers
from tests.support.router import RouterProcess, Site


async def test_a_stream_that_outlasts_the_drain_ends_in_band_and_at_the_backend() -> None:
    gone = asyncio.Event()

    async def endless(call: Call) -> None:
        await call.stream("one", finish=False)
        await call.until_gone()
        gone.set()

    head = OPEN + "[timeouts]\ndrain = 0.5\n"
    async with ScriptedBackend(endless) as b, RouterProcess([Site("near", "a", b.url)], head=head) as r:
        host, port = r.listen.split(":")
        reader, writer = await asyncio.open_connection(host, int(port))
        body = orjson.dumps({"model": "m", "stream": True, "messages": []})
        writer.write(
            b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
        )
        await reader.readuntil(b"one")
        r.terminate()
        rest = await asyncio.wait_for(reader.read(-1), 30)
        writer.close()
        await asyncio.wait_for(gone.wait(), 30)
    assert b'"code":"shutting_down"' in rest
    assert b"[DONE]" not in rest
    assert not rest.endswith(b"0\r\n\r\n"), "the framing must not say that this was all"


class Regular:
    """A client that keeps its connection, opens another one when it is told to, and ends when nobody listens.

    The router may close a connection that was quiet for FAREWELL_S, so a client that a busy machine has kept from using
    its connection for so long was ``away``: it need not be told, and what it sends then may be lost.
    """

    def __init__(self, r: RouterProcess, pause_s: float) -> None:
        self._address = r.listen.split(":")
        self._pause_s = pause_s
        self._active_s = 0.0  # the router has heard of it since then
        self.answered = self.told = self.away = 0
        self.lost: list[str] = []

    async def run(self) -> None:
        while True:
            self._active_s = time.monotonic()
            try:
                reader, writer = await asyncio.open_connection(*self._address)
            except OSError:
                return
            try:
                await self._talk(reader, writer)
            except (OSError, asyncio.IncompleteReadError) as error:
                self.lost.append(repr(error))
            finally:
                writer.close()

    async def _talk(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            began_s = time.monotonic()
            if not reader.at_eof():
                writer.write(
                    b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY)
                )
                await asyncio.sleep(0)  # the loop sends it
            away = time.monotonic() - self._active_s >= FAREWELL_S
            self._active_s = began_s
            try:
                head = await reader.readuntil(b"\r\n\r\n")
            except (OSError, asyncio.IncompleteReadError):
                if not away:
                    raise
                self.away += 1
                return
            length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r")[0])
            await reader.readexactly(length)
            assert head.startswith(b"HTTP/1.1 200"), head
            self.answered += 1
            if b"connection: close" in head.lower():
                self.told += 1
                return
            await asyncio.sleep(self._pause_s)


BODY = orjson.dumps({"model": "m", "messages": []})


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("lead_s", [0.0, 3.0])
async def test_clients_that_keep_their_connections_lose_no_request(lead_s: float, workers: int) -> None:
    store = '[store]\nredis = "embedded"\n' if workers > 1 else ""
    head = f"workers = {workers}\n{OPEN}{store}[timeouts]\nlead = {lead_s}\n"
    async with ScriptedBackend() as b, RouterProcess([Site("near", "a", b.url)], head=head) as r:
        clients = [Regular(r, pause_s) for pause_s in (0.0, 0.001, 0.01, 0.03, 0.1, 0.3) for _ in range(3)]
        running = [asyncio.create_task(client.run()) for client in clients]
        await asyncio.sleep(0.5)
        r.terminate()
        if lead_s:
            await r.until("/readyz", status=503)
            before = sum(client.answered for client in clients)
            async with asyncio.timeout(30):  # served on while balancers find out
                while sum(client.answered for client in clients) == before:
                    assert not all(client.done() for client in running)
                    await asyncio.sleep(0.01)
        await asyncio.wait_for(asyncio.gather(*running), 30)
    assert [client.lost for client in clients if client.lost] == []
    assert all(client.told or client.away for client in clients), "each was told that its connection ends"


async def test_a_worker_that_is_about_to_start_takes_no_client_with_it() -> None:
    """It has the listening socket, and a signal ends it before it accepts anybody: the others serve until then."""
    head = f'workers = 2\n{OPEN}[store]\nredis = "embedded"\n'
    async with ScriptedBackend() as b, RouterProcess([Site("near", "a", b.url)], head=head, errors_allowed=True) as r:
        before = await two_serve(r)
        os.kill(before[0], signal.SIGKILL)
        starting = await successor(r, before)
        os.kill(starting, signal.SIGSTOP)
        clients = [Regular(r, pause_s) for pause_s in (0.0, 0.01, 0.1) for _ in range(4)]
        running = [asyncio.create_task(client.run()) for client in clients]
        async with asyncio.timeout(30):
            while not all(client.answered for client in clients):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
        r.terminate()
        await asyncio.sleep(0.7)  # the other worker could end
        os.kill(starting, signal.SIGCONT)
        await asyncio.wait_for(asyncio.gather(*running), 30)
    assert [client.lost for client in clients if client.lost] == []


async def two_serve(r: RouterProcess) -> list[int]:
    async with asyncio.timeout(60):
        while not await asyncio.to_thread(all_serve, r):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    return workers(r)


async def successor(r: RouterProcess, before: list[int]) -> int:
    async with asyncio.timeout(30):
        while not (found := [pid for pid in workers(r) if pid not in before]):  # noqa: ASYNC110
            await asyncio.sleep(0.001)
    return found[0]


async def test_a_second_signal_ends_the_lead_and_the_drain() -> None:
    async def endless(call: Call) -> None:
        await call.stream("one", finish=False)
        await call.until_gone()

    head = OPEN + "[timeouts]\nlead = 60\n"
    async with ScriptedBackend(endless) as b, RouterProcess([Site("near", "a", b.url)], head=head) as r:
        r.terminate()
        await r.until("/readyz", status=503)
        began_s = time.monotonic()
        r.terminate()
        await asyncio.to_thread(r.process.wait, 30)
        assert time.monotonic() - began_s < 15


async def test_workers_whose_parent_was_killed_finish_their_streams_and_end_by_themselves() -> None:
    go_on = asyncio.Event()

    async def slow(call: Call) -> None:
        await call.stream("one", finish=False)
        await go_on.wait()
        await call.send(chunk(event("two", "stop")), chunk(DONE), b"0\r\n\r\n")

    head = f'workers = 2\n{OPEN}[store]\nredis = "embedded"\n'
    site = Site("near", "a", "http://127.0.0.1:1", models=["m"])
    async with ScriptedBackend(slow) as b:
        site.url = b.url
        async with RouterProcess([site], head=head, errors_allowed=True) as r:
            pids = await two_serve(r)
            assert len(pids) == 2
            streams = []
            for _ in range(4):
                reader, writer = await asyncio.open_connection(*r.listen.split(":"))
                body = orjson.dumps({"model": "m", "stream": True, "messages": []})
                writer.write(
                    b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n%b" % (len(body), body)
                )
                await reader.readuntil(b"one")
                streams.append((reader, writer))
            for pid in pids * 2:  # as Linux does for each thread of a parent that dies
                os.kill(pid, signal.SIGUSR1)
            r.process.kill()
            await asyncio.to_thread(r.process.wait, 30)
            await asyncio.sleep(1)
            go_on.set()
            for reader, writer in streams:
                rest = await asyncio.wait_for(reader.read(-1), 30)
                assert b"[DONE]" in rest, (rest, r.log.read_text())
                writer.close()
            end_s = time.monotonic() + 30
            while any(alive(pid) for pid in pids) and time.monotonic() < end_s:  # noqa: ASYNC110
                await asyncio.sleep(0.05)
            assert not any(alive(pid) for pid in pids)
