"""Many first requests of a key at once, at a router far from the store: one question for all of them, in virtual time."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Callable, Coroutine
from typing import Any, cast

import pytest

from router.config import Plan
from router.core.limits import INDEX, Amounts
from router.store.base import Key, Refusal, Reservation
from router.store.courier import Command
from router.store.patience import GIVE_UP_S_MIN
from router.store.scripts import account_keys
from router.store.shared import SharedStore
from tests.support.model_store import ModelLink, ModelServer
from tests.support.virtual_time import VirtualLoop, run

RTT_S = 0.166
AMOUNTS = Amounts(1, 10, 0, 100)
PLAN = Plan("default", requests_per_minute=100_000, tokens_per_minute=10**7, concurrent=5000, budget_usd_month=1000.0)


class Server(ModelServer):
    """Counts the questions of requests, not what is done in the background."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        super().__init__(now_s)
        self.questions = 0
        self.broken = False

    def do(self, command: Command) -> Any:
        asked = command.script is not None and command.script.name == "reserve"
        self.questions += asked
        return [1] if asked and self.broken else super().do(command)


class Far:
    """A router of one plan, far from its store."""

    def __init__(self, plan: Plan, on_down: str = "share") -> None:
        loop = asyncio.get_running_loop()
        self.key = Key("k1", "k1", "t", plan, 0.0, False)
        self.server = Server(loop.time)
        self.link = ModelLink(self.server, RTT_S, random.Random(1))
        self.store = SharedStore(
            self.link,
            {"default": plan},
            router_name="r",
            on_down=on_down,
            monotonic_s=loop.time,
            wall_s=lambda: loop.time() + 1e9,
        )

    async def start(self) -> None:
        await self.store.start()
        await asyncio.sleep(5.0)
        self.server.questions = 0  # the start asks one: whether it may

    async def ask(self, amounts: Amounts = AMOUNTS) -> Reservation | Refusal:
        return await self.store.reserve(self.key, amounts, "r")

    async def end(self, taken: list[Reservation]) -> None:
        for each in taken:
            self.store.settle(each, None)
        await asyncio.sleep(20.0)
        await self.store.stop()

    def used(self, account: str = "k1") -> dict[str, int]:
        """What the store has counted, of what time does not give back."""
        found = self.server.accounts[account_keys(account)[0]]
        return {"slots": found.slots_used, "budget": found.used[INDEX["budget"]]}


def of(story: Callable[[Far], Coroutine[Any, Any, None]], plan: Plan = PLAN, on_down: str = "share") -> None:
    async def main() -> None:
        far = Far(plan, on_down)
        await far.start()
        await story(far)

    run(main())


def let_in(answers: list[Reservation | Refusal]) -> list[Reservation]:
    return [answer for answer in answers if isinstance(answer, Reservation)]


@pytest.mark.parametrize("number", [1, 40, 400])
@pytest.mark.parametrize("over_s", [0.0, 0.15])
def test_the_store_is_asked_a_few_times_however_many_requests_come(number: int, over_s: float) -> None:
    async def story(far: Far) -> None:
        loop = asyncio.get_running_loop()
        longest_s = 0.0

        async def one(after_s: float) -> Reservation | Refusal:
            nonlocal longest_s
            await asyncio.sleep(after_s)
            began_s = loop.time()
            answer = await far.ask()
            longest_s = max(longest_s, loop.time() - began_s)
            return answer

        answers = await asyncio.gather(*(one(over_s * i / number) for i in range(number)))
        assert Counter(a.source if isinstance(a, Reservation) else a.detail for a in answers) == {"store": number}
        assert far.server.questions <= min(number, 2 if over_s == 0.0 else 17)
        assert longest_s <= RTT_S * (1.1 + 1 / 16), "a round trip with its jitter, and a part of one"
        await far.end(let_in(answers))
        assert far.used() == {"slots": 0, "budget": 0}

    of(story)


def test_each_gets_its_own_answer_and_no_limit_is_exceeded() -> None:
    """The small ones that still fit are let in after one that does not."""
    plan = Plan("default", tokens_per_minute=1000, concurrent=50)

    async def story(far: Far) -> None:
        sizes = [400, 2000, 500, 300, 100, 1]
        answers = await asyncio.gather(*(far.ask(Amounts(1, tokens)) for tokens in sizes))
        assert far.server.questions == 1
        told = [a.source if isinstance(a, Reservation) else a.retry_after_s for a in answers]
        assert told == ["store", None, "store", pytest.approx(12.0), "store", pytest.approx(0.06)]
        assert not let_in(await asyncio.gather(*(far.ask(Amounts(1, 400)) for _ in range(30))))
        await far.end(let_in(answers))

    of(story, plan)


def test_more_than_there_are_places_are_refused() -> None:
    async def story(far: Far) -> None:
        answers = await asyncio.gather(*(far.ask() for _ in range(400)))
        assert len(let_in(answers)) == 300
        assert {a.limit for a in answers if isinstance(a, Refusal)} == {"concurrent"}
        await far.end(let_in(answers))
        assert far.used() == {"slots": 0, "budget": 0}

    of(story, Plan("default", concurrent=300, budget_usd_month=10.0))


@pytest.mark.parametrize("on_down", ["share", "deny"])
@pytest.mark.parametrize("turns", [1, 2, 3, 4, 100])
def test_overload_of_a_router_is_not_absence_of_the_store(turns: int, on_down: str) -> None:
    """Some turns of its loop take longer than a request waits. So the question leaves late, or the answer is read late."""

    async def story(far: Far) -> None:
        loop = cast(VirtualLoop, asyncio.get_running_loop())

        async def work() -> None:
            for _ in range(turns):
                loop.now_s += 0.4
                await asyncio.sleep(0)

        asking = [asyncio.ensure_future(far.ask()) for _ in range(400)]
        await asyncio.sleep(0)
        working = asyncio.ensure_future(work())
        answers = await asyncio.gather(*asking)
        await working
        assert Counter(type(a) for a in answers) == {Reservation: 400}
        assert far.store.state == "up"
        await far.end(let_in(answers))
        assert far.used() == {"slots": 0, "budget": 0}

    of(story, on_down=on_down)


@pytest.mark.parametrize("after_s", [0.0, 0.001, 0.05, 0.12, 0.3])
def test_clients_that_leave_cost_nothing(after_s: float) -> None:
    """Before the question is sent, on its way, and between the answer and their turn."""

    async def story(far: Far) -> None:
        first = asyncio.ensure_future(far.ask())
        await asyncio.sleep(0.001)
        others = [asyncio.ensure_future(far.ask()) for _ in range(50)]
        await asyncio.sleep(after_s)
        for other in others[::2]:
            other.cancel()
        answers = await asyncio.gather(first, *others, return_exceptions=True)
        taken = [answer for answer in answers if isinstance(answer, Reservation)]
        assert len(taken) >= 26
        await far.end(taken)
        assert far.used() == {"slots": 0, "budget": 0}

    of(story)


@pytest.mark.parametrize("on_down", ["share", "deny"])
def test_an_answer_that_is_late_is_waited_for_where_there_is_no_other(on_down: str) -> None:
    """An account that was never seen here gets nothing on credit: it may have no room."""

    async def story(far: Far) -> None:
        far.link.rtt_s = 0.8
        answers = await asyncio.gather(*(far.ask() for _ in range(400)))
        assert Counter(a.source if isinstance(a, Reservation) else a.limit for a in answers) == {
            "store": 300,
            "concurrent": 100,
        }
        assert far.store.state == "up"
        far.link.rtt_s = RTT_S
        await far.end(let_in(answers))
        assert far.used() == {"slots": 0, "budget": 0}

    of(story, Plan("default", concurrent=300, budget_usd_month=10.0), on_down)


@pytest.mark.parametrize("on_down", ["share", "deny", "allow"])
def test_a_store_that_falls_silent_keeps_nobody_waiting(on_down: str) -> None:
    """They are told when its pipeline is given up, or at once when it counts as away."""

    async def story(far: Far) -> None:
        loop = asyncio.get_running_loop()
        far.link.cut = True
        began_s = loop.time()
        first = asyncio.gather(*(far.ask() for _ in range(50)))
        await asyncio.sleep(0.4)
        others = asyncio.gather(*(far.ask() for _ in range(50)))
        while far.store.state == "up":  # noqa: ASYNC110 - nobody tells of it
            await asyncio.sleep(0.001)
        away_s = loop.time()
        answers = [*await first, *await others]
        assert loop.time() - away_s <= 0.01
        assert away_s - began_s <= GIVE_UP_S_MIN
        if on_down == "deny":
            assert not let_in(answers)
        else:
            assert {a.source for a in let_in(answers)} == {on_down}
            assert len(let_in(answers)) == 100
        far.link.cut = False
        await asyncio.sleep(10.0)
        await far.end(let_in(answers))
        assert far.used() == {"slots": 0, "budget": 0}

    of(story, on_down=on_down)


def test_an_answer_that_cannot_be_read_keeps_nobody_waiting() -> None:
    async def story(far: Far) -> None:
        loop = asyncio.get_running_loop()
        loop.set_exception_handler(lambda _loop, _context: None)
        far.server.broken = True
        answers = await asyncio.gather(*(far.ask() for _ in range(5)), return_exceptions=True)
        assert {type(answer) for answer in answers} == {ValueError}
        await far.store.stop()

    of(story)
