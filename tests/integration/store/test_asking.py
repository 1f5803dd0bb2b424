"""Questions between routers: each is answered once, in time, or left out."""

from __future__ import annotations

import asyncio
import time

from router.core.params import Params
from router.store.asking import WAIT_S
from router.store.fleet_exchange import FleetExchange
from router.store.shared import SharedStore
from tests.integration.store.routers import eventually, router
from tests.support.valkey import Valkey


def exchange_of(store: SharedStore, name: str) -> FleetExchange:
    made = FleetExchange(store, dict, lambda _: None, monotonic_s=time.monotonic, params=Params())
    made.card = {"name": name}
    return made


async def test_a_question_reaches_all_and_each_answers_once(shared_valkey: Valkey) -> None:
    shared_valkey.command("FLUSHALL")
    url = shared_valkey.url
    async with router(url, name="a") as a, router(url, name="b") as b, router(url, name="c") as c:
        one, two, three = exchange_of(a, "a"), exchange_of(b, "b"), exchange_of(c, "c")
        asked: list[tuple[str, str, dict[str, str]]] = []

        def answering(name: str, exchange: FleetExchange) -> None:
            async def respond(what: str, about: dict[str, str]) -> bytes | None:
                asked.append((name, what, about))
                if name == "c" and what == "fails":
                    raise ValueError(what)
                return f"{name} {'x' * 100_000}".encode()

            exchange.answer(respond)

        answering("b", two)
        answering("c", three)
        for exchange in (one, two, three):
            await exchange.start()
        try:
            await eventually(lambda: [peer.name for peer in one.known()] == ["b", "c"])
            ids = [peer.id for peer in one.known()]
            told = await one.ask("what", {"k": "v"}, ids)
            assert sorted(raw[:1] for raw in told.values()) == [b"b", b"c"]
            assert all(len(raw) > 100_000 for raw in told.values())
            await asyncio.sleep(0.3)
            assert sorted(asked) == [("b", "what", {"k": "v"}), ("c", "what", {"k": "v"})]
            began_s = time.monotonic()
            told = await one.ask("fails", {}, ids)
            assert [raw[:1] for raw in told.values()] == [b"b"]
            assert time.monotonic() - began_s >= WAIT_S
            assert await one.ask("what", {}, []) == {}
        finally:
            for exchange in (one, two, three):
                await exchange.stop()
