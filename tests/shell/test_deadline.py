"""A process that is held up reads what has arrived before it judges."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from router.deadline import within


@pytest.mark.parametrize("held_up_s", [0.2, 0.8])  # less and more than a process that is held up waits at most
@pytest.mark.parametrize("fairness", [0.0, 1.0, 3.0])
async def test_an_answer_that_lies_unread_is_in_time(held_up_s: float, fairness: float) -> None:
    """It passes through a stream and a task, as the store's do, and each turn of the loop takes a while."""
    here, there = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=here)
    answers: asyncio.Queue[bytes] = asyncio.Queue()

    async def carry() -> None:
        answers.put_nowait(await reader.readexactly(4))

    async def slow() -> None:
        while True:
            time.sleep(0.004)  # noqa: ASYNC251 - less than what counts as late
            await asyncio.sleep(0)

    tasks = [asyncio.create_task(carry()), asyncio.create_task(slow())]
    await asyncio.sleep(0)
    try:
        async with within(0.05, fairness=fairness):
            there.send(b"late")
            time.sleep(held_up_s)  # noqa: ASYNC251 - the process is held up; the answer is in the socket
            assert await answers.get() == b"late"
    finally:
        for task in tasks:
            task.cancel()
        writer.close()
        there.close()


async def test_it_begins_again_as_often_as_it_is_told_to() -> None:
    asked = []
    with pytest.raises(TimeoutError):
        async with within(0.02, again=lambda: len(asked) < 3 and not asked.append(1)):  # type: ignore[func-returns-value]
            await asyncio.get_running_loop().create_future()
    assert len(asked) == 3


async def test_silence_ends_in_time() -> None:
    began_s = time.monotonic()
    with pytest.raises(TimeoutError):
        async with within(0.05):
            await asyncio.get_running_loop().create_future()
    assert time.monotonic() - began_s >= 0.04
