"""Routers hear what the others have in flight."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import time
from collections.abc import AsyncIterator, Sequence

import pytest

from router.config import Config, Plan
from router.core.params import Params
from router.store.fleet_exchange import ALONE_PERIOD_S, INTRODUCE_S, PERIOD_S, QUICK_ROUTERS, FleetExchange, period_s
from router.store.open import open_store
from router.store.shared import SharedStore
from router.store.tidings import BLOCKS_MAX, Tidings
from tests.integration.store.routers import eventually, router
from tests.support.valkey import Valkey

PARAMS = Params()
Counts = dict[str, tuple[int, int]]


def exchange_of(store: SharedStore, counts: Counts, heard: Counts) -> FleetExchange:
    return FleetExchange(store, lambda: counts, heard.update, monotonic_s=time.monotonic, params=PARAMS)


@contextlib.asynccontextmanager
async def running(*exchanges: FleetExchange) -> AsyncIterator[None]:
    for exchange in exchanges:
        await exchange.start()
    try:
        yield
    finally:
        for exchange in exchanges:
            await exchange.stop()


async def test_each_hears_the_sum_of_the_others_and_not_itself(shared_valkey: Valkey) -> None:
    shared_valkey.command("FLUSHALL")
    url = shared_valkey.url
    async with router(url, name="a") as a, router(url, name="b") as b, router(url, name="c") as c:
        counts: list[Counts] = [{"eu/x": (3, 100), "us/y": (0, 0)}, {"eu/x": (2, 50), "us/z": (1, 0)}, {}]
        heard: list[Counts] = [{}, {}, {}]
        exchanges = [exchange_of(s, n, h) for s, n, h in zip((a, b, c), counts, heard, strict=True)]
        async with running(*exchanges):
            await eventually(lambda: heard[2] == {"eu/x": (5, 150), "us/z": (1, 0)})
            await eventually(lambda: heard[0] == {"eu/x": (2, 50), "us/z": (1, 0)})
            await eventually(lambda: heard[1] == {"eu/x": (3, 100)})
            counts[1].clear()  # b has nothing in flight any more: the others hear zeros once
            await eventually(lambda: heard[0] == {"eu/x": (0, 0), "us/z": (0, 0)})


@pytest.mark.parametrize("teller_is", ["new", "forgotten", "heard by a newcomer"])
async def test_a_router_that_is_heard_can_be_asked(shared_valkey: Valkey, teller_is: str) -> None:
    """From the first message on that is heard."""
    shared_valkey.command("FLUSHALL")
    async with router(shared_valkey.url, name="a") as a, router(shared_valkey.url, name="b") as b:
        teller, listener = exchange_of(a, {}, {}), exchange_of(b, {}, {})
        teller.card = {"name": "a"}
        if teller_is == "forgotten":
            await teller.publish({})
            await asyncio.sleep(INTRODUCE_S * 1.2)
        elif teller_is == "heard by a newcomer":
            for _ in range(12):
                await teller.publish({})
                await asyncio.sleep(INTRODUCE_S / 10)
            teller.hear(b"b\n" + Tidings("era", 1, {}).encoded())
        listening = asyncio.create_task(b.listen(listener.hear))
        try:
            async with asyncio.timeout(20):
                for number in itertools.count(1):  # what is told before anybody listens is lost
                    await teller.publish({"eu/x": (number, 0)}, keep=False)
                    await asyncio.sleep(0.01)
                    if listener.others:
                        break
            assert [peer.name for peer in listener.known()] == ["a"]
        finally:
            listening.cancel()
            await asyncio.wait([listening])


async def test_what_went_where_is_told_once_even_if_messages_are_missed(shared_valkey: Valkey) -> None:
    shared_valkey.command("FLUSHALL")
    url = shared_valkey.url
    async with router(url, name="a") as a, router(url, name="b") as b:
        learned: list[tuple[str, tuple[int, ...]]] = []
        news = [[("eu/x", (1, 2, 2**32 - 1))], [("eu/y", (3,))], [], [("eu/x", (4,))]]
        waiting = iter(news)
        teller = FleetExchange(
            a,
            dict,
            lambda _: None,
            monotonic_s=time.monotonic,
            params=PARAMS,
            news=lambda: next(waiting, []),
            learned=fail,
        )
        listener = FleetExchange(
            b,
            dict,
            lambda _: None,
            monotonic_s=time.monotonic,
            params=PARAMS,
            learned=lambda backend, blocks: learned.append((backend, tuple(blocks))),
        )
        await teller.publish({})
        await teller.publish({})  # the first message is replaced before anybody reads it
        await listener.publish({})
        assert learned == [news[0][0], news[1][0]]
        await teller.publish({})
        await teller.publish({})
        await listener.publish({})
        await listener.publish({})
        assert learned == [news[0][0], news[1][0], news[3][0]]

        again = FleetExchange(
            a,
            dict,
            lambda _: None,
            monotonic_s=time.monotonic,
            params=PARAMS,
            news=lambda: [("eu/z", (9,))],
            learned=fail,
        )
        await again.publish({})  # a was started again and counts from one
        await listener.publish({})
        assert learned[3:] == [("eu/z", (9,))]


async def test_the_prompts_of_a_busy_router_travel_together_and_arrive_apart(shared_valkey: Valkey) -> None:
    shared_valkey.command("FLUSHALL")
    url = shared_valkey.url
    async with router(url, name="a") as a, router(url, name="b") as b:
        news = [(f"eu/{n % 3}", tuple(range(n, n + n % 5))) for n in range(1000)]
        learned: list[tuple[str, Sequence[int]]] = []
        teller = FleetExchange(
            a, dict, lambda _: None, monotonic_s=time.monotonic, params=PARAMS, news=lambda: news, learned=fail
        )
        listener = FleetExchange(
            b,
            dict,
            lambda _: None,
            monotonic_s=time.monotonic,
            params=PARAMS,
            learned=lambda *piece: learned.append(piece),
        )
        await teller.publish({})
        await listener.publish({})
        assert sorted(learned) == sorted(news)
        (raw,) = (raw for _, _, raw in await b.exchange(b"{}"))
        assert len(Tidings.decoded(raw).pieces) == 3


async def test_a_message_holds_the_newest_blocks_only(shared_valkey: Valkey) -> None:
    shared_valkey.command("FLUSHALL")
    url = shared_valkey.url
    async with router(url, name="a") as a, router(url, name="b") as b:
        learned: list[str] = []
        news = [(f"eu/{i}", tuple(range(BLOCKS_MAX // 4 - 1))) for i in range(6)]
        teller = FleetExchange(
            a, dict, lambda _: None, monotonic_s=time.monotonic, params=PARAMS, news=lambda: news, learned=fail
        )
        listener = FleetExchange(
            b,
            dict,
            lambda _: None,
            monotonic_s=time.monotonic,
            params=PARAMS,
            learned=lambda backend, _: learned.append(backend),
        )
        await teller.publish({})
        await listener.publish({})
        assert learned == ["eu/2", "eu/3", "eu/4", "eu/5"]


async def test_what_is_not_understood_counts_as_nothing(shared_valkey: Valkey) -> None:
    shared_valkey.command("FLUSHALL")
    url = shared_valkey.url
    async with router(url, name="a") as a, router(url, name="b") as b:
        listener = FleetExchange(
            b, dict, lambda _: None, monotonic_s=time.monotonic, params=PARAMS, learned=fail_unless_empty
        )
        for raw in (b"", b"[]", b'{"eu/x":[1,2]}', b'{"counts":{},"prefixes":[[1]]}'):
            await a.exchange(raw)
            await listener.publish({})
            assert listener.peers() == {}
        await a.exchange(b'{"counts":{"eu/x":[1,2]},"prefixes":[[1,"eu/x","?"],[2,"eu/x","AAA="]]}')
        await listener.publish({})
        assert listener.peers() == {"eu/x": (1, 2)}


def fail(backend: str, blocks: Sequence[int]) -> None:
    raise AssertionError(f"learned of {backend}: {blocks}")


def fail_unless_empty(backend: str, blocks: Sequence[int]) -> None:
    if blocks:
        fail(backend, blocks)


async def test_a_router_that_dies_or_a_store_that_goes_away_fades_out(valkey: Valkey) -> None:
    async with router(valkey.url, name="a") as a, router(valkey.url, name="b") as b:
        now_s = 100.0
        said: list[Counts] = []
        here = FleetExchange(
            a, dict, lambda counts: said.append(dict(counts)), monotonic_s=lambda: now_s, params=PARAMS
        )
        await exchange_of(b, {}, {}).publish({"eu/x": (8, 800)})
        async with running(here):
            await eventually(lambda: bool(said) and said[-1] == {"eu/x": (8, 800)})
            valkey.kill()
            now_s += (PARAMS.peers_full_s + PARAMS.peers_gone_s) / 2
            await eventually(lambda: 0 < said[-1]["eu/x"][0] < 8)  # little by little
            now_s += PARAMS.peers_gone_s
            await eventually(lambda: said[-1] == {})
            assert said.count({"eu/x": (0, 0)}) == 1, "told once that nothing is left"


async def test_alone_there_is_nothing_to_exchange() -> None:
    store = open_store(Config(plans={"default": Plan("default")}), router_name="a")
    exchange = FleetExchange(store, dict, lambda _: None, monotonic_s=time.monotonic, params=PARAMS)
    await exchange.start()
    await exchange.publish({"eu/x": (1, 1)})
    assert exchange.peers() == {}
    await exchange.stop()


def test_few_routers_exchange_quickly_and_many_before_what_they_read_fades() -> None:
    periods = [period_s(others) for others in range(1000)]
    assert periods[0] == ALONE_PERIOD_S
    assert set(periods[1:QUICK_ROUTERS]) == {PERIOD_S}
    assert periods[1:] == sorted(periods[1:])
    assert periods[-1] <= Params().peers_full_s
    assert periods[99] > 2 * PERIOD_S, "the reading of a hundred routers by each other is bounded"
    assert period_s(3, 1000) > period_s(3, 100) == PERIOD_S, "and so is that of many counts"
    assert period_s(9, 10**6) <= Params().peers_full_s
