"""Requests that are held while nothing runs: who goes on, who is kept company, who is refused."""

from __future__ import annotations

import pytest

from router.core.dormancy import TRIES, Hindrance
from router.gateway.holding import OPEN_S
from tests.support.playbook import DONE, HEAD, MODEL, Playbook, chat, configuration, event, whole

WAKE = "\n[models.m]\nmin = 0\n[models.m.wake]\nheld = 3\nheld_bytes = 2000\nwait_s = 60\n"
PING = b": ping\n\n"


class Asleep(Playbook):
    """No backend answers; wakes are counted."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, head: str = HEAD + WAKE) -> None:
        super().__init__(monkeypatch, configuration(head, ("us-east/a",)))
        self.wakes: list[str] = []
        self.app.lifecycle.holding.wake = self.wakes.append
        self.app.lifecycle.holding.wait_s = lambda model: 42.0
        self.app.fleet.set_asleep("us-east/a", True)

    def starts(self) -> None:
        self.app.fleet.set_asleep("us-east/a", False)

    def pass_time(self, seconds: float) -> None:
        for _ in range(round(seconds * 10)):
            self.advance(0.1)


@pytest.fixture
def asleep(monkeypatch: pytest.MonkeyPatch) -> Asleep:
    return Asleep(monkeypatch)


async def test_it_goes_on_when_a_backend_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    book = Asleep(monkeypatch)
    client = book.client()
    client.send(chat())
    await book.turn()
    book.pass_time(5.0)
    assert (book.wakes, client.heard) == ([MODEL], False)
    book.starts()
    book.advance(0.1)
    await book.turn()
    book.asked.answers(body=whole())
    assert (client.answer.status, client.answer.headers["x-router-backend"]) == (200, "us-east/a")
    assert book.records[0].wait_s == pytest.approx(5.1)
    book.at_rest()


async def test_a_stream_that_waits_long_is_begun_and_kept_alive(monkeypatch: pytest.MonkeyPatch) -> None:
    book = Asleep(monkeypatch)
    client, other = book.client(), book.client()
    client.send(chat(stream=True))
    other.send(chat())
    await book.turn()
    book.pass_time(OPEN_S - 1.0)
    assert not client.heard
    book.pass_time(2.0)
    assert (client.answer.status, client.answer.headers["content-type"]) == (200, "text/event-stream")
    assert (client.answer.body, other.heard) == (PING, False)
    book.pass_time(30.0)
    assert client.answer.body == PING * 3
    book.starts()
    book.advance(0.1)
    await book.turn()
    first, second = book.backend("us-east/a").connections
    first.outbound.data_received(
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    )
    for piece in (event("Hello"), event(finish="stop"), DONE):
        first.outbound.data_received(b"%x\r\n%b\r\n" % (len(piece), piece))
    first.outbound.data_received(b"0\r\n\r\n")
    assert client.answer.body == PING * 3 + event("Hello") + event(finish="stop") + DONE
    assert client.answer.whole
    assert client.wire.written.count(b"HTTP/1.1") == 1
    second.outbound.data_received(
        b"HTTP/1.1 200 X\r\ncontent-type: application/json\r\ncontent-length: %d\r\n\r\n%b" % (len(whole()), whole())
    )
    assert other.answer.status == 200
    assert {r.status for r in book.records} == {200}
    book.at_rest()


async def test_an_error_of_a_stream_that_was_begun_comes_in_band(monkeypatch: pytest.MonkeyPatch) -> None:
    book = Asleep(monkeypatch)
    client, other = book.client(), book.client()
    client.send(chat(stream=True))
    other.send(chat())
    await book.turn()
    book.pass_time(61.0)
    await book.turn()
    assert client.answer.status == 200
    assert b'"code":"wait_expired"' in client.answer.body
    assert (DONE in client.answer.body, client.answer.whole) == (False, False)
    assert (other.answer.status, other.answer.headers["retry-after"]) == (429, "42")
    book.at_rest()


async def test_an_answer_in_one_piece_is_none_for_a_stream_that_was_begun(monkeypatch: pytest.MonkeyPatch) -> None:
    book = Asleep(monkeypatch)
    client = book.client()
    client.send(chat(stream=True))
    await book.turn()
    book.pass_time(OPEN_S + 1.0)
    book.starts()
    book.advance(0.1)
    await book.turn()
    book.asked.answers(body=whole())
    await book.turn()
    assert b'"error"' in client.answer.body
    assert b'chat.completion"' not in client.answer.body
    book.at_rest()


async def test_the_room_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    book = Asleep(monkeypatch)
    clients = [book.client() for _ in range(4)]
    for client in clients:
        client.send(chat())
    await book.turn()
    assert [client.heard for client in clients] == [False, False, False, True]
    assert clients[3].answer.error["code"] == "admission_full"
    assert clients[3].answer.headers["retry-after"] == "42"
    clients[0].leave()  # makes room
    large, small = book.client(), book.client()
    large.send(chat(user="x" * 3000))
    small.send(chat())
    await book.turn()
    assert (large.answer.status, small.heard) == (429, False)
    for client in (*clients[1:3], small):
        client.leave()
    assert len(book.app.lifecycle.holding) == 0
    book.at_rest()


async def test_when_nothing_can_wake_it_nobody_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    book = Asleep(monkeypatch)
    told = "the webhook answered 500"
    found: list[Hindrance] = []
    book.app.lifecycle.holding.trouble = lambda model: found[-1] if found else None
    client, late = book.client(), book.client()
    client.send(chat())
    await book.turn()
    book.pass_time(1.0)
    found.append(Hindrance("why", told, book.now_s, book.now_s + 15.0))
    book.pass_time(1.0)
    assert not client.heard, "the next call may help"
    found.append(Hindrance("why", told, book.now_s, book.now_s + 15.0, TRIES))
    book.pass_time(0.2)
    await book.turn()
    late.send(chat())
    await book.turn()
    for answer in (client.answer, late.answer):
        assert (answer.status, answer.error["code"], answer.headers["retry-after"]) == (503, "no_backend", "42")
        assert answer.error["message"] == f"No backend of the model `{MODEL}` runs, and none could be started: {told}."
    first = max(book.records, key=lambda record: record.held_s)
    assert first.refusal == client.answer.error["message"]
    assert first.held_s == first.wait_s == pytest.approx(2.1, abs=0.2)
    assert len(book.wakes) == 1
    book.at_rest()


async def test_those_who_come_first_begin_with_a_few(monkeypatch: pytest.MonkeyPatch) -> None:
    book = Asleep(monkeypatch, HEAD + WAKE.replace("held = 3", "held = 100").replace("2000", "200000"))
    clients = [book.client() for _ in range(40)]
    for client in clients:
        client.send(chat())
    await book.turn()
    book.starts()
    book.advance(0.1)
    await book.turn()
    b = book.app.fleet.backends["us-east/a"]
    assert b.inflight == book.app.fleet.params.wake_places
    for client in clients:
        client.leave()
    book.at_rest()


async def test_a_model_that_need_not_sleep_is_refused_as_before(monkeypatch: pytest.MonkeyPatch) -> None:
    book = Asleep(monkeypatch, HEAD)
    client = book.client()
    client.send(chat())
    await book.turn()
    assert (client.answer.status, book.wakes) == (503, [])


async def test_drained_backends_are_not_woken(monkeypatch: pytest.MonkeyPatch) -> None:
    book = Asleep(monkeypatch)
    book.starts()
    book.app.fleet.set_draining("us-east/a", True)
    client = book.client()
    client.send(chat())
    await book.turn()
    assert (client.answer.status, book.wakes) == (503, [])
