"""wire/head.py: a header that stands twice."""

from __future__ import annotations

import pytest

from router.wire.head import HeadError, RequestHeads

ONCE = ("content-type: application/json", "authorization: Bearer k", "x-api-key: k")
FRAMING = ("host: a", "content-length: 2", "expect: 100-continue")


def read(*lines: str) -> dict[bytes, bytes]:
    head = "\r\n".join(("POST /v1/x HTTP/1.1", *lines, "", ""))
    return RequestHeads(100).read(head.encode())[0].headers


@pytest.mark.parametrize("line", ONCE)
def test_the_same_line_twice_is_one(line: str) -> None:
    name, _, value = line.partition(": ")
    assert read("host: a", line, "x: y", line.replace(name, name.title()))[name.encode()] == value.encode()


@pytest.mark.parametrize("line", ONCE)
def test_two_that_differ_are_refused(line: str) -> None:
    with pytest.raises(HeadError, match="repeated"):
        read("host: a", line, f"{line}2")


@pytest.mark.parametrize("line", FRAMING)
def test_what_tells_where_a_message_ends_or_goes_must_stand_once(line: str) -> None:
    lines = [line, line] if line.startswith("host") else ["host: a", line, line]
    with pytest.raises(HeadError):
        read(*lines)


def test_lists_are_joined_as_they_come() -> None:
    assert read("host: a", "accept: a", "accept: b", "accept: a")[b"accept"] == b"a, b, a"
