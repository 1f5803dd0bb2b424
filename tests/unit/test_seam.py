"""Where one leg of an answer ends and the next begins, nothing shows it."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.seam import Seam, ending
from router.core.transcript import Transcript
from router.core.types import Usage
from tests.support.effort import examples
from tests.support.playbook import DONE, event


def said(text: str, **fields: Any) -> bytes:
    return event(choices=[{"index": 0, "delta": {"content": text}, "finish_reason": None}], id="first", **fields)


def rest(text: str, finish: str | None = None) -> bytes:
    return event(choices=[{"index": 0, "delta": {"content": text}, "finish_reason": finish}], id="second")


ROLE = event(
    choices=[{"index": 0, "delta": {"role": "assistant", "content": None}, "finish_reason": None}], id="second"
)


def seam_after(text: str, **changes: Any) -> Seam:
    transcript = Transcript("vllm")
    transcript.add(said(text))
    given: dict[str, Any] = {"said": 5, "again": "", "stops": (), "shows_stop": False, "shows_usage": False}
    return Seam(transcript, text, **{**given, "prompt_tokens": 7, **changes})


def text_of(data: bytes) -> str:
    lines = [orjson.loads(line[6:]) for line in data.split(b"\n\n") if line.startswith(b"data: {")]
    return "".join((c["delta"].get("content") or "") for line in lines for c in line["choices"])


def test_events_take_the_shape_of_the_first() -> None:
    seam = seam_after("a")
    out = seam.take(ROLE + rest("b")) + seam.take(rest("c") + rest('"d"') + rest("ü"))
    assert out == said("b") + said("c") + said('"d"') + said("ü")


def test_the_shape_of_another_kind_of_engine() -> None:
    llama = (
        b'data: {"choices":[{"finish_reason":null,"index":0,"delta":{"content":"%b"}}],"created":5,"id":"second"}\n\n'
    )
    seam = seam_after("a", said=1)
    assert seam.take(llama % b"b" + llama % b"c") == said("b") + said("c")


def test_an_end_keeps_its_own_members() -> None:
    seam = seam_after("a")
    end = event(choices=[{"index": 0, "delta": {}, "finish_reason": "stop", "stop_reason": 5}], id="second", timings=1)
    assert orjson.loads(seam.take(end)[6:]) == {**orjson.loads(end[6:]), "id": "first"}


def test_an_end_with_text() -> None:
    seam = seam_after("a ", again=" ")
    out = seam.take(rest(" b", "length"))
    assert text_of(out) == "b"
    assert b'"finish_reason":"length"' in out


def test_comments_and_the_end_mark_pass() -> None:
    seam = seam_after("a")
    assert seam.take(b": ping\n\n" + DONE) == b": ping\n\n" + DONE


def test_usages_are_of_the_whole() -> None:
    seam = seam_after("a", said=5)
    usage = event(choices=[], usage={"prompt_tokens": 12, "completion_tokens": 3, "total_tokens": 15}, id="second")
    shown = orjson.loads(seam.take(usage)[6:])
    assert shown["usage"] == {"prompt_tokens": 7, "completion_tokens": 8, "total_tokens": 15}
    assert shown["id"] == "first"
    assert seam.usage(Usage(12, 3, 11, True)) == Usage(7, 8, 7, True)
    assert seam.usage(Usage(0, 3)) == Usage(0, 8)


def test_half_characters_are_signs_of_life() -> None:
    seam = seam_after("a")
    assert seam.take(rest("") + rest("b")) == said("") + said("b")


HALVES = (
    b'data: {"id":"second","choices":[{"index":0,"delta":{"content":"\\ud83d"},"finish_reason":null}]}\n\n',
    b'data: {"id":"second","choices":[{"index":0,"delta":{"content":"\\ude00\\""},"finish_reason":null}]}\n\n',
)


@pytest.mark.parametrize("stops", [(), ("b!",), ("bcd",)])
def test_halves_of_a_character_in_two_events_stay_halves(stops: tuple[str, ...]) -> None:
    seam = seam_after("b", stops=stops)
    events = (seam.take(ROLE + HALVES[0]) + seam.take(HALVES[1] + rest("c"))).split(b"\n\n")[:-1]
    inside = b"".join(event.partition(b'"content":"')[2].rpartition(b'"},"finish')[0] for event in events)
    assert orjson.loads(b'"%b"' % inside) == '😀"c'


@pytest.mark.parametrize("delta", [{"role": "assistant", "content": "a"}, {"content": "a", "role": "assistant"}])
def test_a_role_that_came_with_the_first_text_is_not_said_again(delta: dict[str, str]) -> None:
    transcript = Transcript("vllm")
    transcript.add(event(choices=[{"index": 0, "delta": delta, "finish_reason": None}], id="first"))
    given: dict[str, Any] = {"said": 1, "again": "", "stops": (), "shows_stop": False, "shows_usage": False}
    seam = Seam(transcript, "a", **given, prompt_tokens=7)
    assert seam.take(ROLE + rest("b") + rest('"c"')) == said("b") + said('"c"')


def test_usages_of_every_event_are_of_the_whole() -> None:
    def counted(text: str, prompt: int, output: int, id_: str) -> bytes:
        choices = [{"index": 0, "delta": {"content": text}, "finish_reason": None}]
        return event(choices=choices, id=id_, usage={"prompt_tokens": prompt, "completion_tokens": output})

    transcript = Transcript("vllm")
    transcript.add(counted("a", 7, 1, "first") + counted("b", 7, 2, "first"))
    given: dict[str, Any] = {"said": 2, "again": "", "stops": (), "shows_stop": False, "shows_usage": True}
    seam = Seam(transcript, "ab", **given, prompt_tokens=7)
    out = seam.take(ROLE + counted("c", 9, 1, "second") + counted("d", 9, 2, "second"))
    assert out == counted("c", 7, 3, "first") + counted("d", 7, 4, "first")


def test_a_tool_call_may_follow_text() -> None:
    seam = seam_after("a")
    call = {"index": 0, "delta": {"tool_calls": [{"index": 0}]}, "finish_reason": None}
    out = seam.take(event(choices=[call], id="second"))
    assert orjson.loads(out[6:])["choices"] == [call]
    assert b'"first"' in out


@pytest.mark.parametrize(
    ("again", "new", "shown"),
    [
        (" ", [" b"], "b"),
        (" ", ["b"], "b"),
        (" \n", [" ", "\n", "b"], "b"),
        (" \n", [" \n\nb"], "\nb"),
        (" \n", [" ", "b"], "b"),
        ("\n\n", ["\n", " b"], " b"),
    ],
)
def test_white_space_that_comes_again(again: str, new: list[str], shown: str) -> None:
    seam = seam_after("a" + again, again=again)
    assert text_of(b"".join(seam.take(rest(text)) for text in new)) == shown


TEXT = st.text("ENDx \n", max_size=12)


@given(text=TEXT, stops=st.lists(st.sampled_from(["END", "EN\nD", "x", "NDN", "  "]), max_size=3), data=st.data())
@examples(2)
def test_a_stop_string_ends_the_answer_wherever_it_is_cut(text: str, stops: list[str], data: st.DataObject) -> None:
    """The engines hold nothing back and see only what they say themselves."""
    cut = data.draw(st.integers(0, len(text)))
    before, after = text[:cut], text[cut:]
    if not before or any(stop in before for stop in stops):
        return
    seam = seam_after(before, stops=tuple(stops))
    own = min((at for stop in stops if (at := after.find(stop)) >= 0), default=len(after))
    heard, out = after[:own], b""  # the engine finds its own
    for char in heard:
        out += seam.take(rest(char))
    out += seam.take(rest("", "stop")) if not seam.over else b""
    ends = [(at, at + len(stop)) for stop in stops if (at := (before + heard).find(stop)) >= 0]
    crossing = min((at for at, end in ends if end > cut), default=None)
    assert seam.over is (crossing is not None)
    whole = before + heard if crossing is None else before
    assert before + text_of(out) == whole
    assert out.count(b'"finish_reason":"stop"') == 1


def test_the_end_that_the_router_writes() -> None:
    sample = orjson.loads(said("a", usage=None)[6:])
    out = ending(sample, "length", Usage(3, 4))
    messages = [orjson.loads(line[6:]) for line in out.split(b"\n\n")[:2]]
    assert messages[0]["choices"] == [{"index": 0, "delta": {}, "finish_reason": "length"}]
    assert messages[1]["usage"] == {"prompt_tokens": 3, "completion_tokens": 4, "total_tokens": 7}
    assert {message["id"] for message in messages} == {"first"}
    assert out.endswith(DONE)
    completion = {"choices": [{"index": 0, "text": "a", "finish_reason": None}]}
    assert b'"text":""' in ending(completion, "stop", None)
    assert completion["choices"][0]["text"] == "a"
