"""core/leniency.py: the JSON that engines write, by the letter or not."""

from __future__ import annotations

import json
import math
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.leniency import is_json, loads

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=20,
)


@given(PLAIN)
def test_json_by_the_letter_is_read_as_ever(document: Any) -> None:
    assert loads(orjson.dumps(document)) == document


@given(PLAIN, st.text(alphabet=st.characters(min_codepoint=0xD7F0, max_codepoint=0xE00F)), st.text())
def test_halves_of_characters_spoil_nothing_else(document: Any, halves: str, text: str) -> None:
    """``json`` escapes what is half a pair, and every backslash of the text."""
    found = loads(json.dumps({"document": document, "halves": halves, "text": "\\ud83d" + text}).encode())
    assert (found["document"], found["text"]) == (document, "\\ud83d" + text)
    orjson.dumps(found)  # nothing of it is half a character any more


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_numbers_that_only_python_writes_are_read(word: str) -> None:
    assert not math.isfinite(loads(b'{"a":[1,%b]}' % word.encode())["a"][1])


@pytest.mark.parametrize("data", [b'\xef\xbb\xbf{"a":"x"}', b'{"a":"x\xff\xfe"}', b'{"a":"\xf0\x9f"}'])
def test_marks_and_cut_characters_are_read(data: bytes) -> None:
    assert loads(data)["a"].startswith(("x", "\ufffd"))


@pytest.mark.parametrize(
    "data", [b"", b"{", b'{"a":}', b"{}}", b"{} {}", b"nan", b'{"a":"\\x"}', b"[" * 100_000, b"\xff"]
)
def test_what_nobody_reads_is_no_json(data: bytes) -> None:
    assert not is_json(data)
    with pytest.raises(ValueError):
        loads(data)
