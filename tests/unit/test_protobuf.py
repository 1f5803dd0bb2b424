"""Fields of protobuf: what is written reads back, and what is not a message is said to be none."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.protobuf import BYTES, FIXED32, FIXED64, MessageError, bytes_field, fields, int_field, tag, varint

NUMBERS = st.integers(1, 2**29 - 1)
FIELDS = st.tuples(NUMBERS, st.one_of(st.integers(0, 2**64 - 1), st.binary(max_size=300)))


@given(st.lists(FIELDS, max_size=6))
def test_fields_read_back(written: list[tuple[int, int | bytes]]) -> None:
    data = b"".join(int_field(n, v) if isinstance(v, int) else bytes_field(n, v) for n, v in written)
    assert list(fields(data)) == written


@pytest.mark.parametrize(("value", "written"), [(0, "00"), (127, "7f"), (128, "8001"), (150, "9601"), (300, "ac02")])
def test_numbers_are_as_the_specification_has_them(value: int, written: str) -> None:
    assert varint(value).hex() == written


def test_fields_of_fixed_length() -> None:
    data = tag(1, FIXED64) + b"12345678" + tag(2, FIXED32) + b"1234" + bytes_field(3, b"")
    assert list(fields(data)) == [(1, b"12345678"), (2, b"1234"), (3, b"")]


@pytest.mark.parametrize("data", [b"\x80", b"\x80" * 10 + b"\x01", tag(1, BYTES), tag(1, BYTES) + b"\x02a", tag(1, 3)])
def test_what_is_cut_off_or_unknown_is_an_error(data: bytes) -> None:
    with pytest.raises(MessageError):
        list(fields(data))


@given(st.binary(max_size=60))
def test_any_bytes_are_fields_or_an_error(data: bytes) -> None:
    with contextlib.suppress(MessageError):
        list(fields(data))
