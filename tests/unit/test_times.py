"""The times of a request, as its record tells them: no first token where there was none."""

from __future__ import annotations

import pytest

from router.telemetry.journal import Record
from tests.support.playbook import DONE, Playbook, chat, event, post, whole


def counted(book: Playbook, metric: str) -> float:
    """The count of a histogram, over all its series."""
    book.app.telemetry.flush()
    page = b"".join(book.app.telemetry.metrics.render()).decode()
    return sum(float(line.rpartition(" ")[2]) for line in page.splitlines() if line.startswith(f"{metric}_count"))


async def answered(book: Playbook, request: bytes, *pieces: bytes, kind: str = "application/json") -> Record:
    """A request whose backend is silent for 5 s and then answers at once."""
    client = book.client()
    client.send(request)
    await book.turn()
    book.advance(5.0)
    if kind == "text/event-stream":
        book.asked.streams(*pieces, end=True)
    else:
        book.asked.answers(body=pieces[0], content_type=kind)
    assert client.answer.whole
    return book.records[0]


async def test_an_answer_in_one_piece_has_no_first_token(book: Playbook) -> None:
    record = await answered(book, chat(), whole())
    assert (record.ttft_s, record.attempts[0].ttft_s) == (None, None)
    assert record.first_byte_s == record.attempts[0].first_byte_s == pytest.approx(5.0)
    assert counted(book, "router_ttft_seconds") == 0
    assert counted(book, "router_request_duration_seconds") == 1
    assert book.app.telemetry.stats.window(60)["ttft_s"] == {"p50": None, "p90": None, "p99": None}
    assert (record.prompt_tokens, record.output_tokens) == (7, 3), "it is charged as before"


async def test_a_stream_has_one(book: Playbook) -> None:
    record = await answered(book, chat(stream=True), event("Hi"), event(finish="stop"), DONE, kind="text/event-stream")
    assert record.ttft_s == record.first_byte_s == pytest.approx(5.0)
    assert counted(book, "router_ttft_seconds") == 1


async def test_an_engine_that_does_not_stream_has_none(book: Playbook) -> None:
    record = await answered(book, chat(stream=True), whole())
    assert record.ttft_s is None
    assert counted(book, "router_ttft_seconds") == 0


async def test_sound_has_none(book: Playbook) -> None:
    sound = post("/v1/audio/speech", b'{"model":"m","input":"Hi","voice":"v"}')
    record = await answered(book, sound, b"\x00\x01" * 100, kind="audio/wav")
    assert record.ttft_s is None
    assert record.first_byte_s == pytest.approx(5.0)


async def test_the_moments_of_an_attempt_are_in_order(book: Playbook) -> None:
    """Opening the connection, the head, the first token, the end."""
    backend = book.backends["us-east/a"]
    for other in ("us-east/b", "eu-west/a"):
        book.backend(other).refuses = True
        book.app.fleet.set_draining(other, True)
    backend.gets_lost()
    client = book.client()
    client.send(chat(stream=True))
    await book.turn()
    book.advance(1.0)
    backend.is_found()
    await book.turn()
    book.advance(1.0)
    backend.streams()
    book.advance(1.0)
    backend.goes_on(event("Hi"))
    book.advance(1.0)
    backend.goes_on(event(finish="stop"), DONE, end=True)
    (attempt,) = book.records[0].attempts
    moments = (attempt.connect_s, attempt.first_byte_s, attempt.ttft_s, attempt.duration_s)
    assert moments == pytest.approx((1.0, 2.0, 3.0, 4.0))
    assert client.answer.whole
    client.send(chat(stream=True))
    await book.turn()
    backend.streams(event("Hi"), event(finish="stop"), DONE, end=True)
    assert book.records[0].attempts[0].connect_s is None, "its connection was open"


async def test_an_attempt_without_an_answer_has_no_head(book: Playbook) -> None:
    client = book.client()
    client.send(chat(stream=True))
    await book.turn()
    book.advance(1.0)
    book.asked.dies()
    await book.turn()
    book.asked.streams(event("Hi"), event(finish="stop"), DONE, end=True)
    first, second = book.records[0].attempts
    assert (first.first_byte_s, second.first_byte_s) == (None, 0.0)


async def test_a_request_that_is_refused_has_begun_with_nothing(book: Playbook) -> None:
    client = book.client()
    client.send(chat(model="nope"))
    await book.turn()
    assert (book.records[0].first_byte_s, book.records[0].ttft_s) == (None, None)
