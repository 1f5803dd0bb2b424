"""Events that were passed on are counted and kept to the last one, however they come and however the answer ends."""

from __future__ import annotations

import pytest

from tests.support.legs import begun, role
from tests.support.playbook import DONE, Playbook, event


@pytest.mark.parametrize("number", [1, 31, 32, 33, 64, 200])
@pytest.mark.parametrize("at_once", [1, 7])
async def test_every_byte_is_counted_and_every_text_kept(book: Playbook, number: int, at_once: int) -> None:
    said = [event(f"{n} ") for n in range(number)]
    client, backend = await begun(book)
    for at in range(0, number, at_once):
        backend.goes_on(b"".join(said[at : at + at_once]))
    (x,) = book.app.lifecycle.live
    assert x.relay is not None
    x.relay.tally()
    assert x.transcript is not None
    assert x.transcript.text == "".join(f"{n} " for n in range(number))
    x.relay.tally()
    assert x.answer.delivered_bytes == len(client.answer.body), "nothing counts twice"
    backend.goes_on(event(finish="stop"), DONE, end=True)
    body = b"".join([role(), *said, event(finish="stop"), DONE])
    assert client.answer.body == body
    (record,) = book.records
    assert record.reply_bytes == len(body)


async def test_what_the_client_has_is_known_when_it_leaves(book: Playbook) -> None:
    client, backend = await begun(book, *(event("a") for _ in range(40)))
    body = client.answer.body
    client.leave()
    assert book.records[0].reply_bytes == len(body)
    assert backend.connections[-1].wire.closed
