"""Reads the few metrics we want from a Prometheus text page, whatever else is on it and however long it is.

A page comes in pieces and only the wanted samples are kept. Each piece is searched for each wanted name, so a page
costs a few memory scans and not a line-by-line parse. Lines that make no sense are passed over: an engine's page is
outside data. https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import NamedTuple

#: A longer page is not read: the caller stops at this many bytes. vLLM with 32 engines has 1 MB.
PAGE_BYTES_MAX = 16 * 1024 * 1024
#: Per name, so many lines are looked at: a page of 1000 engines is read, a page that is made to keep us busy is not.
LINES_MAX = 2000
_LINE_BYTES_MAX = 16 * 1024
_LABEL = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*(?:,|(?=\}))')
_ESCAPE = re.compile(r"\\(.)")


class PageSample(NamedTuple):
    labels: dict[str, str]
    value: float  # finite


class Exposition:
    """One page. ``feed`` it as it comes, ``close`` it, then ask for the samples of the names given at the start."""

    def __init__(self, names: Iterable[str]) -> None:
        self._found: dict[str, list[PageSample]] = {name: [] for name in names}
        #: what is searched for: a name at the beginning of a line
        self._wanted = {name: b"\n" + name.encode() for name in self._found}
        #: work done: lines that were taken apart, per name
        self.lines = dict.fromkeys(self._found, 0)
        self._rest = b"\n"  # the line that is not complete yet, with the line end before it
        self._skipping = False  # it is too long to mean anything

    def feed(self, data: bytes) -> None:
        """The next piece, cut anywhere."""
        end = data.rfind(b"\n")
        if end < 0:
            self._hold(data)
            return
        first = data.find(b"\n") if self._skipping else 0
        whole = data[first:end] if self._skipping else self._rest + data[:end]
        self._rest, self._skipping = b"\n", False
        self._search(whole)
        self._hold(data[end + 1 :])

    def close(self) -> None:
        """The page has ended, perhaps without a line end."""
        if not self._skipping:
            self._search(self._rest)
        self._rest = b"\n"

    def samples(self, name: str) -> list[PageSample]:
        """In the order of the page, NaN and infinities left out; empty when the page does not have it."""
        return self._found[name]

    def _hold(self, data: bytes) -> None:
        if self._skipping or len(self._rest) + len(data) > _LINE_BYTES_MAX:
            self._rest, self._skipping = b"", True
        else:
            self._rest += data

    def _search(self, lines: bytes) -> None:
        """Look through whole lines, each with the line end before it."""
        for name, wanted in self._wanted.items():
            start, looked_at = 0, self.lines[name]
            while looked_at < LINES_MAX and (at := lines.find(wanted, start)) >= 0:
                looked_at += 1
                after = at + len(wanted)
                end = lines.find(b"\n", after)
                start = end if end >= 0 else len(lines)
                if start - after <= _LINE_BYTES_MAX and (sample := _sample(lines[after:start])) is not None:
                    self._found[name].append(sample)
            self.lines[name] = looked_at


def find_samples(page: bytes, name: str) -> list[PageSample]:
    """The samples of one metric of a page that is here already."""
    exposition = Exposition((name,))
    exposition.feed(page)
    exposition.close()
    return exposition.samples(name)


def _sample(line: bytes) -> PageSample | None:
    """A sample from what follows the name: ``{labels} value [timestamp] [# exemplar]``."""
    if line[:1] not in b"{ \t":  # also the end: a longer name, or nothing
        return None
    text = line.decode("utf-8", "replace")
    labels: dict[str, str] = {}
    if text.startswith("{"):
        at = 1
        while (match := _LABEL.match(text, at)) is not None:
            labels[match.group(1)] = _unescaped(match.group(2))
            at = match.end()
        if not text.startswith("}", at):
            return None
        text = text[at + 1 :]
    words = text.split(None, 1)
    try:
        value = float(words[0])
    except (IndexError, ValueError):
        return None
    return PageSample(labels, value) if math.isfinite(value) else None


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda m: "\n" if m.group(1) == "n" else m.group(1), text) if "\\" in text else text
