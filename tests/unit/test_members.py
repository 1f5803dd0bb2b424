"""Members of JSON objects are found where they are, whatever stands around them, in steps that are bounded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config import TokensSection
from router.errors import RouterError
from router.gateway import ingress
from router.gateway.aliases import edited, model_spans
from router.gateway.envelope import Envelope, envelope_of
from router.gateway.members import DEPTH_MAX, MEMBERS_MAX, MalformedError, Span, TooDeepError, checked_text, members
from router.gateway.steps import LEAP_BYTES, STEP_BYTES, finish
from router.wire.head import RequestHead
from tests.support.hostile import FORMS, JSON, Work

PRICES = TokensSection()
#: A step may take so many instructions of Python: about two milliseconds of a slow machine.
INSTRUCTIONS_MAX = 60_000

TEXT = st.text(st.sampled_from('ab\\"{}[]:,\n/é€😀 model'), max_size=12)
VALUE = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT | st.just("model"), inner, max_size=3),
    max_leaves=12,
)
NAMES = TEXT | st.sampled_from(["model", "prompt", "mode", "models"])


def envelope(content_type: bytes = b"application/json", path: bytes = b"/v1/chat/completions") -> Envelope:
    return envelope_of(RequestHead(b"POST", path, True, {b"content-type": content_type}, True))


FORM = envelope(b"multipart/form-data; boundary=x")


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    """Objects with duplicates, spelled in several ways."""
    space = st.sampled_from(["", " ", "\r\n\t"])
    ascii_only = draw(st.booleans())

    def spelled(name: str) -> str:
        text = json.dumps(name, ensure_ascii=ascii_only)
        return text.replace("m", "\\u006d", 1) if draw(st.integers(0, 5)) == 0 else text

    pairs = draw(st.lists(st.tuples(NAMES, VALUE), max_size=6))
    texts = [
        f"{draw(space)}{spelled(n)}{draw(space)}:{draw(space)}{json.dumps(v, ensure_ascii=ascii_only)}{draw(space)}"
        for n, v in pairs
    ]
    return f"{draw(space)}{{{','.join(texts) or draw(space)}}}{draw(space)}".encode()


def pairs(data: bytes) -> Any:
    return json.loads(data, object_pairs_hook=tuple)


@given(documents(), st.booleans())
def test_the_spans_hold_the_values(data: bytes, grown: bool) -> None:
    found = finish(members(bytearray(data) if grown else data, ("model", "prompt")))
    assert [(n, json.loads(data[a:b])) for n, spans in sorted(found.items()) for a, b in spans] == sorted(
        ((n, json.loads(json.dumps(dict_of(v)))) for n, v in pairs(data) if n in ("model", "prompt")),
        key=lambda pair: pair[0],
    )


def dict_of(value: Any) -> Any:
    """Undo ``object_pairs_hook=tuple``: an object came as a tuple of pairs, and () is an empty one."""
    if isinstance(value, tuple):
        return {n: dict_of(v) for n, v in value}
    return [dict_of(v) for v in value] if isinstance(value, list) else value


def renamed(data: bytes, spans: Sequence[Span], name: bytes) -> bytes:
    return b"".join(edited(data, [(begin, end, name) for begin, end in spans]))


@given(documents())
def test_every_model_of_the_top_level_is_renamed_and_no_other_byte(data: bytes) -> None:
    spans = finish(members(data, ("model",))).get("model", [])
    strings = [span for span in spans if data[span[0] : span[0] + 1] == b'"']
    out = renamed(data, strings, b'"new"')
    assert pairs(out) == tuple((n, "new" if n == "model" and isinstance(v, str) else v) for n, v in pairs(data))
    kept = renamed(out, [(a, a + 5) for a in _shifted(strings)], b"")
    assert kept == renamed(data, strings, b"")
    if strings and strings == spans:
        assert list(model_spans(data)) == strings  # the quick way finds the same


def _shifted(spans: list[tuple[int, int]]) -> list[int]:
    shift, begins = 0, []
    for begin, end in spans:
        begins.append(begin + shift)
        shift += 5 - (end - begin)
    return begins


@pytest.mark.parametrize(
    "data",
    [
        *(
            b"",
            b" ",
            b"[]",
            b"{",
            b"{]",
            b'{"a"}',
            b'{"a":}',
            b'{"a":1',
            b'{"a":1,}',
            b"{,}",
            b'{"a" 1}',
            b'{"a":"}',
            b"{}x",
        ),
        *(b'{"a":[}', b'{"a":[1}', b'{"a":1 "b":2}', b'{"a":"\\"}', b"{a:1}", b'{"a":{"b":"}}', b"nul", b'{"a":1}{}'),
    ],
)
def test_what_is_no_object_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedError):
        finish(members(data, ("a",)))


def test_nesting_and_members_have_a_limit() -> None:
    with pytest.raises(TooDeepError):
        finish(members(b'{"a":' + b'{"b":' * (DEPTH_MAX + 1) + b"1" + b"}" * (DEPTH_MAX + 2), ()))
    finish(members(b"{" + b",".join([b'"a":1'] * MEMBERS_MAX) + b"}", ()))
    with pytest.raises(MalformedError):
        finish(members(b"{" + b",".join([b'"a":1'] * (MEMBERS_MAX + 1)) + b"}", ()))


@pytest.mark.parametrize("cut", range(-5, 6))
@pytest.mark.parametrize("unit", [b"\\\\", b'\\"', b"\\n", b"x", "€".encode()])
def test_the_end_of_a_step_may_fall_anywhere(unit: bytes, cut: int) -> None:
    for size in (STEP_BYTES, LEAP_BYTES):
        for nested in (b"%b", b'[{"b":%b,"c":"d"}]'):
            value = nested % (b'"' + b"x" * ((cut + size) % len(unit)) + unit * ((size + cut) // len(unit)) + b'"')
            data = b'{"a":' + value + b',"model":"m"}'
            assert finish(members(data, ("a", "model"))) == {
                "a": [(5, 5 + len(value))],
                "model": [(len(data) - 4, len(data) - 1)],
            }


@given(st.binary(max_size=8), st.integers(-6, 6), st.sampled_from(["é", "€", "😀", "a"]))
def test_text_is_judged_as_a_whole(odd: bytes, cut: int, filler: str) -> None:
    data = filler.encode() * ((LEAP_BYTES // 4 + cut) // len(filler.encode())) + odd
    try:
        data.decode()
    except UnicodeDecodeError:
        with pytest.raises(UnicodeDecodeError):
            finish(checked_text(data))
    else:
        finish(checked_text(data))


@pytest.mark.parametrize("name", JSON)
def test_every_step_over_any_json_is_bounded(name: str) -> None:
    _is_bounded(lambda size: Work(ingress.read_long(envelope(), bytearray(JSON[name](size)), PRICES)))


@pytest.mark.parametrize("name", FORMS)
def test_every_step_over_any_form_is_bounded(name: str) -> None:
    _is_bounded(lambda size: Work(ingress.read_long(FORM, bytearray(FORMS[name](size)), PRICES)))


def _is_bounded(work: Any) -> None:
    """Each step, and all of them together are in proportion to the size."""
    size = 40_000
    some, more = work(size), work(4 * size)
    for each in (some, more):
        assert each.bytes_max <= LEAP_BYTES
        assert each.instructions_max <= INSTRUCTIONS_MAX
        assert each.error is None or (isinstance(each.error, RouterError) and each.error.code == "invalid_request")
    assert more.steps <= 4.5 * some.steps + 10
