"""Forms are split by their boundary, and only the value of their field ``model`` is ever touched."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config import TokensSection
from router.errors import RouterError
from router.gateway import ingress
from router.gateway.aliases import edited
from router.gateway.envelope import envelope_of
from router.gateway.multipart import PARTS_MAX, FormError, boundary_of, parts
from router.gateway.steps import LEAP_BYTES, finish
from router.wire.head import RequestHead

B = b"b0undary"
#: Contents that look like what is searched for, and yet are only contents.
CONTENT = st.binary(max_size=20) | st.sampled_from(
    [
        b"",
        b"\r\n",
        b"--b0undary",
        b"\r\n--b0undar",
        b"\r\n--b0undaryx",
        b'name="model"\r\n\r\nx',
        b"\r\n\r\n",
        b'{"model": "x"}',
    ]
)
NAMES = st.sampled_from(["model", "prompt", "file", "Model", "xmodel", "a b", "ä"])


def form(fields: list[tuple[str, bytes, bool]], boundary: bytes = B) -> bytes:
    out = b""
    for name, content, is_file in fields:
        extra = b'; filename="a.wav"\r\ncontent-type: audio/wav' if is_file else b""
        out += b'--%b\r\nContent-Disposition: form-data; name="%b"%b\r\n\r\n%b\r\n' % (
            boundary,
            name.encode(),
            extra,
            content,
        )
    return out + b"--%b--\r\n" % boundary


def ask(
    data: bytes, path: bytes = b"/v1/audio/transcriptions", kind: bytes = b"multipart/form-data; boundary=" + B
) -> ingress.Ask:
    envelope = envelope_of(RequestHead(b"POST", path, True, {b"content-type": kind}, True))
    return ingress.read(envelope, data, TokensSection())


@given(st.lists(st.tuples(NAMES, CONTENT, st.booleans()), max_size=5))
def test_what_was_put_in_comes_out(fields: list[tuple[str, bytes, bool]]) -> None:
    fields = [
        (n, c, f)
        for n, c, f in fields
        if b"\r\n--b0undary\r\n" not in c and not (c + b"\r\n").startswith(b"--b0undary\r\n")
    ]
    data = form(fields)
    found = finish(parts(data, B))
    assert [(p.name, data[slice(*p.content)], p.is_file) for p in found] == fields
    spans = [p.content for p in found if p.name == "model"]
    renewed = form([(n, b"new" if n == "model" else c, f) for n, c, f in fields])
    assert b"".join(edited(data, [(begin, end, b"new") for begin, end in spans])) == renewed


@given(
    st.binary(max_size=300)
    | st.lists(
        st.sampled_from(
            [b"--b0undary", b"\r\n", b"--", b'name="model"', b":", b"content-disposition: form-data;", b"x"]
        )
    ).map(b"".join)
)
def test_any_bytes_are_parts_or_refused(data: bytes) -> None:
    try:
        found = finish(parts(data, B))
    except FormError:
        return
    ends = [0, *(p.content[1] for p in found)]
    assert all(end <= p.content[0] <= p.content[1] <= len(data) for end, p in zip(ends, found, strict=False))


@pytest.mark.parametrize("cut", range(-14, 4))
def test_a_boundary_may_stand_where_a_step_ends(cut: int) -> None:
    data = form([("file", b"x" * (LEAP_BYTES + cut - 80), True), ("model", b"m", False)])
    assert [p.name for p in finish(parts(data, B))] == ["file", "model"]


@pytest.mark.parametrize(
    ("kind", "boundary"),
    [
        (b"multipart/form-data; boundary=x", b"x"),
        (b'Multipart/Form-Data; charset=utf-8; Boundary="a b"', b"a b"),
        (b"multipart/form-data;boundary=x; a=b", b"x"),
    ],
)
def test_boundaries(kind: bytes, boundary: bytes) -> None:
    assert boundary_of(kind) == boundary


@pytest.mark.parametrize(
    "kind", [b"multipart/form-data", b"multipart/form-data; boundary=", b"multipart/form-data; boundary=" + b"x" * 71]
)
def test_without_a_boundary_a_form_is_refused(kind: bytes) -> None:
    with pytest.raises(FormError):
        boundary_of(kind)


def test_parts_have_a_limit() -> None:
    finish(parts(form([("a", b"", False)] * PARTS_MAX), B))
    with pytest.raises(FormError):
        finish(parts(form([("a", b"", False)] * (PARTS_MAX + 1)), B))


def test_the_fields_are_understood() -> None:
    found = ask(
        form(
            [
                ("model", b"whisper", False),
                ("stream", b"true", False),
                ("prompt", b"word " * 10, False),
                ("file", b"RIFF" * 9999, True),
            ]
        )
    )
    assert (found.model, found.stream, found.prompt_bytes, found.item_tokens) == ("whisper", True, 50, 1000)
    assert found.blocks == ()


def test_a_field_that_makes_no_sense_is_the_engine_s_to_judge() -> None:
    assert ask(form([("model", b"m", False), ("stream", b"perhaps", False), ("n", b"many", False)])).model == "m"


def test_the_last_model_counts_and_a_file_is_none() -> None:
    data = form([("model", b"a", False), ("model", b"b", False), ("model", b"c", True)])
    found = ask(data)
    assert found.model == "b"
    assert [data[slice(*span)] for span in found.model_spans or ()] == [b"a", b"b"]


@pytest.mark.parametrize(
    "data", [b"", b"--b0undary--", form([("prompt", b"x", False)]), form([("model", b"", False)]), b'{"model":"m"}']
)
def test_a_form_without_a_model_is_refused(data: bytes) -> None:
    with pytest.raises(RouterError) as refused:
        ask(data)
    assert refused.value.code == "invalid_request"


@pytest.mark.parametrize("preamble", [b"\r\n", b"This is a form.\r\n", b"\r\n--b0undaryx\r\n\r\n"])
def test_something_may_stand_before_the_first_boundary_and_behind_the_last(preamble: bytes) -> None:
    fields = [("model", b"m", False), ("file", b"wav", True)]
    data = preamble + form(fields) + b"bye"
    found = finish(parts(data, B))
    assert [(part.name, data[slice(*part.content)]) for part in found] == [(n, c) for n, c, _ in fields]
