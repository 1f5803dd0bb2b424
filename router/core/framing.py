"""The framing of server-sent events (WHATWG HTML 9.2): where events end, and what their lines say.

A line ends with LF, CRLF or CR, in any mixture; an event ends with an empty line. Nothing here changes a byte.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

BOM = b"\xef\xbb\xbf"
#: llama.cpp sends errors in a field of this name; such an event counts as one of this type.
ERROR = b"error"

EVENT_END = re.compile(rb"\n(?:\n|\r\n?)|\r\r\n?")
_LINE_END = re.compile(rb"\r\n|\n|\r")
_BEGINNING = re.compile(rb"(?:\xef\xbb\xbf)?[\r\n]*(?:data|event|id|retry|error)?:")
#: The first bytes of an answer that decide whether it is a stream of events.
BEGINNING_BYTES = 16


def begins_a_stream(data: bytes) -> bool:
    """Whether an answer that begins like this is a stream of events. No JSON does."""
    return _BEGINNING.match(data) is not None


def end_of_events(buffer: bytes, start: int = 0) -> int:
    """Where the last whole event of ``buffer`` ends, 0 if none does. None is known to end before ``start``."""
    start = max(0, start - 3)
    at = buffer.rfind(b"\n\n", start)
    if b"\r" in buffer:
        at = max(at, buffer.rfind(b"\n\r", start), buffer.rfind(b"\r\r", start))
    if at < 0:
        return 0
    end = at + 2
    # If this CR is half a CRLF whose LF is yet to come, the next event begins with an empty line, which says nothing.
    return end + (buffer[end - 1 : end + 1] == b"\r\n")


def events_of(data: bytes, start: int = 0) -> Iterator[bytes]:
    """The events of ``data`` from ``start`` on, each with its end. The last may lack one."""
    plain = b"\r" not in data
    while start < len(data):
        if plain:
            end = data.find(b"\n\n", start) + 2
            end = end if end >= 2 else len(data)
        else:
            match = EVENT_END.search(data, start)
            end = match.end() if match is not None else len(data)
        yield data[start:end]
        start = end


def end_of_run(data: bytes, start: int, ending: bytes) -> int:
    """Where the last event ends that has this ending, if all from ``start`` to it have it; else ``start``.

    ``ending`` holds the empty line behind an event and no other line end."""
    at = data.rfind(ending, start)
    if at < 0 or b"\r" in data:
        return start
    end = at + len(ending)
    return end if data.count(ending, start, end) * 2 == data.count(b"\n", start, end) else start


def fields_of(event: bytes) -> tuple[bytes, list[bytes]]:
    """The type of an event (empty if it has none) and its lines of data."""
    name, data = b"", []
    for line in _LINE_END.split(event):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value
        elif field == ERROR:
            name = ERROR
            data.append(value)
    return name, data


def count_data_lines(data: bytes) -> int:
    """How many lines begin with ``data:``. Inside the text of a model no line begins."""
    count = data.count(b"\ndata:") + data.startswith(b"data:")
    return count + data.count(b"\rdata:") if b"\r" in data else count
