"""A stream keeps what routers tell each other, in order, capped, for those that come later."""

from __future__ import annotations

import pytest

from router.store.courier import LinkError
from router.store.shared import SharedStore
from router.store.streams import READ_MAX, Streams
from tests.integration.store.routers import eventually, router
from tests.support.valkey import Valkey

NAME = "{mr}:test-stream"


async def test_all_read_the_same_and_later_ones_too(shared_valkey: Valkey) -> None:
    shared_valkey.command("FLUSHALL")
    async with router(shared_valkey.url, name="a") as a, router(shared_valkey.url, name="b") as b:
        one, two = streams_of(a), streams_of(b)
        await one.append(NAME, [b"1", b"2"], keep=100)
        await two.append(NAME, [b"3"], keep=100)
        heard = await two.after(NAME, "0-0")
        assert [entry for _, entry in heard] == [b"1", b"2", b"3"]
        assert await two.after(NAME, heard[-1][0]) == []
        assert [entry for _, entry in await one.after(NAME, heard[0][0])] == [b"2", b"3"]
        assert [entry for _, entry in await one.latest(NAME, 2)] == [b"2", b"3"]
        assert await one.latest("{mr}:nothing", 5) == []


async def test_it_is_capped_and_read_in_parts(shared_valkey: Valkey) -> None:
    shared_valkey.command("FLUSHALL")
    async with router(shared_valkey.url) as a:
        one = streams_of(a)
        for start in range(0, 2000, 100):
            await one.append(NAME, [b"%d" % i for i in range(start, start + 100)], keep=800)
        mark, heard = "0-0", list[bytes]()
        while part := await one.after(NAME, mark):
            assert len(part) <= READ_MAX
            mark = part[-1][0]
            heard += [entry for _, entry in part]
        assert heard[-1] == b"1999"
        assert 800 <= len(heard) <= 1000
        assert heard == sorted(heard, key=int)


async def test_a_store_that_is_away_or_refuses_says_so(valkey: Valkey) -> None:
    async with router(valkey.url) as a:
        one = streams_of(a)
        valkey.command("SET", NAME, "not a stream")
        with pytest.raises(LinkError, match="refused"):
            await one.append(NAME, [b"1"], keep=10)
        assert a.state == "up", "one stream that is not there does no harm to the rest"
        valkey.kill()
        with pytest.raises(LinkError):
            await one.append(NAME, [b"1"], keep=10)
        await eventually(lambda: a.state == "down")
        assert a.trouble
        with pytest.raises(LinkError, match="the store is away"):
            await one.after(NAME, "0-0")


def streams_of(store: SharedStore) -> Streams:
    streams = store.streams
    assert isinstance(streams, Streams)
    return streams
