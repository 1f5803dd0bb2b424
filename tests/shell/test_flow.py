"""wire/flow.py: a coroutine stepped by the events it waits for."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref
from collections.abc import Coroutine
from typing import Any

import pytest

from router.wire.flow import Flow, Signal


class Left(Exception):  # noqa: N818
    """What the tests throw."""


def start(coro: Coroutine[Any, Any, None]) -> Flow:
    flow = Flow(coro)
    flow.step()
    return flow


def test_a_flow_runs_to_its_first_wait_at_once_and_on_when_the_signal_is_set() -> None:
    said: list[object] = []
    signal: Signal[int] = Signal()

    async def story() -> None:
        said.append("begins")
        said.append(await signal)

    flow = start(story())
    assert said == ["begins"]
    assert not flow.done
    signal.set(3)
    assert said == ["begins", 3], "it has run on before set returned"
    assert flow.done


def test_a_signal_that_is_set_already_is_no_wait() -> None:
    said: list[int] = []
    signal: Signal[int] = Signal()
    signal.set(1)
    signal.set(2)  # the first event wins

    async def story() -> None:
        said.append(await signal)
        said.append(await signal)

    assert start(story()).done
    assert said == [1, 1]


def test_setting_again_while_the_flow_runs_on_does_nothing() -> None:
    said: list[int] = []
    signal: Signal[int] = Signal()

    async def story() -> None:
        said.append(await signal)
        signal.set(2)
        said.append(await signal)

    start(story())
    signal.set(1)
    assert said == [1, 1]


def test_flows_that_wake_each_other_interleave_like_calls() -> None:
    said: list[str] = []
    first: Signal[None] = Signal()
    second: Signal[None] = Signal()

    async def a() -> None:
        await first
        said.append("a wakes b")
        second.set(None)
        said.append("a goes on")

    async def b() -> None:
        await second
        said.append("b")

    flows = [start(a()), start(b())]
    first.set(None)
    assert said == ["a wakes b", "b", "a goes on"]
    assert all(flow.done for flow in flows)


def test_a_second_waiter_is_an_error_of_its_own_and_the_first_is_served(caplog: pytest.LogCaptureFixture) -> None:
    served: list[int] = []
    signal: Signal[int] = Signal()

    async def story() -> None:
        served.append(await signal)

    first = start(story())
    second = start(story())
    assert second.done
    assert "one waiter" in str(caplog.records[0].exc_info)
    signal.set(7)
    assert first.done
    assert served == [7]


def test_throwing_ends_the_wait_and_runs_the_finally() -> None:
    said: list[str] = []
    signal: Signal[None] = Signal()

    async def story() -> None:
        try:
            await signal
        except Left:
            said.append("left")
        finally:
            said.append("cleaned up")

    flow = start(story())
    flow.throw(Left())
    assert said == ["left", "cleaned up"]
    assert flow.done
    signal.set(None)
    flow.throw(Left())
    assert said == ["left", "cleaned up"], "what comes later finds nobody"


def test_a_flow_that_is_thrown_out_of_one_wait_may_wait_again() -> None:
    said: list[object] = []
    first: Signal[int] = Signal()
    second: Signal[int] = Signal()

    async def story() -> None:
        try:
            await first
        except Left:
            said.append(await second)

    flow = start(story())
    flow.throw(Left())
    first.set(1)
    assert said == []
    second.set(2)
    assert said == [2]
    assert flow.done


def test_a_running_flow_is_left_alone() -> None:
    said: list[str] = []
    flow: Flow

    async def story() -> None:
        flow.throw(Left())
        said.append("unharmed")

    flow = Flow(story())
    flow.step()
    assert said == ["unharmed"]
    assert flow.done


def test_a_failure_is_logged_and_ends_the_flow_alone(caplog: pytest.LogCaptureFixture) -> None:
    signal: Signal[None] = Signal()

    async def story() -> None:
        await signal
        raise ValueError("broken")

    flow = start(story())
    with caplog.at_level(logging.ERROR):
        signal.set(None)  # whoever sets a signal is no party to what the flow does wrong
    assert flow.done
    assert "broken" in str(caplog.records[0].exc_info)


def test_what_ends_the_process_is_not_swallowed() -> None:
    signal: Signal[None] = Signal()

    async def story() -> None:
        await signal
        raise KeyboardInterrupt

    flow = start(story())
    with pytest.raises(KeyboardInterrupt):
        signal.set(None)
    assert flow.done


async def test_futures_and_tasks_can_be_awaited() -> None:
    said: list[int] = []
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def work() -> int:
        await asyncio.sleep(0)
        return 2

    async def story() -> None:
        said.append(await future)
        said.append(await asyncio.get_running_loop().create_task(work()))

    flow = start(story())
    future.set_result(1)
    async with asyncio.timeout(30):
        while not flow.done:  # noqa: ASYNC110
            await asyncio.sleep(0)
    assert said == [1, 2]


async def test_the_failure_of_a_future_is_raised_in_the_flow() -> None:
    said: list[str] = []
    future: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def story() -> None:
        try:
            await future
        except Left:
            said.append("seen")

    start(story())
    future.set_exception(Left())
    await asyncio.sleep(0)
    assert said == ["seen"]


async def test_throwing_leaves_the_future_running_for_others() -> None:
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def story() -> None:
        await future

    flow = start(story())
    flow.throw(Left())
    assert flow.done
    assert not future.done()
    future.set_result(1)
    await asyncio.sleep(0)
    assert await future == 1


async def test_a_wake_up_that_was_on_its_way_finds_the_flow_elsewhere() -> None:
    """The future is done and has called back; before the loop comes to it, the client leaves."""
    said: list[object] = []
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    last: Signal[str] = Signal()

    async def story() -> None:
        try:
            said.append(await future)
        except Left:
            said.append("left")
            said.append(await last)

    flow = start(story())
    future.set_result(1)
    flow.throw(Left())
    await asyncio.sleep(0)
    assert said == ["left"]
    assert not flow.done
    last.set("the end")
    assert said == ["left", "the end"]
    assert flow.done


async def test_a_wake_up_that_was_on_its_way_finds_the_flow_done(caplog: pytest.LogCaptureFixture) -> None:
    future: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    async def story() -> None:
        try:
            await future
        except Left:
            pass

    flow = start(story())
    future.set_result(1)
    flow.throw(Left())
    assert flow.done
    await asyncio.sleep(0)
    assert not caplog.records


def test_a_flow_that_has_ended_leaves_nothing_for_the_garbage_collector() -> None:
    class Tracked:
        pass

    async def story(signal: Signal[Tracked]) -> None:
        await signal

    gc.collect()
    gc.disable()
    try:
        signal: Signal[Tracked] = Signal()
        flow = start(story(signal))
        tracked = Tracked()
        alive = weakref.ref(tracked)
        signal.set(tracked)
        assert flow.done
        del flow, signal, tracked
        assert alive() is None
    finally:
        gc.enable()
