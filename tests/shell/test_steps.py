"""Long bodies take turns: one step of one of them, then everything else on the loop."""

from __future__ import annotations

import asyncio

import pytest

from router.gateway.steps import Steps, Turns
from router.wire.flow import Flow


def walk(log: list[str], name: str, count: int) -> Steps[str]:
    for number in range(count):
        log.append(f"{name}{number}")
        yield 1
    return name


async def test_one_step_a_turn_whatever_waits() -> None:
    loop = asyncio.get_running_loop()
    turns, log = Turns(loop), list[str]()
    found: list[str] = []

    async def read(name: str, count: int) -> None:
        found.append(await turns.read(walk(log, name, count)))

    for name, count in (("a", 3), ("b", 2), ("c", 1)):
        Flow(read(name, count)).step()
    assert not log
    assert len(turns) == 3
    while turns:
        before = len(log)
        await asyncio.sleep(0)
        assert len(log) <= before + 1
    assert log == ["a0", "b0", "c0", "a1", "b1", "a2"]
    assert found == ["c", "b", "a"]


async def test_what_a_step_raises_is_raised_to_whoever_waits() -> None:
    turns = Turns(asyncio.get_running_loop())

    def bad() -> Steps[None]:
        yield 1
        raise ValueError("bad")

    async def read() -> None:
        with pytest.raises(ValueError, match="bad"):
            await turns.read(bad())
        done.set()

    done = asyncio.Event()
    Flow(read()).step()
    await asyncio.wait_for(done.wait(), 5)
    assert not turns


async def test_nothing_is_done_for_a_client_that_has_left() -> None:
    turns, log = Turns(asyncio.get_running_loop()), list[str]()

    async def read() -> None:
        await turns.read(walk(log, "a", 1000))

    flow = Flow(read())
    flow.step()
    await asyncio.sleep(0)
    flow.throw(ConnectionError())
    for _ in range(5):
        await asyncio.sleep(0)
    assert log == ["a0"]
    assert not turns
