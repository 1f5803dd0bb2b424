"""A process that is held up reads what has arrived before it judges."""

from __future__ import annotations

import asyncio
import socket
import time

import pytest

from router.deadline import within


async def test_an_answer_that_lies_unread_is_in_time() -> None:
    loop = asyncio.get_running_loop()
    answer: asyncio.Future[str] = loop.create_future()
    here, there = socket.socketpair()
    here.setblocking(False)
    loop.add_reader(here.fileno(), lambda: answer.done() or answer.set_result(here.recv(9).decode()))
    try:
        async with within(0.05):
            there.send(b"late")
            time.sleep(0.2)  # noqa: ASYNC251 - the process is held up; the answer is in the socket
            assert await answer == "late"
    finally:
        loop.remove_reader(here.fileno())
        here.close()
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
