"""Background loops survive what nobody foresaw, and say so."""

from __future__ import annotations

import asyncio
import gc
import logging
import weakref

import pytest

from router import tasks
from router.tasks import spawn, stop, supervise, wait_for
from router.wire.flow import Flow


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "PAUSE_S", 0.001)
    monkeypatch.setattr(tasks, "PAUSE_S_MAX", 0.004)


@pytest.mark.parametrize("error", [ValueError("x"), OSError(), AssertionError(), asyncio.CancelledError()])
async def test_a_loop_is_started_again_whatever_ends_it_and_the_same_failure_is_said_once(
    error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.ERROR, "router.tasks")
    begun = 0
    enough = asyncio.Event()

    async def loop() -> None:
        nonlocal begun
        begun += 1
        if begun > 5:
            enough.set()
            await asyncio.Event().wait()
        raise error

    task = supervise(loop, name="odd")
    await asyncio.wait_for(enough.wait(), 10)
    assert begun == 6
    assert [r.getMessage() for r in caplog.records] == ["task odd failed; it is started again"]
    assert caplog.records[0].exc_info is not None
    await stop(task)
    assert task.cancelled()


async def test_every_new_failure_is_said(caplog: pytest.LogCaptureFixture) -> None:
    errors = iter([ValueError("a"), ValueError("a"), ValueError("b"), KeyError("c")])

    async def loop() -> None:
        if (error := next(errors, None)) is not None:
            raise error

    await asyncio.wait_for(supervise(loop, name="odd"), 10)
    assert len(caplog.records) == 3


async def test_a_loop_can_be_stopped_while_it_waits_to_start_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "PAUSE_S", 60.0)

    async def loop() -> None:
        raise ValueError

    task = supervise(loop, name="odd")
    await asyncio.sleep(0)
    await asyncio.wait_for(stop(task), 10)
    assert task.done()


class _Held:
    """A frame knows it."""


async def _fail() -> None:
    await asyncio.sleep(0)
    raise ValueError("x")


async def _hold(left: list[asyncio.Task[None]]) -> weakref.ref[_Held]:
    held = _Held()
    try:
        await wait_for(spawn(_fail(), name="fails", expected=(ValueError,)), left.append)
    except ValueError:
        pass
    return weakref.ref(held)


async def test_the_failure_of_a_task_holds_nobody_who_waited_for_it() -> None:
    gc.disable()
    try:
        left: list[asyncio.Task[None]] = []
        held = await _hold(left)
        await asyncio.sleep(0)
        assert len(left) == 1
        left.clear()
        await asyncio.sleep(0)
        assert held() is None
    finally:
        gc.enable()


async def test_a_task_goes_on_when_the_flow_that_waits_for_it_is_ended() -> None:
    gate, left = asyncio.Event(), list[asyncio.Task[bool]]()
    task = spawn(gate.wait(), name="goes on")

    async def wait() -> None:
        with pytest.raises(ConnectionError):
            await wait_for(task, left.append)

    flow = Flow(wait())
    flow.step()
    flow.throw(ConnectionError())
    assert flow.done
    gate.set()
    await task
    await asyncio.sleep(0)
    assert left == [task]
