"""A secret that is unknown here may have been made a moment ago: one question to the store serves all that wait."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from router.errors import RouterError
from router.store.courier import Courier, LinkError
from router.store.keysync import KeySync
from router.store.newer_keys import NewerKeys


class Store:
    """Both what carries questions and what reads keys."""

    def __init__(self) -> None:
        self.up = True
        self.version = 1
        self.read = 0  # the version that was read last
        self.questions: list[asyncio.Future[Any]] = []

    def post(self, command: Any) -> asyncio.Future[Any]:
        assert command.words[0] == "GET"
        self.questions.append(asyncio.get_running_loop().create_future())
        return self.questions[-1]

    def answer(self, error: Exception | None = None) -> None:
        """The last question, as the store stands now."""
        if error is not None:
            self.questions[-1].set_exception(error)
        else:
            self.questions[-1].set_result(b"%d" % self.version)

    async def refresh(self, version: int) -> None:
        self.read = version

    def newer(self) -> NewerKeys:
        return NewerKeys(cast(Courier, self), cast(KeySync, self))


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_all_that_wait_share_one_question_that_was_put_after_they_came() -> None:
    store = Store()
    newer = store.newer()
    first = [asyncio.ensure_future(newer()) for _ in range(100)]
    await settle()
    assert len(store.questions) == 1
    store.version = 2  # a key is made after the first question may have been answered
    later = [asyncio.ensure_future(newer()) for _ in range(100)]
    await settle()
    assert len(store.questions) == 1
    store.questions[0].set_result(b"1")
    await asyncio.gather(*first)
    await settle()
    assert not any(each.done() for each in later)
    assert (len(store.questions), store.read) == (2, 1)
    store.answer()
    await asyncio.gather(*later)
    assert store.read == 2
    await settle()
    assert len(store.questions) == 2, "nobody waits, nobody asks"


@pytest.mark.parametrize("error", [LinkError("late"), None], ids=["late", "never"])
async def test_unknown_is_not_invalid_while_nobody_can_tell(
    error: LinkError | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("router.store.newer_keys.WAIT_S", 0.05)
    store = Store()
    asked = asyncio.ensure_future(store.newer()())
    await settle()
    if error is not None:
        store.answer(error)
    with pytest.raises(RouterError) as caught:
        await asked
    assert (caught.value.code, caught.value.retry_after_s) == ("store_unavailable", 1.0)


async def test_a_store_that_is_away_is_not_asked() -> None:
    store = Store()
    store.up = False
    await store.newer()()
    assert not store.questions


async def test_who_waits_when_the_router_ends_is_told_so() -> None:
    store = Store()
    newer = store.newer()
    asked = asyncio.ensure_future(newer())
    await settle()
    await newer.stop()
    with pytest.raises(RouterError):
        await asked
