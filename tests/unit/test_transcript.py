"""The text of a stream is kept to the last character, whatever shape its events have."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.transcript import TEXT_BYTES_MAX, Transcript, escaped, framed, message_of
from tests.support.effort import examples
from tests.support.playbook import DONE, event


def chunk(text: str | None, **fields: Any) -> bytes:
    return event(choices=[{"index": 0, "delta": {"content": text}, "finish_reason": None}], **fields)


def completion(text: str) -> bytes:
    return event(choices=[{"text": text, "index": 0, "logprobs": None, "finish_reason": None}])


def loose(text: str) -> bytes:
    """As Python's json writes it, with white space, ASCII alone, and members behind the text."""
    inside = escaped(text).decode()
    inside = "".join(c if ord(c) < 128 else orjson_ascii(c) for c in inside)
    return (
        b'data: {"id": "x", "choices": [{"delta": {"content": "%b"}, "index": 0}], "created": 1}\n\n' % inside.encode()
    )


def orjson_ascii(char: str) -> str:
    units = char.encode("utf-16-be")
    return "".join(f"\\u{units[i]:02x}{units[i + 1]:02x}" for i in range(0, len(units), 2))


def with_line_ends(text: str) -> bytes:
    return chunk(text).replace(b"\n", b"\r\n")


def with_other_members(text: str) -> bytes:
    return chunk(text, created=hash(text) % 7)


SHAPES = [chunk, completion, loose, with_line_ends, with_other_members]


@pytest.mark.parametrize("shape", SHAPES)
@given(texts=st.lists(st.text(st.characters(codec="utf-8"), max_size=4), min_size=1), batches=st.integers(1, 5))
@examples(0.5)
def test_the_text_is_what_was_said(shape: Any, texts: list[str], batches: int) -> None:
    transcript = Transcript("vllm")
    events = [shape(text) for text in texts]
    for start in range(0, len(events), batches):
        transcript.add(b"".join(events[start : start + batches]))
    assert transcript.text == "".join(texts)
    started = next((number for number, text in enumerate(texts) if text), len(texts))
    assert transcript.events == len(texts) - started, "each event is a token, once there is text"
    assert not transcript.odd


def test_runs_of_one_frame_are_found_between_other_events(monkeypatch: pytest.MonkeyPatch) -> None:
    """An answer that comes in one piece is read nearly as fast as one that comes token by token."""
    read: list[bytes] = []
    one_by_one = Transcript._event

    def reads(self: Transcript, event: bytes) -> bool:
        read.append(event)
        return one_by_one(self, event)

    monkeypatch.setattr(Transcript, "_event", reads)
    tokens = [chunk(f" {number}", created=1) for number in range(100)]
    after = [chunk(f" {number}", created=2) for number in range(100, 200)]
    transcript = Transcript("vllm")
    transcript.add(b"".join([chunk("", created=1), *tokens, *after[:1], event(finish="length"), DONE]))
    transcript.add(b"".join(after[1:]))
    assert transcript.text == "".join(f" {number}" for number in range(200))
    assert transcript.events == 200
    assert len(read) < 12


def test_halves_of_a_character_in_two_events_are_one() -> None:
    transcript = Transcript("vllm")
    halves = [b"\\ud83d", b"\\ude00"]
    shape = b'data: {"choices":[{"index":0,"delta":{"content":"%b"},"finish_reason":null}]}\n\n'
    transcript.add(shape % b"x")
    for half in halves:
        transcript.add(shape % half)
    assert transcript.text == "x😀"
    transcript.add(shape % halves[0])
    assert transcript.text == ""
    assert transcript.odd == "half_character"


def test_what_is_no_text_is_named() -> None:
    def odd(*events: bytes) -> str:
        transcript = Transcript("vllm")
        for each in events:
            transcript.add(each)
        return transcript.odd

    def delta(**members: Any) -> bytes:
        return event(choices=[{"index": 0, "delta": members, "finish_reason": None}])

    assert odd(delta(tool_calls=[{}])) == "tool_calls"
    assert odd(delta(function_call={"name": "f"})) == "tool_calls"
    assert odd(delta(reasoning_content="hm")) == "reasoning"
    assert odd(delta(reasoning_content=None, content="a")) == ""
    assert odd(delta(refusal="no")) == "odd_answer"
    assert odd(chunk("a").replace(b'"index":0', b'"index":1')) == "several_choices"
    assert odd(event(choices=[{"index": 0, "delta": {"content": "a"}, "logprobs": {"content": []}}])) == "logprobs"
    assert odd(b"data: rubbish\n\n") == "odd_answer"
    assert odd(chunk("a"), b'data: {"half') == "odd_answer"


def test_comments_marks_and_usages_are_no_text() -> None:
    transcript = Transcript("vllm")
    transcript.add(chunk("a") + b": ping\n\n" + chunk("b") + event(choices=[], usage={"prompt_tokens": 1}) + DONE)
    assert (transcript.text, transcript.events, transcript.odd) == ("ab", 2, "")


def test_tokens_that_have_added_nothing_come_again() -> None:
    transcript = Transcript("vllm")
    for text in ("a", "", "b", " ", "", "\n", "", ""):
        transcript.add(chunk(text))
    assert transcript.events == 8
    transcript.forget_unsaid()
    assert (transcript.events, transcript.blank_events) == (6, 3)
    transcript.forget_unsaid()
    assert transcript.events == 6


def test_blank_tokens_are_counted_across_batches() -> None:
    transcript = Transcript("vllm")
    transcript.add(chunk("a") + chunk("b"))
    transcript.add(chunk("c") + chunk(" "))
    transcript.add(chunk(" ") + chunk("\n"))
    assert transcript.blank_events == 3
    transcript.add(chunk(" ") + chunk("d"))
    assert transcript.blank_events == 0


def test_the_end_is_seen() -> None:
    transcript = Transcript("vllm")
    transcript.add(chunk("a"))
    assert not transcript.finished
    transcript.add(event("b", finish="length"))
    assert transcript.finished
    assert transcript.text == "ab"


def test_a_text_behind_a_byte_order_mark_is_kept() -> None:
    transcript = Transcript("vllm")
    transcript.add(b"\xef\xbb\xbf" + chunk("a") + chunk("b"))
    assert (transcript.text, transcript.events) == ("ab", 2)


def test_very_long_answers_are_not_kept() -> None:
    transcript = Transcript("vllm")
    for _ in range(5):
        transcript.add(chunk("x" * (TEXT_BYTES_MAX // 4)))
    assert transcript.odd == "too_long"
    assert transcript.text == ""


def test_a_frame_is_what_stands_around_the_text() -> None:
    found = framed(chunk('say "a"\\'))
    assert found is not None
    frame, inside = found
    assert inside == b'say \\"a\\"\\\\'
    assert frame.around("ü\n") == chunk("ü\n")
    assert framed(DONE) is None
    assert framed(b'data: {"content":"a","text":"b"}\n\n') is None, "which of them is the text?"


def test_messages() -> None:
    assert message_of(b": ping\n\n") is None
    assert message_of(DONE) is None
    assert message_of(b"data: [1]\n\n") == {}
    assert message_of(b'event: x\r\ndata: {\r\ndata: "a":1}\r\n\r\n') == {"a": 1}
