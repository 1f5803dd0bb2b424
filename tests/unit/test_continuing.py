"""A stream survives its backend: the client sees one answer, whichever backends it came from.

``router.gateway.continuing`` and what it brings together, through the whole router.
"""

from __future__ import annotations

import orjson
import pytest

from tests.support.legs import begun, body_of, events_in, moved, role, text_of
from tests.support.playbook import DONE, MODEL, Playbook, chat, configuration, event, post


async def test_another_backend_goes_on_after_the_last_character(book: Playbook) -> None:
    client, first = await begun(book, event("Grüße, "), event("We"), event("lt")[:-9])
    first.dies()
    second = await moved(book, first)
    asked = body_of(second)
    assert asked["messages"] == [
        {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Grüße, We"},
    ]
    assert (asked["continue_final_message"], asked["add_generation_prompt"]) == (True, False)
    second.streams(role("c2"), event("lt", id="c2"), event("!", id="c2"), event(finish="stop", id="c2"), DONE, end=True)
    assert client.answer.whole
    assert text_of(client) == "Grüße, Welt!"
    assert client.answer.body.count(DONE) == 1
    assert client.answer.body.count(b'"role"') == 1
    assert {message["id"] for message in events_in(client)} == {"c1"}
    (record,) = book.records
    assert (record.error, record.cause, record.not_continued) == (None, "ok", None)
    assert [(a.outcome, a.kind) for a in record.attempts] == [("truncated", "first"), ("ok", "continue")]
    book.at_rest()


async def test_the_events_are_those_of_an_undisturbed_answer(book: Playbook) -> None:
    def token(text: str, id_: str = "c1") -> bytes:
        return event(id=id_, choices=[{"index": 0, "delta": {"content": text}, "finish_reason": None}])

    tokens = ["One", " two", ' "three"', "\n", "four\\", "", " 五", " six"]
    whole = [role(), *map(token, tokens), event(finish="stop"), DONE]
    client, first = await begun(book, *map(token, tokens[:4]))
    first.dies()
    second = await moved(book, first)
    second.streams(role("x"), *(token(text, "x") for text in tokens[3:]), event(finish="stop", id="x"), DONE)
    book.advance(0.3)
    assert client.answer.body == b"".join(whole)


@pytest.mark.parametrize("how", ["dies", "ends", "stalls", "fails", "aborts", "is doubted"])
async def test_every_way_to_break_off(book: Playbook, how: str) -> None:
    client, first = await begun(book, event("a"), event("b"))
    if how == "dies":
        first.dies()
    elif how == "ends":
        first.goes_on(end=True)
    elif how == "stalls":
        book.advance(61.0)
    elif how == "fails":
        first.goes_on(b'data: {"error":{"message":"EngineCore died","code":500}}\n\n', DONE)
    elif how == "aborts":
        first.goes_on(event(finish="abort"), DONE)
    else:
        book.app.lifecycle.backend_refused(first.pool.spec.name)
        book.advance(6.0)
    second = await moved(book, first)
    second.streams(event("c"), event(finish="stop"), DONE, end=True)
    assert client.answer.whole
    assert text_of(client) == "abc"
    assert client.answer.body.count(DONE) == 1
    book.at_rest()


async def test_a_stream_is_handed_over(book: Playbook) -> None:
    client, first = await begun(book, event("a"))
    (x,) = book.app.lifecycle.live
    assert x.relay is not None
    assert x.relay.hand_over("is to go away")
    second = await moved(book, first)
    second.streams(event("b"), event(finish="stop"), DONE, end=True)
    assert text_of(client) == "ab"
    assert [a.outcome for a in book.records[0].attempts] == ["moved", "ok"]
    assert book.app.fleet.backends[first.pool.spec.name].reputation.failures_total == 0


async def test_a_stream_that_nobody_can_go_on_with_is_not_handed_over(book: Playbook) -> None:
    client, first = await begun(book, event("a"), request=chat(stream=True, logprobs=True))
    (x,) = book.app.lifecycle.live
    assert x.relay is not None
    assert not x.relay.hand_over("is to go away")
    first.goes_on(event("b"), event(finish="stop"), DONE, end=True)
    assert text_of(client) == "ab"


async def test_what_waits_for_its_first_token_is_moved_as_well(book: Playbook) -> None:
    client, first = await begun(book)
    (x,) = book.app.lifecycle.live
    assert x.relay is not None
    assert x.relay.hand_over("is to go away")
    second = await moved(book, first)
    assert len(body_of(second)["messages"]) == 1
    second.streams(event("b"), event(finish="stop"), DONE, end=True)
    assert client.answer.whole


async def test_several_breaks_and_the_limit(book: Playbook) -> None:
    client, backend = await begun(book, event("0"))
    for number in range(1, 4):
        backend.goes_on(end=True)
        backend = await moved(book, backend)
        assert body_of(backend)["messages"][1]["content"] == "".join(map(str, range(number)))
        backend.streams(role("x"), event(str(number)))
    backend.goes_on(end=True)
    await book.turn()
    assert text_of(client) == "0123"
    assert b"stream_interrupted" in client.answer.body
    assert not client.answer.whole
    assert book.records[0].not_continued == "breaks"
    book.at_rest()


DEAD_ENGINE = b'data: {"error":{"message":"EngineCore encountered an issue. See stack trace","code":500}}\n\n'


async def test_a_request_that_kills_engines_is_stopped_after_the_second(book: Playbook) -> None:
    """Wherever it goes on, the engine dies at the same place."""
    client, first = await begun(book, *map(event, "abcdefghijklmnopqrstuvwxyz"))
    first.goes_on(DEAD_ENGINE, DONE)
    second = await moved(book, first)
    second.streams(event("0"))
    second.goes_on(DEAD_ENGINE, DONE)
    await book.turn()
    assert b"stream_interrupted" in client.answer.body
    assert book.records[0].not_continued == "deadly"
    again = book.client()
    again.send(chat(stream=True))
    await book.turn()
    book.asked.streams(event("0"))
    book.asked.goes_on(DEAD_ENGINE, DONE)
    await book.turn()
    assert len(book.records[0].attempts) == 1, "it is a suspect: one death is enough"
    refused = book.client()
    refused.send(chat(stream=True))
    assert refused.answer.status == 502


async def test_a_region_that_is_switched_off_twice_is_not_the_fault_of_its_streams(book: Playbook) -> None:
    client, backend = await begun(book, *map(event, "abcdefghijklmnopqrstuvwxyz"))
    for _ in range(3):
        backend.dies()
        backend = await moved(book, backend)
        backend.streams(*map(event, "abcdefghijklmnopqrstuvwxyz"))
    backend.goes_on(event(finish="stop"), DONE, end=True)
    assert client.answer.whole
    assert text_of(client) == "abcdefghijklmnopqrstuvwxyz" * 4


async def test_white_space_at_the_seam_comes_again_and_is_dropped(book: Playbook) -> None:
    client, first = await begun(book, event("a"), event(" \n"), request=chat(stream=True, max_tokens=9))
    first.dies()
    second = await moved(book, first)
    asked = body_of(second)
    assert asked["messages"][1]["content"] == "a"
    assert asked["max_tokens"] == 8, "the white space comes again"
    second.streams(event(" "), event("\n\nb"), event(finish="stop"), DONE, end=True)
    assert text_of(client) == "a \n\nb"


async def test_white_space_alone_is_nothing_to_go_on_with(book: Playbook) -> None:
    client, first = await begun(book, event("\n"))
    first.dies()
    second = await moved(book, first)
    assert "continue_final_message" not in body_of(second)
    second.streams(event("\na"), event(finish="stop"), DONE, end=True)
    assert text_of(client) == "\na"


@pytest.mark.parametrize("shows", [False, True])
async def test_a_stop_string_across_the_seam_ends_the_answer(book: Playbook, shows: bool) -> None:
    request = chat(stream=True, stop=["END", "x"], include_stop_str_in_output=shows)
    client, first = await begun(book, event("a"), event("bE"), request=request)
    first.dies()
    second = await moved(book, first)
    second.streams(event("N"))
    assert text_of(client) == "abE", "it may become a stop string"
    second.goes_on(event("D, and more"))
    await book.turn()
    assert client.answer.whole
    assert text_of(client) == ("abEND" if shows else "abE")
    assert events_in(client)[-1]["choices"][0]["finish_reason"] == "stop"
    assert client.answer.body.endswith(DONE)
    assert book.records[0].error is None
    book.at_rest()


async def test_what_might_have_been_a_stop_string_is_not_lost(book: Playbook) -> None:
    client, first = await begun(book, event("bE"), request=chat(stream=True, stop="END"))
    first.dies()
    second = await moved(book, first)
    second.streams(event("N"), event("E"), event("N"), event(finish="length"), DONE, end=True)
    assert text_of(client) == "bENEN"


async def test_a_client_that_has_its_own_message_gone_on_with(book: Playbook) -> None:
    messages = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": 'Once "up'}]
    request = chat(stream=True, messages=messages, continue_final_message=True, add_generation_prompt=False)
    _, first = await begun(book, event("on"), request=request)
    first.dies()
    asked = body_of(await moved(book, first))
    assert asked["messages"][-1] == {"role": "assistant", "content": 'Once "upon'}
    assert len(asked["messages"]) == 2


async def test_a_completion(book: Playbook) -> None:
    def part(text: str, finish: str | None = None) -> bytes:
        return event(id="cmpl", choices=[{"index": 0, "text": text, "finish_reason": finish}])

    client = book.client()
    client.send(post("/v1/completions", orjson.dumps({"model": MODEL, "prompt": 'Say "hi', "stream": True})))
    await book.turn()
    first = book.asked
    first.streams(part("a"), part(" b"))
    first.dies()
    second = await moved(book, first)
    asked = body_of(second)
    assert asked["prompt"] == 'Say "hia b'
    assert asked["max_tokens"] == 14, "vLLM gives 16 by default"
    assert "messages" not in asked
    second.streams(part("c"), part("", "length"), DONE, end=True)
    assert text_of(client) == "a bc"
    assert client.answer.whole


async def test_a_backend_that_does_not_go_on_is_not_the_last(book: Playbook) -> None:
    client, first = await begun(book, event("a"))
    first.dies()
    second = await moved(book, first)
    second.answers(400, b'{"error":{"message":"Both flags","code":400}}')
    third = await moved(book, second)
    third.streams(event("b"), event(finish="stop"), DONE, end=True)
    assert text_of(client) == "ab"
    assert [a.outcome for a in book.records[0].attempts] == ["truncated", "unsupported", "ok"]


async def test_a_whole_answer_is_no_rest(book: Playbook) -> None:
    client, first = await begun(book, event("a"))
    first.dies()
    second = await moved(book, first)
    second.answers(200, b'{"choices":[{"message":{"content":"ab"},"finish_reason":"stop"}]}')
    third = await moved(book, second)
    third.streams(event("b"), event(finish="stop"), DONE, end=True)
    assert text_of(client) == "ab"


async def test_the_answers_residency_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    book = Playbook(monkeypatch, configuration(backends=("us-east/a", "eu-west/a")))
    client, first = await begun(book, event("a"), request=chat(stream=True, headers={"x_router_residency": "us"}))
    first.dies()
    await book.turn()
    assert b"stream_interrupted" in client.answer.body
    assert book.records[0].not_continued == "no_backend"
    assert not book.backend("eu-west/a").connections


async def test_the_time_for_the_first_token_does_not_count_after_it(book: Playbook) -> None:
    client, first = await begun(book, event("a"), request=chat(stream=True, headers={"x_router_timeout_ms": "5000"}))
    book.advance(20.0)
    first.dies()
    second = await moved(book, first)
    book.advance(1.0)
    second.streams(event("b"), event(finish="stop"), DONE, end=True)
    assert text_of(client) == "ab"


async def test_a_client_that_asks_is_told_of_the_legs(book: Playbook) -> None:
    client, first = await begun(book, event("a"), request=chat(stream=True, headers={"x_router_legs": "1"}))
    first.dies()
    second = await moved(book, first)
    second.streams(event("b"), event(finish="stop"), DONE, end=True)
    note = f": router continued in {second.pool.spec.name}\n\n".encode()
    assert client.answer.body.count(note) == 1
    assert text_of(client) == "ab"


async def test_a_stream_that_finds_no_place_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    text = configuration(backends=("us-east/a", "us-west/a")).replace(
        'engine = "vllm"', 'engine = "vllm"\nmax_inflight = 1'
    )
    book = Playbook(monkeypatch, text)
    client, first = await begun(book, event("a"))
    other = book.client()
    other.send(chat(stream=True))
    await book.turn()
    first.dies()
    await book.turn()
    for _ in range(40):
        book.advance(1.0)
    assert client.answer.body.count(b": ping") == 2, "it has waited for a place"
    assert b'"stream_interrupted"' in client.answer.body
    assert book.records[0].not_continued == "no_backend"
    other.leave()


async def test_a_client_that_leaves_between_two_legs(book: Playbook) -> None:
    client, first = await begun(book, event("a"), event("b"))
    first.dies()
    second = await moved(book, first)
    client.leave()
    await book.turn()
    assert second.connections[-1].wire.closed
    assert book.records[0].cause == "client_gone"
    assert book.records[0].output_tokens == 2
    book.at_rest()


async def test_a_long_answer_is_gone_on_with_from_its_very_end(book: Playbook) -> None:
    """Longer than the bytes that are kept as they came."""
    client, first = await begun(book, event("0"))
    for number in range(1, 500):
        first.goes_on(event(f" {number}"))
    first.dies()
    second = await moved(book, first)
    assert body_of(second)["messages"][1]["content"] == " ".join(map(str, range(500)))
    second.streams(event(" end"), event(finish="stop"), DONE, end=True)
    assert text_of(client) == " ".join(map(str, range(500))) + " end"
    assert book.records[0].output_tokens >= 501
