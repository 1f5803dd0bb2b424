"""Reads the few metrics we want from a Prometheus text page, whatever else is on it.

The page is searched for each wanted name, so its cost is a few memory scans and not a line-by-line parse. Lines that
make no sense are passed over: an engine's page is outside data.
https://prometheus.io/docs/instrumenting/exposition_formats/
"""

from __future__ import annotations

import math
import re
from typing import NamedTuple

#: A longer page is not read: the caller stops at this many bytes.
PAGE_BYTES_MAX = 1024 * 1024
_SAMPLES_MAX = 1000
_LINE_BYTES_MAX = 16 * 1024
_LABEL = re.compile(r'\s*([a-zA-Z_][a-zA-Z0-9_]*)\s*=\s*"((?:[^"\\]|\\.)*)"\s*(?:,|(?=\}))')
_ESCAPE = re.compile(r"\\(.)")


class Sample(NamedTuple):
    labels: dict[str, str]
    value: float  # finite


def find_samples(page: bytes, name: str) -> list[Sample]:
    """The samples of one metric, in the order of the page; empty when it is not there.

    At most 1000 samples are taken; NaN and infinities are left out.
    """
    wanted = name.encode()
    samples: list[Sample] = []
    start = 0
    tries = 0
    while tries < _SAMPLES_MAX and (at := page.find(wanted, start)) >= 0:
        start = at + len(wanted)
        if at > 0 and page[at - 1] != 0x0A:
            continue
        tries += 1
        end = page.find(b"\n", start, start + _LINE_BYTES_MAX)
        line = page[start : end if end >= 0 else start + _LINE_BYTES_MAX]
        if (sample := _sample(line)) is not None:
            samples.append(sample)
    return samples


def _sample(line: bytes) -> Sample | None:
    """A sample from what follows the name: ``{labels} value [timestamp] [# exemplar]``."""
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
    elif not text[:1].isspace():
        return None
    words = text.split(None, 1)
    try:
        value = float(words[0])
    except (IndexError, ValueError):
        return None
    return Sample(labels, value) if math.isfinite(value) else None


def _unescaped(text: str) -> str:
    return _ESCAPE.sub(lambda m: "\n" if m.group(1) == "n" else m.group(1), text) if "\\" in text else text
