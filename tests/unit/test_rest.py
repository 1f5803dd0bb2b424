"""The request for the rest: the client's bytes, with the answer so far in them and nothing else changed."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.traits import TRAITS, Continues
from router.core.transcript import Transcript
from router.gateway.aliases import edited
from router.gateway.rest import Rest, rest_of
from router.gateway.steps import finish
from tests.support.effort import examples
from tests.support.playbook import event

CHAT = {"model": "m", "messages": [{"role": "user", "content": "Hi"}]}
TEXT = st.text(st.characters(codec="utf-8"), max_size=20)


def transcript_of(*texts: str) -> Transcript:
    transcript = Transcript("vllm")
    for text in texts:
        transcript.add(event(choices=[{"index": 0, "delta": {"content": text}, "finish_reason": None}]))
    return transcript


def found(body: bytes, *texts: str, engine: str = "vllm") -> Rest | str:
    return finish(rest_of(body, transcript_of(*texts), TRAITS[engine]))


def rest(body: bytes | dict[str, Any], *texts: str, engine: str = "vllm") -> tuple[Rest, Any]:
    """The rest, and the body that is sent for it."""
    data = body if isinstance(body, bytes) else orjson.dumps(body)
    made = found(data, *texts, engine=engine)
    assert isinstance(made, Rest), made
    return made, orjson.loads(b"".join(edited(data, sorted(made.edits))))


@given(prompt=TEXT, said=TEXT.filter(lambda text: bool(text.strip())))
@examples(1)
def test_a_chat_has_one_more_message(prompt: str, said: str) -> None:
    messages = [{"role": "user", "content": prompt}]
    made, body = rest({"messages": messages, "seed": 1}, said)
    assert made.again == said[len(said.rstrip()) :]
    assert body == {
        "messages": [*messages, {"role": "assistant", "content": said.rstrip()}],
        "seed": 1,
        "continue_final_message": True,
        "add_generation_prompt": False,
    }
    assert made.least is Continues.TEXT


@given(prompt=TEXT, said=TEXT.filter(bool))
@examples(1)
def test_a_completion_has_a_longer_prompt(prompt: str, said: str) -> None:
    made, body = rest({"prompt": prompt, "max_tokens": 9}, said)
    assert body == {"prompt": prompt + said, "max_tokens": 8}
    assert made.again == ""


def test_every_other_byte_stays() -> None:
    body = b'{ "x" :1e400, "messages" : [ {"role":"user","content":"\\u0041"} ] , "seed":12345678901234567890123 }'
    made = found(body, "said")
    assert isinstance(made, Rest)
    sent = b"".join(edited(body, sorted(made.edits)))
    flags = b'"add_generation_prompt":false,"continue_final_message":true,'
    more = b',{"role":"assistant","content":"said"}'
    assert sent == body.replace(b"{ ", b"{" + flags + b" ", 1).replace(b" ] ,", b" " + more + b"] ,")


def test_a_list_of_one_prompt() -> None:
    assert rest({"prompt": ["Say"], "max_tokens": 9}, " hi")[1]["prompt"] == ["Say hi"]
    assert found(orjson.dumps({"prompt": [1, 2, 3]}), "a") == "odd_request", "token ids are not text"


def test_flags_of_the_client() -> None:
    _, body = rest({**CHAT, "continue_final_message": False, "add_generation_prompt": True}, "a")
    assert (body["continue_final_message"], body["add_generation_prompt"]) == (True, False)
    assert found(orjson.dumps({**CHAT, "add_generation_prompt": False}), "a") == "odd_request"


def test_a_message_that_the_client_began() -> None:
    messages = [{"role": "user", "content": "Hi"}, {"content": 'The "', "role": "assistant"}]
    own = {"messages": messages, "continue_final_message": True, "add_generation_prompt": False}
    assert rest(own, "end")[1]["messages"][1]["content"] == 'The "end'
    assert rest({"messages": messages}, "end", engine="llamacpp")[1]["messages"][1]["content"] == 'The "end'
    assert found(orjson.dumps({"messages": messages}), "end") == "odd_request", "vLLM began a new turn"
    parts = [{"role": "assistant", "content": [{"type": "text", "text": "a"}]}]
    assert found(orjson.dumps({**own, "messages": parts}), "b") == "odd_request"


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ({"max_tokens": 9}, {"max_tokens": 7}),
        ({"max_completion_tokens": 9, "max_tokens": 5}, {"max_completion_tokens": 7, "max_tokens": 3}),
        ({"max_tokens": 9, "min_tokens": 1}, {"max_tokens": 7, "min_tokens": 0}),
        ({"max_tokens": 9.0}, {"max_tokens": 7}),
        ({"max_tokens": "9"}, {"max_tokens": 7}),
        ({"n_predict": 9}, {"n_predict": 7}),
        ({"max_tokens": None}, {"max_tokens": None}),
        ({}, {}),
    ],
)
def test_limits_are_lowered(given: dict[str, Any], left: dict[str, Any]) -> None:
    made, body = rest({**CHAT, **given}, "a", "b")
    assert {name: body.get(name) for name in left} == left
    assert not made.over
    assert made.said == 2


@pytest.mark.parametrize(("engine", "left"), [("vllm", 14), ("sglang", 14), ("llamacpp", None)])
def test_completions_have_a_limit_by_default(engine: str, left: int | None) -> None:
    assert rest({"prompt": "a"}, "a", "b", engine=engine)[1].get("max_tokens") == left


def test_nothing_is_left() -> None:
    assert rest({**CHAT, "max_tokens": 2}, "a", "b")[0].over
    assert not rest({**CHAT, "max_tokens": 3}, "a", "b")[0].over


@pytest.mark.parametrize(
    ("said", "over"), [("a", False), ("ab", True), ("abc", False), ("abcd", True), ("abcde", True)]
)
def test_a_limit_that_was_passed_is_not_in_force(said: str, over: bool) -> None:
    assert rest({**CHAT, "max_tokens": 2, "max_completion_tokens": 4}, *said)[0].over is over


def test_a_completion_that_asks_for_no_limit_has_none() -> None:
    made, body = rest(b'{"prompt":"a","max_tokens":null}', *["b"] * 16)
    assert (made.over, made.limited) == (False, False)
    assert body == {"prompt": "a" + "b" * 16, "max_tokens": None}


def test_an_answer_without_a_token_is_not_over() -> None:
    made = found(orjson.dumps({**CHAT, "max_tokens": 0}))
    assert isinstance(made, Rest)
    assert not made.over


def test_white_space_is_asked_for_again() -> None:
    made, body = rest({**CHAT, "max_tokens": 9}, "a", " ", "\n")
    assert (made.again, made.said, body["max_tokens"]) == (" \n", 1, 8)
    assert body["messages"][1]["content"] == "a"
    made, body = rest({**CHAT, "max_tokens": 9}, "\n", "\n")
    assert (made.again, made.said, body["max_tokens"]) == ("\n\n", 0, 9)
    assert body["messages"] == CHAT["messages"]


def test_stop_strings() -> None:
    assert rest({**CHAT, "stop": "END"}, "a")[0].stops == ("END",)
    assert rest({**CHAT, "stop": ["END", "", None, "x"]}, "a")[0].stops == ("END", "x")
    assert rest(CHAT, "a")[0].stops == ()
    assert rest({**CHAT, "include_stop_str_in_output": True}, "a")[0].shows_stop


@pytest.mark.parametrize(
    "body",
    [
        b"[1]",
        b'{"messages":[]}',
        b'{"messages":"x"}',
        b'{"messages":[{"role":"user"}],"messages":[{"role":"user"}]}',
        b'{"model":"m"}',
        b'{"prompt":["a","b"',
    ],
)
def test_odd_bodies(body: bytes) -> None:
    assert found(body, "a") == "odd_request"
