"""Reads the JSON of engines: by the letter, and where that fails as Python and JavaScript write it.

Python's ``json`` writes NaN and Infinity, JavaScript writes half of a surrogate pair where a token ends between the
halves, others begin with a byte order mark or cut a character in two. Clients read all of that, so none of it makes an
answer bad. Values read here are looked at and never sent: the client gets the bytes of the engine.
"""

from __future__ import annotations

import json
import re
from typing import Any

import orjson

from router.core.framing import BOM

_HALF = re.compile(
    r"\\(?:u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|(?P<half>u[dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)


def loads(data: bytes) -> Any:
    """Raises ValueError if no reader of JSON takes it."""
    try:
        return orjson.loads(data)
    except orjson.JSONDecodeError:
        return _as_others_write_it(data)


def is_json(data: bytes) -> bool:
    try:
        loads(data)
    except ValueError:
        return False
    return True


def _as_others_write_it(data: bytes) -> Any:
    text = data.removeprefix(BOM).decode("utf-8", "replace")
    if "\\u" in text:
        text = _HALF.sub(lambda match: "\\ufffd" if match["half"] else match[0], text)
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None
