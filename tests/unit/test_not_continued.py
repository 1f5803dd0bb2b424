"""Streams that nobody can continue: the error in band, no end mark, the connection cut, and the reason noted."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.legs import begun
from tests.support.playbook import DONE, Playbook, chat, event


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"n": 2}, "several_choices"),
        ({"logprobs": True}, "logprobs"),
        ({"response_format": {"type": "json_object"}}, "guided"),
        ({"guided_regex": "a+"}, "guided"),
        ({"structured_outputs": {"choice": ["a"]}}, "guided"),
        ({"tool_choice": "required", "tools": [{}]}, "tool_calls"),
        ({"echo": True}, "odd_request"),
        ({"messages": [{"role": "user", "content": "x"}, {"role": "assistant", "content": "y"}]}, "odd_request"),
    ],
)
async def test_requests_that_are_not_gone_on_with(book: Playbook, fields: dict[str, Any], reason: str) -> None:
    client, first = await begun(book, event("a"), request=chat(stream=True, **fields))
    first.dies()
    await book.turn()
    answer = client.answer
    assert not answer.whole
    assert b"stream_interrupted" in answer.body
    assert DONE not in answer.body
    assert client.wire.closed
    (record,) = book.records
    assert (record.not_continued, record.cause) == (reason, "truncated")
    book.at_rest()


@pytest.mark.parametrize(
    ("delta", "reason"),
    [
        ({"tool_calls": [{"index": 0, "function": {"name": "f"}}]}, "tool_calls"),
        ({"reasoning_content": "hm"}, "reasoning"),
        ({"reasoning": "hm"}, "reasoning"),
        ({"audio": {"data": "x"}}, "odd_answer"),
    ],
)
async def test_answers_that_are_not_gone_on_with(book: Playbook, delta: dict[str, Any], reason: str) -> None:
    choice = {"index": 0, "delta": delta, "finish_reason": None}
    client, first = await begun(book, event("a"), event(choices=[choice]))
    first.dies()
    await book.turn()
    assert b"stream_interrupted" in client.answer.body
    assert book.records[0].not_continued == reason


async def test_a_fault_of_the_request_is_not_taken_elsewhere(book: Playbook) -> None:
    client, first = await begun(book, event("a"))
    first.goes_on(b'data: {"error":{"message":"bad","type":"BadRequestError","code":400}}\n\n', DONE)
    await book.turn()
    assert b"stream_interrupted" in client.answer.body
    assert book.records[0].not_continued == "refused"
