"""Many pipelines on one connection, and one connection more than is needed."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from redis.asyncio.connection import Connection
from redis.exceptions import ConnectionError as LostError
from redis.exceptions import ResponseError

from router.store.pipe import PIPES, Pipe, Pipes
from sim.distance import Distance
from tests.integration.store.routers import eventually
from tests.support.valkey import Valkey


@pytest.fixture(scope="module")
def server() -> Iterator[Valkey]:
    with Valkey(unix=False) as valkey:
        yield valkey


def connection(port: int) -> Connection:
    return Connection(host="127.0.0.1", port=port, socket_timeout=None, protocol=2)


async def test_questions_do_not_wait_for_answers(server: Valkey) -> None:
    trips: list[float] = []
    async with Distance(server.port, 0.1) as line:
        pipe = Pipe(connection(line.port), {}, lambda trip_s, _: trips.append(trip_s))
        await pipe.connect()
        asked = [asyncio.ensure_future(pipe.ask([("SET", f"k{i}", i), ("GET", f"k{i}")])) for i in range(10)]
        await asyncio.sleep(0.05)
        assert len(pipe) == 10, "all are under way at once"
        assert await asyncio.gather(*asked) == [[b"OK", b"%d" % i] for i in range(10)]
        assert len(trips) == 10
        assert min(trips) >= 0.1
        await pipe.close()


async def test_a_refused_command_is_a_reply_and_harms_no_other(server: Valkey) -> None:
    pipe = Pipe(connection(server.port), {"SET": lambda reply: reply == b"OK"}, lambda *_: None)
    await pipe.connect()
    good, bad = await pipe.ask([("SET", "k", "1"), ("LPUSH", "k", "x")])
    assert good is True
    assert isinstance(bad, ResponseError)
    assert await pipe.ask([("GET", "k")]) == [b"1"]
    await pipe.close()
    with pytest.raises(LostError):
        await pipe.ask([("GET", "k")])


async def test_who_gives_up_gets_nobody_elses_answer(server: Valkey) -> None:
    async with Distance(server.port, 0.05) as line:
        pipe = Pipe(connection(line.port), {}, lambda *_: None)
        await pipe.connect()
        first = asyncio.ensure_future(pipe.ask([("ECHO", "a")]))
        second = asyncio.ensure_future(pipe.ask([("ECHO", "b")]))
        await asyncio.sleep(0.01)
        first.cancel()
        assert await second == [b"b"]
        assert pipe.open
        await pipe.close()


async def test_when_a_connection_ends_the_next_question_takes_another(server: Valkey) -> None:
    pipes = Pipes(lambda: connection(server.port), {}, lambda *_: None, name="test")
    assert await pipes.ask([("ECHO", "a")]) == [b"a"]
    assert await pipes.ask([("ECHO", "a")]) == [b"a"]
    await eventually(lambda: len(pipes._pipes) == PIPES)
    (number,) = await pipes.ask([("CLIENT", "ID")])
    assert await pipes.ask([("CLIENT", "KILL", "ID", number, "SKIPME", "no")])
    await eventually(lambda: any(not pipe.open for pipe in pipes._pipes))
    assert await pipes.ask([("ECHO", "b")]) == [b"b"]
    await pipes.close()
    assert not pipes.open
