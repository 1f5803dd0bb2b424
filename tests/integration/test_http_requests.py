"""The corpus of requests through a real router: what is refused ends there, what is understood ends where it should."""

from __future__ import annotations

import asyncio
import random
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest

from tests.integration.conftest import OPEN
from tests.support import corpus
from tests.support.backends import ScriptedBackend
from tests.support.raw import statuses
from tests.support.router import RouterProcess, Site
from tests.support.threads import backend_on_a_thread

REFUSED = corpus.table("requests.toml")["refused"]
ACCEPTED = corpus.table("requests.toml")["accepted"]
CLOSING = corpus.table("requests.toml")["closing"]

GOOD = b"GET /readyz HTTP/1.1\r\nHost: a\r\n\r\n"
LAST = b"GET /readyz HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n"
SMUGGLED = b"POST /v1/smuggled HTTP/1.1\r\nHost: a\r\nContent-Length: 13\r\n\r\n" + corpus.JSON

World = tuple[RouterProcess, ScriptedBackend]


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """One router for the whole file: it must survive every request in it."""
    with backend_on_a_thread(ScriptedBackend()) as backend:
        head = OPEN + "[limits]\nbody_bytes = 1048576\n"
        with RouterProcess([Site("near", "a", backend.url)], head=head) as r:
            yield r, backend


async def send(r: RouterProcess, *pieces: bytes) -> bytes:
    """What the router says until it closes the connection. Each piece is a write of its own."""
    host, port = r.listen.split(":")
    async with asyncio.timeout(5):
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            sending = asyncio.get_running_loop().create_task(_write(writer, pieces))
            answers = b""
            try:
                while data := await reader.read(65536):
                    answers += data
            except ConnectionResetError:  # the pieces behind the fault met a connection that had been closed
                assert answers
            await sending
            return answers
        finally:
            writer.transport.abort()


async def _write(writer: asyncio.StreamWriter, pieces: tuple[bytes, ...]) -> None:
    for piece in pieces:
        if writer.transport.is_closing():
            return
        writer.write(piece)
        await asyncio.sleep(0.05 if piece == b"" else 0)


def cut(data: bytes, seed: int) -> list[bytes]:
    """The bytes in a few pieces, one byte at a time around places where it matters."""
    rng = random.Random(seed)
    places = sorted({rng.randrange(1, len(data)) for _ in range(8)} | {m.end() for m in re.finditer(b"[\r\n]", data)})
    if b"Expect" in data:  # a head that comes without its body is another request: its body is invited
        places.remove(data.index(b"\r\n\r\n") + 4)
    places = [0, *(p for p in places if p < len(data))][:60]
    return [data[a:b] for a, b in zip(places, [*places[1:], len(data)], strict=True)]


def names(cases: list[list[Any]]) -> list[str]:
    return [str(case[2]) for case in cases]


def test_the_corpus_is_large_and_its_names_are_unique() -> None:
    everything = names(REFUSED) + names(ACCEPTED) + names(CLOSING)
    assert len(everything) == len(set(everything)) > 200


@pytest.mark.parametrize("case", REFUSED, ids=names(REFUSED))
async def test_doubtful_requests_are_refused_wherever_they_stand(world: World, case: list[Any]) -> None:
    r, backend = world
    status, _, _, text = case
    data = corpus.raw(text)
    before = len(backend.calls)
    alone, second, split, incomplete = await asyncio.gather(
        send(r, data + SMUGGLED),
        send(r, GOOD + data + SMUGGLED),
        send(r, *cut(data + SMUGGLED, seed=1)),
        send(r, data),
    )
    assert statuses(alone) == [status], alone
    assert statuses(second) == [200, status], second
    assert statuses(split) == [status], split
    assert statuses(incomplete) == [status], incomplete
    assert b"\r\nconnection: close\r\n" in alone
    assert b'{"error":{"message":' in alone
    assert len(backend.calls) == before, "something of it was taken for a request"


async def test_a_body_that_was_invited_is_refused_when_it_shows_its_size(world: World) -> None:
    r, _ = world
    head = (
        b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nTransfer-Encoding: chunked\r\n\r\n"
    )
    assert statuses(await send(r, head, b"", b"7fffffff\r\n")) == [100, 413]


@pytest.mark.parametrize("case", ACCEPTED, ids=names(ACCEPTED))
async def test_strict_requests_end_where_they_should(world: World, case: list[Any]) -> None:
    r, backend = world
    expected, _, _, text, bodies = case
    data = corpus.raw(text)
    pieces = data.split(corpus.PAUSE)
    if len(pieces) > 1:
        pieces = [pieces[0], b"", *pieces[1:]]
    for prefix, parts, suffix in (
        (b"", pieces, LAST),
        (GOOD, pieces, LAST),
        (b"", cut(data, seed=1) if len(pieces) == 1 else pieces, LAST),
    ):
        before = len(backend.calls)
        answers = await send(r, prefix + parts[0], *parts[1:], suffix)
        assert statuses(answers) in (
            [*([200] if prefix else []), *expected, 200],
            *_without_100(prefix, parts, expected),
        )
        assert [c.body for c in backend.calls[before:]] == [corpus.raw(b) for b in bodies]
        for call in backend.calls[before:]:
            assert call.head.lower().count(b"content-length:") == 1
            assert b"transfer-encoding" not in call.head.lower()
            assert b"expect" not in call.head.lower()


def _without_100(prefix: bytes, parts: list[bytes], expected: list[int]) -> list[list[int]]:
    """A body that follows its head at once may or may not be invited."""
    if 100 in expected or b"Expect" not in b"".join(parts):
        return []
    return [[*([200] if prefix else []), 100, *expected, 200]]


@pytest.mark.parametrize("case", CLOSING, ids=names(CLOSING))
async def test_the_connection_ends_when_the_client_says_so(world: World, case: list[Any]) -> None:
    r, backend = world
    status, _, _, text = case
    data = corpus.raw(text)
    before = len(backend.calls)
    assert statuses(await send(r, data + SMUGGLED)) == [status]
    assert statuses(await send(r, data)) == [status]
    assert all(b"smuggled" not in call.head for call in backend.calls[before:])


async def test_http_1_0_is_told_that_it_is_kept(world: World) -> None:
    r, _ = world
    body = b"Connection: keep-alive\r\nContent-Length: 13\r\n\r\n" + corpus.JSON
    for request in (
        b"GET /healthz HTTP/1.0\r\nConnection: keep-alive\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.0\r\n" + body,
        b"POST /v1/none-such HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\n{}",
    ):
        answers = await send(r, request + LAST)
        assert len(statuses(answers)) == 2
        assert b"\r\nconnection: keep-alive\r\n" in answers


async def test_what_only_the_router_is_told_goes_no_further(world: World) -> None:
    r, backend = world
    head = (
        b"Authorization: Bearer secret\r\nCookie: c=secret\r\nProxy-Authorization: secret\r\nX-Api-Key: secret\r\n"
        b"X-Forwarded-For: 6.6.6.6\r\nForwarded: for=6.6.6.6\r\nVia: x\r\nTE: trailers\r\nKeep-Alive: timeout=5\r\n"
        b"Proxy-Connection: keep-alive\r\nUpgrade: h2c\r\nTrailer: X\r\nConnection: User-Agent, openai-beta , close\r\n"
        b"User-Agent: named\r\nOpenAI-Beta: named\r\nAccept: passed\r\nContent-Length: 13\r\n\r\n"
    )
    answers = await send(r, corpus.CHAT + head + corpus.JSON)
    assert statuses(answers) == [200]
    lines = backend.calls[-1].head.lower().split(b"\r\n")
    sent = {line.partition(b":")[0] for line in lines[1:] if line}
    assert sent == {b"host", b"content-type", b"accept", b"content-length", b"x-request-id"}
    assert b"accept: passed" in lines


@pytest.fixture(autouse=True)
async def _alive(world: World) -> AsyncIterator[None]:
    yield
    assert world[0].process.poll() is None
