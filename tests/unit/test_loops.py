"""A stream that repeats itself, through the whole router: let alone, noted, or ended well, as its plan says."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tests.support.legs import USAGE, begun, body_of, events_in, moved, role, text_of
from tests.support.playbook import DONE, HEAD, Backend, Playbook, chat, configuration, event, post, whole

PIECE = "I am sorry, but I cannot help with that. "
#: more than enough for it to be noticed
COPIES = 150


def new_book(monkeypatch: pytest.MonkeyPatch, loop_guard: str | None) -> Playbook:
    said = "" if loop_guard is None else f'loop_guard = "{loop_guard}"\n'
    return Playbook(monkeypatch, configuration(f"{HEAD}\n[plans.default]\n{said}"))


@pytest.fixture
async def stopping(monkeypatch: pytest.MonkeyPatch) -> Playbook:
    return new_book(monkeypatch, "stop")


def tokens(text: str) -> list[bytes]:
    return [event(text[at : at + 5]) for at in range(0, len(text), 5)]


def say(backend: Backend, pieces: list[bytes]) -> int:
    """Until the router does not listen any more. Returns how many events it has heard."""
    heard = 0
    for piece in pieces:
        if all(c.outbound.sink is None or c.wire.closed for c in backend.connections):
            break
        backend.goes_on(piece)
        heard += 1
    return heard


def repetitions(book: Playbook) -> dict[str, float]:
    """The metric, by what was done."""
    book.app.telemetry.flush()
    page = b"".join(book.app.telemetry.metrics.render()).decode()
    lines = [line for line in page.splitlines() if line.startswith("router_repetitions_total{")]
    return {line.partition('action="')[2].partition('"')[0]: float(line.rpartition(" ")[2]) for line in lines}


@pytest.mark.parametrize("request_body", [USAGE, {}], ids=["with usage", "without"])
async def test_stop_ends_it_well_and_frees_the_backend(stopping: Playbook, request_body: dict[str, Any]) -> None:
    client, backend = await begun(stopping, request=chat(stream=True, **request_body))
    heard = say(backend, tokens("Well. " + PIECE * COPIES))
    assert heard < len(PIECE) * COPIES / 5
    assert backend.connections[-1].wire.closed, "nobody generates any more"
    answer = client.answer
    assert answer.whole
    assert answer.body.endswith(DONE)
    assert answer.body.count(DONE) == 1
    assert text_of(client) == ("Well. " + PIECE * COPIES)[: 5 * heard]
    finishes = [choice.get("finish_reason") for message in events_in(client) for choice in message["choices"]]
    assert [reason for reason in finishes if reason] == ["repetition"]
    shown = [message["usage"] for message in events_in(client) if message.get("usage")]
    assert [usage["completion_tokens"] for usage in shown] == ([heard] if request_body else [])
    assert {message["id"] for message in events_in(client)} == {"c1"}
    (record,) = stopping.records
    assert (record.repetition, record.repetition_bytes, record.repetition_tokens) == ("stopped", len(PIECE), heard)
    assert (record.status, record.error, record.cause, record.output_tokens) == (200, None, "ok", heard)
    assert repetitions(stopping) == {"stopped": 1}
    assert stopping.app.fleet.backends[backend.pool.spec.name].reputation.failures_total == 0
    stopping.at_rest()
    client.wire.take()
    client.send(chat())
    await stopping.turn()
    stopping.asked.answers(body=whole("Better."))
    assert b"Better." in client.wire.take(), "the same connection serves the next request"


@pytest.mark.parametrize("loop_guard", [None, "observe", "off"])
async def test_otherwise_it_goes_on_to_its_own_end(monkeypatch: pytest.MonkeyPatch, loop_guard: str | None) -> None:
    book = new_book(monkeypatch, loop_guard)
    client, backend = await begun(book)
    said = tokens(PIECE * COPIES)
    assert say(backend, said) == len(said)
    backend.goes_on(event(finish="stop"), DONE, end=True)
    assert client.answer.body == b"".join([role(), *said, event(finish="stop"), DONE]), "to the byte"
    (record,) = book.records
    if loop_guard == "off":
        assert record.repetition is None
        assert repetitions(book) == {}
        return
    assert (record.repetition, record.repetition_bytes) == ("observed", len(PIECE))
    assert record.repetition_tokens is not None
    assert 600 < record.repetition_tokens < record.output_tokens
    assert repetitions(book) == {"observed": 1}


async def test_an_answer_that_says_something_is_let_alone(stopping: Playbook) -> None:
    client, backend = await begun(stopping)
    said = tokens("".join(f"{n}. {PIECE}" for n in range(400)))
    assert say(backend, said) == len(said)
    backend.goes_on(event(finish="stop"), DONE, end=True)
    assert client.answer.whole
    assert stopping.records[0].repetition is None
    assert repetitions(stopping) == {}


async def test_completions_have_their_own_shape(stopping: Playbook) -> None:
    def token(text: str) -> bytes:
        return event(id="cmpl-1", object="text_completion", choices=[{"index": 0, "text": text, "finish_reason": None}])

    client, backend = await begun(
        stopping, request=post("/v1/completions", b'{"model":"m","prompt":"x","stream":true}')
    )
    say(backend, [token(PIECE) for _ in range(2 * COPIES)])
    assert client.answer.whole
    last = events_in(client)[-1]
    assert (last["id"], last["object"]) == ("cmpl-1", "text_completion")
    assert last["choices"] == [{"index": 0, "text": "", "logprobs": None, "finish_reason": "repetition"}]


@pytest.mark.parametrize("member", ["reasoning_content", "reasoning"])
async def test_a_model_that_thinks_in_circles(stopping: Playbook, member: str) -> None:
    def thought(text: str) -> bytes:
        return event(choices=[{"index": 0, "delta": {member: text}, "finish_reason": None}])

    client, backend = await begun(stopping)
    heard = say(backend, [thought("Wait, ") for _ in range(2000)])
    assert heard < 2000
    assert events_in(client)[-1]["choices"][0]["finish_reason"] == "repetition"
    assert stopping.records[0].repetition == "stopped"


async def test_token_by_token_or_many_at_once_is_the_same(stopping: Playbook) -> None:
    client, backend = await begun(stopping)
    say(backend, [b"".join(tokens(PIECE * 10)) for _ in range(COPIES // 10)])
    assert client.answer.whole
    assert client.answer.body.endswith(DONE)


async def test_log_probabilities_of_the_last_token_are_not_said_again(stopping: Playbook) -> None:
    def token(text: str) -> bytes:
        logprobs = {"content": [{"token": text, "logprob": -0.1, "top_logprobs": []}]}
        return event(choices=[{"index": 0, "delta": {"content": text}, "logprobs": logprobs, "finish_reason": None}])

    client, backend = await begun(stopping, request=chat(stream=True, logprobs=True))
    say(backend, [token("again ") for _ in range(2000)])
    last = events_in(client)[-1]["choices"][0]
    assert (last["delta"], last["logprobs"], last["finish_reason"]) == ({}, None, "repetition")


async def test_several_choices_are_not_watched(stopping: Playbook) -> None:
    client, backend = await begun(stopping, request=chat(stream=True, n=2))
    said = [event(choices=[{"index": n % 2, "delta": {"content": PIECE}, "finish_reason": None}]) for n in range(300)]
    assert say(backend, said) == len(said)
    assert stopping.records == []
    client.leave()


async def test_whole_answers_are_not_watched(stopping: Playbook) -> None:
    client = stopping.client()
    client.send(chat())
    await stopping.turn()
    stopping.asked.answers(body=whole(PIECE * COPIES))
    assert client.answer.json["choices"][0]["message"]["content"] == PIECE * COPIES
    assert stopping.records[0].repetition is None


async def test_a_loop_over_two_backends_is_one_loop(stopping: Playbook) -> None:
    said = PIECE * 40 + PIECE[:4]
    client, first = await begun(stopping, *tokens(said), request=chat(stream=True, **USAGE))
    first.dies()
    second = await moved(stopping, first)
    assert body_of(second)["messages"][-1]["content"] == said
    second.streams(role("c2"))
    rest = (PIECE * COPIES)[4:]
    heard = say(second, [event(rest[at : at + 5], id="c2") for at in range(0, len(rest), 5)])
    assert second.connections[-1].wire.closed
    assert client.answer.whole
    assert client.answer.body.count(DONE) == 1
    (shown,) = [message["usage"] for message in events_in(client) if message.get("usage")]
    assert shown["completion_tokens"] == len(tokens(said)) + heard
    (record,) = stopping.records
    assert (record.repetition, record.error) == ("stopped", None)
    assert heard < COPIES * len(PIECE) / 5
    stopping.at_rest()


async def test_the_record_says_it_to_operators(stopping: Playbook) -> None:
    _, backend = await begun(stopping)
    say(backend, tokens(PIECE * COPIES))
    from router.telemetry.journal import as_document

    document = orjson.loads(orjson.dumps(as_document(stopping.records[0])))
    assert document["repetition"] == "stopped"
    assert document["repetition_bytes"] == len(PIECE)
