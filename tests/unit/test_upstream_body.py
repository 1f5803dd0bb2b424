"""gateway/upstream_body.py: streams are asked for their usage; of the body nothing else changes."""

from __future__ import annotations

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config import TokensSection
from router.core.framing import events_of, fields_of
from router.core.leniency import loads
from router.core.sse import StreamKind, StreamWatch
from router.gateway import ingress
from router.gateway.envelope import envelope_of
from router.gateway.steps import finish
from router.gateway.upstream_body import asks_for_usage, body_for, wants_usage
from router.wire.head import RequestHead
from tests.support.captures import streams

JSON = {b"content-type": b"application/json"}


def read(body: bytes, path: bytes = b"/v1/chat/completions") -> ingress.Ask:
    return ingress.read(envelope_of(RequestHead(b"POST", path, True, JSON, keep_alive=True)), body, TokensSection())


def read_long(body: bytes) -> ingress.Ask:
    envelope = envelope_of(RequestHead(b"POST", b"/v1/chat/completions", True, JSON, keep_alive=True))
    return finish(ingress.read_long(envelope, bytearray(body), TokensSection()))


OPTIONS = st.sampled_from(
    ["", "null", "{}", '{"include_usage":false}', '{ "include_usage" : null }', '{"continuous_usage_stats":true}']
)
SPACE = st.sampled_from(["", " ", "\n", "\t"])


@given(options=OPTIONS, space=SPACE, before=st.booleans(), text=st.text(max_size=20))
def test_the_option_is_added_and_every_other_member_stays(options: str, space: str, before: bool, text: str) -> None:
    members = ['"model":"m","stream":true', f'"messages":[{{"content":{orjson.dumps(text).decode()}}}]']
    if options:
        members.insert(0 if before else 2, f'"stream_options"{space}:{space}{options}')
    body = (space + "{" + space + ",".join(members) + "}" + space).encode()
    ask = read(body)
    assert asks_for_usage(ask)
    sent = b"".join(body_for(body, ask, ask.model, ask_usage=True))
    assert sent == b"".join(body_for(body, read_long(body), ask.model, ask_usage=True)), "a long body is treated alike"
    renamed = orjson.loads(b"".join(body_for(body, ask, "other", ask_usage=True)))
    assert renamed == {**orjson.loads(sent), "model": "other"}
    given, asked = orjson.loads(body), orjson.loads(sent)
    assert asked.pop("stream_options") == {**(given.pop("stream_options", None) or {}), "include_usage": True}
    assert asked == given
    assert sent.count(b'"stream_options"') == 1  # some engines refuse a member that comes twice


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"m","messages":[{}],"stream":true,"stream_options":{"a":{}},"x":{"stream_options":{"a":{}}}}',
        b'{"model":"m","messages":[{}],"stream":true,"stream\\u005foptions":{}}',
    ],
)
def test_where_the_place_is_not_certain_the_body_stays(body: bytes) -> None:
    ask = read(body)
    assert b"".join(body_for(body, ask, ask.model, ask_usage=True)) == body


@pytest.mark.parametrize(
    ("body", "path", "asks"),
    [
        (b'{"model":"m"}', b"/v1/chat/completions", False),  # vLLM refuses the option there
        (b'{"model":"m","stream":true}', b"/v1/chat/completions", True),
        (b'{"model":"m","stream":true}', b"/v1/completions", True),
        (b'{"model":"m","stream":true}', b"/v1/messages", False),
        (b'{"model":"m","stream":true}', b"/v1/responses", False),
        (b'{"model":"m","stream":true,"stream_options":{"include_usage":true}}', b"/v1/chat/completions", False),
        (b'{"model":"m","stream":true,"stream_options":"odd"}', b"/v1/chat/completions", False),
    ],
)
def test_only_streams_whose_clients_do_not_ask_are_asked(body: bytes, path: bytes, asks: bool) -> None:
    assert asks_for_usage(read(body, path)) is asks


def test_a_client_that_asks_is_known() -> None:
    assert wants_usage(read(b'{"model":"m","stream":true,"stream_options":{"include_usage":true}}'))
    assert not wants_usage(read(b'{"model":"m","stream":true,"stream_options":null}'))


@pytest.mark.parametrize(
    ("prompt", "n", "choices", "prompts"),
    [
        ('"a"', 1, 1, 1),
        ('"[\\"a\\",\\"b\\"]"', 2, 2, 1),
        ('["a","b"]', 1, 2, 2),
        ('[ "a" , "b" ]', 3, 6, 2),
        ("[1,2,3]", 2, 2, 1),
        ("[[1,2],[3]]", 2, 4, 2),
        ("[\n [1,2],[3],[4]]", 1, 3, 3),
        ("[]", 1, 1, 1),
        ("null", 1, 1, 1),
        ('["a"' + ',"b"' * 5000 + "]", 1, ingress.CHOICES_MAX, ingress.CHOICES_MAX),
    ],
)
def test_every_prompt_has_n_choices(prompt: str, n: int, choices: int, prompts: int) -> None:
    ask = read(f'{{"model":"m","prompt":{prompt},"n":{n}}}'.encode(), b"/v1/completions")
    assert (ask.choices, ask.prompts) == (choices, prompts)


TOKEN = b'data: {"choices":[{"index":0,"delta":{"content":"x"},"finish_reason":null}]}\n\n'
STOP = b'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}\n\n'
USAGE = b'data: {"choices":[],"usage":{"prompt_tokens":3,"completion_tokens":2,"d":{"a":1}}}\n\n'
DONE = b"data: [DONE]\n\n"


@pytest.mark.parametrize("together", [False, True])
@pytest.mark.parametrize("hides", [False, True])
def test_a_usage_that_the_client_did_not_ask_for_is_hidden(together: bool, hides: bool) -> None:
    events = [TOKEN, TOKEN, STOP, USAGE, DONE]
    watch = StreamWatch(StreamKind.CHAT, hides_usage=hides)
    out = b"".join(watch.feed(data) for data in ([b"".join(events)] if together else events))
    assert out == b"".join(e for e in events if e is not USAGE or not hides)
    assert watch.complete(framed=False)
    usage = watch.usage
    assert (usage.prompt_tokens, usage.output_tokens, usage.reported) == (3, 2, True)


def said_by(stream: bytes) -> tuple[list[object], int]:
    """The choices of all events, and how many usages there are."""
    messages = [loads(line) for e in events_of(stream) for line in fields_of(e)[1] if line.startswith(b"{")]
    choices = [choice for message in messages for choice in message.get("choices") or ()]
    return choices, sum(bool(message.get("usage")) for message in messages)


@pytest.mark.parametrize("size", [1, 64, 1_000_000])
def test_the_usage_of_no_captured_stream_is_shown_to_those_who_did_not_ask(size: int) -> None:
    """Every engine, whole events and pieces, of one choice and of several; all else is as it was."""
    shown = 0
    for capture in (c for c in streams() if "/chat" in c.name or "/completion" in c.name):
        watch = StreamWatch(StreamKind.CHAT, choices=2 if "n2" in capture.name else 1, hides_usage=True)
        body = capture.body
        out = b"".join(watch.feed(body[at : at + size]) for at in range(0, len(body), size)) + watch.flush()
        before, after = said_by(body), said_by(out)
        assert after[1] == 0, capture.name
        assert watch.error is not None or after[0] == before[0], capture.name
        shown += before[1]
    assert shown > 20


USAGES = st.fixed_dictionaries({"prompt_tokens": st.integers(0, 9), "completion_tokens": st.integers(0, 9)},
                               optional={"x": st.text(max_size=5), "d": st.dictionaries(st.text(max_size=3), st.integers(0, 9), max_size=2)})  # fmt: skip


@given(usage=USAGES, place=st.integers(0, 2), ended=st.booleans())
def test_a_usage_beside_content_is_cut_out_of_its_event(usage: dict[str, object], place: int, ended: bool) -> None:
    choice = {"index": 0, "delta": {"content": "x"}, "finish_reason": "stop" if ended else None}
    members: list[tuple[str, object]] = [("id", "c1"), ("choices", [choice])]
    members.insert(place, ("usage", usage))
    event = b"data: " + orjson.dumps(dict(members)) + b"\n\n"
    shown = StreamWatch(StreamKind.CHAT, hides_usage=True).feed(event)
    assert orjson.loads(shown.removeprefix(b"data: ")) == {"id": "c1", "choices": [choice]}
