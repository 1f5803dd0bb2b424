"""The corpora of tests/data/http: bytes with names, and what must become of them."""

from __future__ import annotations

import codecs
import re
import tomllib
from functools import cache
from pathlib import Path
from typing import Any

DATA = Path(__file__).parents[1] / "data" / "http"
JSON = b'{"model":"m"}'
CHAT = b"POST /v1/chat/completions HTTP/1.1\r\nHost: a\r\n"
PAUSE = b"<pause>"  # where the sender waits for an interim answer

_WORDS = {
    b"<chat>": CHAT,
    b"<te>": CHAT + b"Transfer-Encoding: chunked\r\n\r\n",
    b"<json>": JSON,
    b"<chunk>": b"d\r\n" + JSON + b"\r\n",
    b"<headers>": b"".join(b"X-%d: y\r\n" % i for i in range(110)),
    b"<extensions>": b"1;%b\r\nx\r\n" % (b"a" * 4000) * 20,
    b"<many>": b"X: y\r\n" * 20_000,
    b"<interim>": b"HTTP/1.1 100 Continue\r\n\r\n" * 1000,
    b"<ok>": b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n",
}
_REPEATED = re.compile(rb"<([^<>]|\\x..)\*(\d+)>", re.DOTALL)


@cache
def table(name: str) -> dict[str, list[list[Any]]]:
    return tomllib.loads((DATA / name).read_text(encoding="utf-8"))


def raw(text: str) -> bytes:
    """The bytes that a case stands for."""
    data = codecs.decode(text, "unicode_escape").encode("latin-1")
    for word, meaning in _WORDS.items():
        data = data.replace(word, meaning)
    return _REPEATED.sub(lambda m: m.group(1) * int(m.group(2)), data)
