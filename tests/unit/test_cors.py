"""Which web pages may read answers (the Fetch standard, CORS protocol)."""

from __future__ import annotations

import pytest

from router.gateway.cors import ALLOWED_METHODS, EXPOSED, Cors, origin_in

PAGE = b"https://chat.example"


def lines(block: bytes) -> dict[bytes, bytes]:
    assert block == b"" or block.endswith(b"\r\n")
    return dict(line.split(b": ", 1) for line in block.split(b"\r\n") if line)


def test_no_page_may_read_by_default() -> None:
    cors = Cors(())
    assert cors.lines(PAGE) == cors.lines(None) == cors.preflight(PAGE, b"authorization") == b""


def test_every_page_may_read_without_credentials() -> None:
    cors = Cors(("*",))
    assert lines(cors.lines(PAGE)) == {
        b"access-control-allow-origin": b"*",
        b"access-control-expose-headers": EXPOSED,
    }
    assert cors.lines(None) == b""


@pytest.mark.parametrize("origin", [PAGE, PAGE.upper()])
def test_a_named_page_may_read_with_credentials(origin: bytes) -> None:
    told = lines(Cors((PAGE.decode(),)).lines(origin))
    assert told[b"access-control-allow-origin"] == origin, "as the browser wrote it"
    assert told[b"access-control-allow-credentials"] == b"true"
    assert told[b"vary"] == b"origin"


@pytest.mark.parametrize("origin", [b"https://chat.example.evil", b"http://chat.example", b"null", b"", None])
def test_other_pages_get_an_answer_that_caches_keep_apart(origin: bytes | None) -> None:
    cors = Cors((PAGE.decode(),))
    assert lines(cors.lines(origin)) == {b"vary": b"origin"}
    assert cors.preflight(origin, None) == b""


@pytest.mark.parametrize(
    ("asked", "granted"),
    [
        (b"authorization, x-session-id", b"authorization, x-session-id"),
        (b"content-type", b"content-type"),
        (None, None),
        (b"", None),
        (b"a\r\nset-cookie: x", None),
        (b"a b", None),
        (b"a," * 4000 + b"a", None),
    ],
)
def test_a_preflight_grants_the_headers_that_are_names(asked: bytes | None, granted: bytes | None) -> None:
    told = lines(Cors(("*",)).preflight(PAGE, asked))
    assert told[b"access-control-allow-methods"] == ALLOWED_METHODS
    assert told.get(b"access-control-allow-headers") == granted


def test_the_origin_is_found_in_a_head_that_was_not_understood() -> None:
    assert origin_in(b"GET / HTTP/1.1\r\nOrigin:  https://a \r\nbad") == b"https://a"
    assert origin_in(b"GET / HTTP/1.1\r\nx-origin: https://a\r\n\r\n") is None
