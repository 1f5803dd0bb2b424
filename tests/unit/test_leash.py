"""How attempts are ended from outside."""

from __future__ import annotations

from tests.support.playbook import ALONE, DONE, Playbook, chat, event


async def test_an_answer_that_was_said_is_not_handed_over(book: Playbook) -> None:
    client = book.client()
    client.send(chat(stream=True))
    await book.turn()
    backend = book.asked
    backend.streams(event("a"), event(finish="stop"), DONE)
    (x,) = book.app.lifecycle.live
    assert x.relay is not None
    assert not x.relay.hand_over("is to go away")
    book.advance(0.3)
    assert client.answer.whole
    assert len(book.records[0].attempts) == 1


async def test_a_stream_that_nobody_else_can_go_on_with_stays_until_it_is_cut(book: Playbook) -> None:
    client = book.client()
    client.send(chat(stream=True, **ALONE))
    await book.turn()
    backend = book.asked
    backend.streams(event("a"))
    (x,) = book.app.lifecycle.live
    assert x.relay is not None
    assert not x.relay.hand_over("is to go away")
    backend.goes_on(event("b"), event(finish="stop"), DONE, end=True)
    assert client.answer.whole


async def test_whole_answers_are_moved_before_they_have_begun(book: Playbook) -> None:
    client = book.client()
    client.send(chat())
    await book.turn()
    first = book.asked
    (x,) = book.app.lifecycle.live
    relay = x.relay
    assert relay is not None
    assert relay.hand_over("is to go away")
    assert not relay.hand_over("is to go away"), "once is enough"
    await book.turn()
    assert book.asked is not first
    client.leave()
    await book.turn()
    book.at_rest()
