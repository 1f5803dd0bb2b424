"""What is no text counts by the piece and never by its length, in every API's words for it."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config import TokensSection
from router.gateway import ingress
from router.gateway.envelope import envelope_of
from router.gateway.ingress import Ask
from router.gateway.steps import LEAP_BYTES, LONG_BODY_BYTES, STEP_BYTES, finish
from router.wire.head import RequestHead
from tests.support.hostile import picture

PRICES = TokensSection(image=1000, audio=700, video=4000, file=2000)
IMAGE, PDF, WAV = (f"data:{kind};base64," for kind in ("image/png", "application/pdf", "audio/wav"))
LARGE = picture(60_000)

#: (members of the body with %s for the Base64, tokens of the items)
SHAPES: dict[str, tuple[dict[str, Any], int]] = {
    "chat": (
        {"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": IMAGE + "%s"}}]}]},
        1000,
    ),
    "chat, no type": ({"messages": [{"role": "user", "content": [{"image_url": IMAGE + "%s"}]}]}, 1000),
    "chat, audio": (
        {"messages": [{"content": [{"type": "input_audio", "input_audio": {"data": "%s", "format": "wav"}}]}]},
        700,
    ),
    "chat, audio url": ({"messages": [{"content": [{"type": "audio_url", "audio_url": {"url": WAV + "%s"}}]}]}, 700),
    "chat, video": (
        {"messages": [{"content": [{"type": "video_url", "video_url": {"url": "data:video/mp4;base64,%s"}}]}]},
        4000,
    ),
    "chat, file": (
        {"messages": [{"content": [{"type": "file", "file": {"filename": "a", "file_data": PDF + "%s"}}]}]},
        2000,
    ),
    "chat, bare file": ({"messages": [{"content": [{"type": "file", "file": {"file_data": "%s"}}]}]}, 2000),
    "responses": ({"input": [{"role": "user", "content": [{"type": "input_image", "image_url": IMAGE + "%s"}]}]}, 1000),
    "chat, capitals": (
        {"messages": [{"content": [{"type": "image_url", "image_url": {"url": "DATA:Image/PNG;BASE64,%s"}}]}]},
        1000,
    ),
    "chat, no Base64": (
        {"messages": [{"content": [{"type": "image_url", "image_url": {"url": "data:image/svg+xml;utf8,%s"}}]}]},
        1000,
    ),
    "embeddings, no Base64": ({"input": "data:image/svg+xml,%s"}, 1000),
    "embeddings, capitals": ({"input": ["DATA:IMAGE/PNG;base64,%s"]}, 1000),
    "responses, made": ({"input": [{"type": "image_generation_call", "id": "i", "result": "%s"}]}, 1000),
    "responses, tool": (
        {"input": [{"type": "computer_call_output", "output": {"type": "input_image", "image_url": IMAGE + "%s"}}]},
        1000,
    ),
    "responses, file": ({"input": [{"content": [{"type": "input_file", "file_data": PDF + "%s"}]}]}, 2000),
    "messages": (
        {
            "messages": [
                {"content": [{"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "%s"}}]}
            ]
        },
        1000,
    ),
    "messages, document": (
        {"messages": [{"content": [{"type": "document", "source": {"type": "base64", "data": "%s"}}]}]},
        2000,
    ),
    "messages, in a tool's result": (
        {
            "messages": [
                {"content": [{"type": "tool_result", "content": [{"type": "image", "source": {"data": "%s"}}]}]}
            ]
        },
        1000,
    ),
    "qwen": ({"messages": [{"content": [{"type": "image", "image": IMAGE + "%s"}]}]}, 1000),
    "embeddings": ({"input": IMAGE + "%s"}, 1000),
    "embeddings, several": ({"input": [IMAGE + "%s", IMAGE + "%s"]}, 2000),
    "parameters of the type": (
        {"messages": [{"content": [{"image_url": "data:image/svg+xml;charset=utf-8;base64,%s"}]}]},
        1000,
    ),
}


def ask(body: dict[str, Any], *, path: bytes = b"/v1/chat/completions", dump: Any = json.dumps) -> Ask:
    return read(dump({"model": "m", **body}).encode(), path)


def read(data: bytes, path: bytes = b"/v1/chat/completions") -> Ask:
    """By both ways, which must agree."""
    envelope = envelope_of(RequestHead(b"POST", path, True, {}, True))
    short, long = ingress.read(envelope, data, PRICES), finish(ingress.read_long(envelope, bytearray(data), PRICES))
    for name in ("model", "stream", "choices", "max_tokens", "prompt_bytes", "blocks", "item_tokens", "prefix_bytes"):
        assert getattr(short, name) == getattr(long, name), name
    return short


def filled(body: Any, payload: str) -> Any:
    return json.loads(json.dumps(body).replace("%s", payload))


@pytest.mark.parametrize("name", SHAPES)
def test_an_item_counts_by_its_price(name: str) -> None:
    body, tokens = SHAPES[name]
    small, large = ask(filled(body, picture(300))), ask(filled(body, LARGE))
    assert small.item_tokens == large.item_tokens == tokens
    assert small.prompt_bytes == large.prompt_bytes < 200
    assert small.prefix_bytes == large.prefix_bytes


@pytest.mark.parametrize("name", SHAPES)
def test_equal_items_are_equal_and_others_are_not(name: str) -> None:
    body, _ = SHAPES[name]
    once, again = ask(filled(body, LARGE)), ask(filled(body, LARGE))
    other = ask(filled(body, LARGE[:20_000] + "AAAA" + LARGE[20_004:]))
    middle = ask(filled(body, LARGE[: len(LARGE) // 2] + "AAAA" + LARGE[len(LARGE) // 2 + 4 :]))
    assert once.blocks
    assert once.blocks == again.blocks
    assert once.blocks[-1] != middle.blocks[-1]
    assert other.prefix_bytes == once.prefix_bytes


def test_slashes_may_be_escaped() -> None:
    body, tokens = SHAPES["chat"]
    found = read(json.dumps({"model": "m", **filled(body, LARGE)}).replace("/", "\\/").encode())
    assert found.item_tokens == tokens
    assert found.prompt_bytes < 200


@pytest.mark.parametrize(
    "part",
    [
        {"type": "image_url", "image_url": {"url": "https://a/b.png"}},
        {"type": "input_image", "file_id": "file-1"},
        {"type": "image", "source": {"type": "url", "url": "https://a/b.png"}},
    ],
)
def test_an_item_elsewhere_has_its_price_too(part: dict[str, Any]) -> None:
    assert (
        ask({"messages": [{"role": "user", "content": [part, {"type": "text", "text": "and this?"}]}]}).item_tokens
        == 1000
    )


@pytest.mark.parametrize(
    "text",
    [
        f'<img src="{IMAGE}{LARGE}">',
        f"![]({IMAGE}{LARGE})",
        f'{{"type": "image_url", "image_url": {{"url": "{IMAGE}{LARGE}"}}}}',
        LARGE,
        "x" * 50_000,
        "the data: it is [here], image_url, base64,",
        "data: it is [here], image_url, base64,",
        "Data:text, and more of it",
    ],
)
def test_what_stands_in_a_text_is_text(text: str) -> None:
    found = ask({"messages": [{"role": "user", "content": [{"type": "text", "text": text}]}]})
    assert found.item_tokens == 0
    assert found.prompt_bytes >= len(text)


def test_a_conversation_with_a_picture_begins_as_it_began() -> None:
    first = [
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "what is this? " * 200},
                {"type": "image_url", "image_url": {"url": IMAGE + LARGE}},
            ],
        }
    ]
    before, after = (
        ask({"messages": first}),
        ask({"messages": [*first, {"role": "assistant", "content": "a cat " * 500}]}),
    )
    assert len(before.blocks) > 4
    assert after.blocks[: len(before.blocks)] == before.blocks
    assert after.item_tokens == before.item_tokens


@pytest.mark.parametrize(
    ("prompt", "tokens"), [([1, 2, 3], 3), ([[1, 2], [3]], 3), ([17], 1), (list(range(5000)), 5000)]
)
def test_token_ids_say_how_many_they_are(prompt: list[Any], tokens: int) -> None:
    found = ask({"prompt": prompt}, path=b"/v1/completions")
    assert (found.item_tokens, found.prompt_bytes) == (tokens, 0)


def test_all_that_is_read_by_the_engine_counts() -> None:
    found = ask({"tools": ["t" * 100], "system": "s" * 200, "messages": [{"content": "m" * 300}]})
    assert 600 < found.prompt_bytes < 700
    found = ask({"instructions": "i" * 100, "input": "x"}, path=b"/v1/responses")
    assert found.prompt_bytes > 100
    assert ask({"query": "q" * 100, "documents": ["d" * 1000]}, path=b"/rerank").prompt_bytes > 1100


@given(st.integers(-40, 40), st.sampled_from([STEP_BYTES, LONG_BODY_BYTES, LEAP_BYTES]))
def test_an_item_may_stand_where_a_step_ends(shift: int, at: int) -> None:
    head = len('[{"content": [{"type": "text", "text": "')
    body = {
        "messages": [
            {
                "content": [
                    {"type": "text", "text": "x" * (at - head + shift)},
                    {"type": "image_url", "image_url": {"url": IMAGE + LARGE}},
                ]
            }
        ]
    }
    data = json.dumps({"model": "m", **body}).encode()
    envelope = envelope_of(RequestHead(b"POST", b"/v1/chat/completions", True, {}, True))
    found = finish(ingress.read_long(envelope, data, PRICES))
    assert found.item_tokens == 1000
    assert found.prompt_bytes < len(data) - len(LARGE)


@pytest.mark.parametrize(
    ("members", "expected"),
    [
        ('"max_tokens":"100","stream":"true","n":"2"', (100, True, 2)),
        ('"max_tokens":1e2,"stream":false,"n":null', (100, False, 1)),
        ('"temperature":NaN,"max_tokens":7', (7, False, 1)),
        ('"max_tokens":7,"stream_options":{"x":NaN}', (7, False, 1)),
        ('"max_tokens":NaN,"logit_bias":{"1":-Infinity}', (None, False, 1)),
    ],
)
def test_numbers_as_clients_write_them(members: str, expected: tuple[Any, ...]) -> None:
    found = read(b'{"model":"m","messages":[],%b}' % members.encode())
    assert (found.max_tokens, found.stream, found.choices) == expected
