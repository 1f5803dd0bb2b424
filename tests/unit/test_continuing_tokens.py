"""The tokens of an answer that several backends gave: one usage, one charge, one limit."""

from __future__ import annotations

import pytest

from tests.support.legs import USAGE, begun, body_of, events_in, moved, text_of, usage
from tests.support.playbook import DONE, Playbook, chat, event


async def test_one_usage_and_one_charge(book: Playbook) -> None:
    client, first = await begun(book, event("a"), event("b"), request=chat(stream=True, **USAGE))
    first.dies()
    second = await moved(book, first)
    second.streams(event("c"), event(finish="stop"), usage(9, 1), DONE, end=True)
    shown = [message["usage"] for message in events_in(client) if message.get("usage")]
    assert shown == [{"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}]
    (record,) = book.records
    assert (record.prompt_tokens, record.output_tokens, record.usage_reported) == (7, 3, True)


async def test_a_usage_that_was_not_asked_for_stays_hidden(book: Playbook) -> None:
    client, first = await begun(book, event("a"))
    first.dies()
    second = await moved(book, first)
    second.streams(event("c"), event(finish="stop"), usage(8, 1), DONE, end=True)
    assert b"usage" not in client.answer.body
    assert (book.records[0].prompt_tokens, book.records[0].output_tokens) == (7, 2)


async def test_the_tokens_of_an_answer_that_stays_broken_are_charged_once(book: Playbook) -> None:
    client, first = await begun(book, event("a"), event("b"))
    first.dies()
    second = await moved(book, first)
    second.answers(500, b"{}")
    third = await moved(book, second)
    third.answers(500, b"{}")
    await book.turn()
    assert b"stream_interrupted" in client.answer.body
    (record,) = book.records
    assert record.output_tokens == 2
    assert record.not_continued == "no_backend"


async def test_the_limit_is_what_is_left(book: Playbook) -> None:
    _, first = await begun(book, event("a"), event("b"), request=chat(stream=True, max_tokens=5, min_tokens=4))
    first.dies()
    asked = body_of(await moved(book, first))
    assert (asked["max_tokens"], asked["min_tokens"]) == (3, 2)


async def test_the_engine_knows_better_how_many_tokens_were_said(book: Playbook) -> None:
    request = chat(stream=True, max_tokens=9, **USAGE)
    client, first = await begun(book, event("one two three"), event(" four"), request=request)
    first.dies()
    second = await moved(book, first, tokens=5)
    assert body_of(second)["max_tokens"] == 4
    second.streams(event(" five"), event(finish="length"), usage(12, 4), DONE, end=True)
    shown = [message["usage"] for message in events_in(client) if message.get("usage")]
    assert shown == [{"prompt_tokens": 7, "completion_tokens": 9, "total_tokens": 16}]
    assert book.records[0].output_tokens == 9


async def test_tokens_that_an_engine_keeps_because_of_a_stop_string_come_again(book: Playbook) -> None:
    """It keeps as many characters as a stop string has without its last: four tokens, of which the client has two."""
    request = chat(stream=True, max_tokens=9, stop=["море"], **USAGE)
    client, first = await begun(book, event("a"), event(""), event(" b"), event("c"), request=request)
    first.dies()
    second = await moved(book, first, tokens=2)
    assert body_of(second)["max_tokens"] == 7
    second.streams(event("d"), event(finish="stop"), usage(9, 1), DONE, end=True)
    shown = [message["usage"] for message in events_in(client) if message.get("usage")]
    assert shown == [{"prompt_tokens": 7, "completion_tokens": 3, "total_tokens": 10}]


async def test_of_white_space_that_comes_again_the_tokens_that_are_kept_are_no_part(book: Playbook) -> None:
    request = chat(stream=True, max_tokens=9, stop="море")
    _, first = await begun(book, event("a"), event("b"), event(""), event(" "), request=request)
    first.dies()
    assert body_of(await moved(book, first, tokens=3))["max_tokens"] == 7


@pytest.mark.parametrize("tokens", [1, 1000])
async def test_a_count_that_cannot_be_is_not_believed(book: Playbook, tokens: int) -> None:
    _, first = await begun(book, event("a"), event("b"), request=chat(stream=True, max_tokens=9))
    first.dies()
    assert body_of(await moved(book, first, tokens=tokens))["max_tokens"] == 7


async def test_an_engine_that_does_not_count_is_not_waited_for(book: Playbook, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.gateway.token_count.PATIENCE_S", 0.0)
    client, first = await begun(book, event("a"), request=chat(stream=True, max_tokens=9))
    first.dies()
    await book.turn()
    second = book.asked
    assert second.asked[0].startswith(b"POST /tokenize")
    assert body_of(second)["max_tokens"] == 8
    client.leave()


async def test_where_one_engine_does_not_count_the_next_one_is_asked(book: Playbook) -> None:
    client, first = await begun(book, event("one two"), event(" three"), request=chat(stream=True, max_tokens=9))
    first.dies()
    await book.turn()
    second = book.asked
    assert second.counts
    second.answers(404)  # the question ...
    await book.turn()
    second.answers(500, b"{}")  # ... and the rest
    third = await moved(book, second, tokens=4)
    assert body_of(third)["max_tokens"] == 5
    client.leave()


async def test_a_backend_found_dead_while_it_counts_is_not_sent_the_rest(book: Playbook) -> None:
    client, first = await begun(book, event("a"), request=chat(stream=True, max_tokens=9))
    first.dies()
    await book.turn()
    second = book.asked
    assert second.counts
    book.app.lifecycle.backend_refused(second.pool.spec.name)
    second.answers(404)
    third = await moved(book, second)
    third.streams(event("b"), event(finish="stop"), DONE, end=True)
    assert text_of(client) == "ab"
    assert b"continue_final_message" not in b"".join(second.asked)
    book.at_rest()


async def test_the_engine_counts_that_nothing_is_left(book: Playbook) -> None:
    client, first = await begun(book, event("one two"), request=chat(stream=True, max_tokens=2, **USAGE))
    first.dies()
    await moved(book, first, tokens=2)
    assert client.answer.whole
    assert events_in(client)[-1]["usage"]["completion_tokens"] == 2
    assert [a.outcome for a in book.records[0].attempts] == ["truncated", "moved"]
    assert book.records[0].error is None
    book.at_rest()


async def test_nothing_is_left_but_the_end(book: Playbook) -> None:
    client, first = await begun(book, event("a"), event("b"), request=chat(stream=True, max_tokens=2, **USAGE))
    first.dies()
    await book.turn()
    assert client.answer.whole
    messages = events_in(client)
    assert messages[-2]["choices"][0] == {"index": 0, "delta": {}, "finish_reason": "length"}
    assert messages[-1]["usage"]["completion_tokens"] == 2
    assert client.answer.body.endswith(DONE)
    assert book.records[0].error is None
    book.at_rest()
