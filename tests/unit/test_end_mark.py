"""A backend that dies behind the finish reason owes its client a usage and an end mark: the router writes them."""

from __future__ import annotations

import pytest

from tests.support.legs import USAGE, begun, events_in, moved, role, text_of, usage
from tests.support.playbook import DONE, Playbook, chat, event


@pytest.mark.parametrize("came", [(), (usage(5, 1)[:-9],), (usage(5, 1)[:-1],), (usage(5, 1),)])
async def test_a_backend_that_dies_behind_the_finish_reason(book: Playbook, came: tuple[bytes, ...]) -> None:
    client, first = await begun(book, event("a"), event(finish="stop"), *came, request=chat(stream=True, **USAGE))
    first.dies()
    await book.turn()
    body = client.answer.body
    assert client.answer.whole
    assert body.count(b"[DONE]") == body.count(b'"usage"') == 1
    assert body.endswith(b"}\n\n" + DONE)
    assert text_of(client) == "a"
    (record,) = book.records
    last = events_in(client)[-1]
    assert (record.cause, last["choices"]) == ("ok", [])
    assert last["usage"]["completion_tokens"] == record.output_tokens
    assert last["usage"]["prompt_tokens"] == record.prompt_tokens
    book.at_rest()


async def test_the_end_mark_of_a_backend_that_has_none(book: Playbook) -> None:
    client, first = await begun(book, event("a"))
    first.dies()
    second = await moved(book, first)
    second.streams(role("c2"), event("b", id="c2"), event(finish="stop", id="c2"), end=True)
    assert client.answer.whole
    assert client.answer.body.endswith(DONE)
    assert text_of(client) == "ab"


async def test_a_backend_without_an_end_mark_is_left_so(book: Playbook) -> None:
    client, first = await begun(book, event("a"))
    first.goes_on(event(finish="stop"), end=True)
    assert client.answer.whole
    assert DONE not in client.answer.body
