"""Finds the line of each key in a TOML text, so that a problem can name it.

``tomllib`` keeps no positions. This scanner walks a text that ``tomllib`` has accepted, so it needs to know only where
keys, strings, arrays and inline tables begin and end.
"""

from __future__ import annotations

import re
import tomllib
from bisect import bisect_right

Path = tuple[str | int, ...]

_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_SPACE = re.compile(r"[ \t]*")
_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_SCALAR = re.compile(r"[^,\]}\n#]*")
_STRING = re.compile(
    r'"""(?:[^\\]|\\.)*?"{3,5}' r"|'''.*?'{3,5}" r'|"(?:[^"\\\n]|\\.)*"' r"|'[^'\n]*'",
    re.DOTALL,
)


def locate(text: str) -> dict[Path, int]:
    """Line (from 1) of every table, key and array element. ``text`` must be valid TOML."""
    return _Scanner(text).run()


def line_of(places: dict[Path, int], path: Path) -> int | None:
    """The line of ``path``, or of the nearest table around it."""
    for end in range(len(path), 0, -1):
        if (line := places.get(path[:end])) is not None:
            return line
    return None


class _Scanner:
    def __init__(self, text: str) -> None:
        self._text = text
        self._at = 0
        self._line_ends = [m.start() for m in re.finditer("\n", text)]
        self._places: dict[Path, int] = {}
        self._array_sizes: dict[Path, int] = {}

    def run(self) -> dict[Path, int]:
        table: Path = ()
        self._skip(_BLANK)
        while self._at < len(self._text):
            if self._text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)
            self._skip(_BLANK)
        return self._places

    def _header(self) -> Path:
        start = self._at
        is_array = self._text.startswith("[[", start)
        self._at += 2 if is_array else 1
        keys = self._key()
        self._at = self._text.index("]", self._at) + (2 if is_array else 1)
        table: Path = ()
        for key in keys[:-1]:
            table += (key,)
            if table in self._array_sizes:
                table += (self._array_sizes[table] - 1,)
        table += (keys[-1],)
        self._note(table, start)
        if is_array:
            size = self._array_sizes.get(table, 0)
            self._array_sizes[table] = size + 1
            table += (size,)
            self._note(table, start)
        return table

    def _pair(self, table: Path) -> None:
        start = self._at
        path = table
        for key in self._key():
            path += (key,)
            self._note(path, start)
        self._at = self._text.index("=", self._at) + 1
        self._skip(_SPACE)
        self._value(path)

    def _key(self) -> list[str]:
        keys = []
        while True:
            self._skip(_SPACE)
            if self._text[self._at] in "\"'":
                keys.append(str(tomllib.loads(f"k = {self._take(_STRING)}")["k"]))
            else:
                keys.append(self._take(_BARE_KEY))
            self._skip(_SPACE)
            if self._text[self._at] != ".":
                return keys
            self._at += 1

    def _value(self, path: Path) -> None:
        first = self._text[self._at]
        if first in "\"'":
            self._take(_STRING)
        elif first == "[":
            self._array(path)
        elif first == "{":
            self._inline_table(path)
        else:
            self._take(_SCALAR)

    def _array(self, path: Path) -> None:
        self._at += 1
        index = 0
        while True:
            self._skip(_BLANK)
            if self._text[self._at] == "]":
                self._at += 1
                return
            self._note((*path, index), self._at)
            self._value((*path, index))
            index += 1
            self._skip(_BLANK)
            if self._text[self._at] == ",":
                self._at += 1

    def _inline_table(self, path: Path) -> None:
        self._at += 1
        while True:
            self._skip(_BLANK)
            if self._text[self._at] == "}":
                self._at += 1
                return
            self._pair(path)
            self._skip(_BLANK)
            if self._text[self._at] == ",":
                self._at += 1

    def _note(self, path: Path, at: int) -> None:
        self._places.setdefault(path, bisect_right(self._line_ends, at - 1) + 1)

    def _skip(self, pattern: re.Pattern[str]) -> None:
        self._take(pattern)

    def _take(self, pattern: re.Pattern[str]) -> str:
        match = pattern.match(self._text, self._at)
        if match is None:
            raise ValueError(f"not the TOML that was parsed, at character {self._at}")
        self._at = match.end()
        return match.group()
