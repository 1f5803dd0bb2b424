"""Forms (multipart/form-data, RFC 7578): where their parts begin and end, by their boundary and nothing else.

Linear, and in steps. The head of a part is read, its content is leapt over, and nothing is unpacked.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from router.gateway.members import Span
from router.gateway.steps import LEAP_BYTES, Body, Steps

#: No form of these APIs has as many, and none has such heads.
PARTS_MAX = 1000
HEAD_BYTES_MAX = 8 * 1024

_STEP_PARTS = 100
#: RFC 2046 5.1.1: at most 70 characters.
_BOUNDARY = re.compile(rb';[ \t]*boundary=(?:"([^"\r\n]{1,70})"|([^\s;"]{1,70})(?=[\s;]|$))', re.IGNORECASE)
_DISPOSITION = re.compile(rb"content-disposition:[ \t]*form-data((?:[^\r\n]*))", re.IGNORECASE)
_PARAMETER = re.compile(rb';[ \t]*([a-z]+\*?)=(?:"((?:[^"\\]|\\.)*)"|([^\s;"]*))', re.IGNORECASE)
_TYPE = re.compile(rb"content-type:[ \t]*([^\s;]{1,100})", re.IGNORECASE)
_AFTER_BOUNDARY = re.compile(rb"[ \t]{0,64}\r\n")


class FormError(ValueError):
    """This form cannot be taken apart."""


@dataclass(slots=True)
class Part:
    """One field. ``content`` is where its value stands in the body."""

    name: str
    content: Span
    is_file: bool
    media_type: str  # in lower case, empty if it says none


def boundary_of(content_type: bytes) -> bytes:
    """Raises FormError."""
    match = _BOUNDARY.search(content_type)
    if match is None:
        raise FormError("names no boundary")
    boundary: bytes = match.group(1) or match.group(2)
    return boundary


def parts(body: Body, boundary: bytes) -> Steps[list[Part]]:
    """The fields of a form, in their order. Raises FormError."""
    mark = b"--" + boundary
    found: list[Part] = []
    # Before the first boundary anything may stand (RFC 2046 5.1.1).
    at = 0 if body.startswith(mark) else 2 + (yield from _delimiter(body, mark, 0))
    at += len(mark)
    while body[at : at + 2] != b"--":
        if len(found) >= PARTS_MAX:
            raise FormError(f"has more than {PARTS_MAX} parts")
        line_end = _AFTER_BOUNDARY.match(body, at)
        if line_end is None:
            raise FormError("goes on behind a boundary")
        begin = line_end.end() - 2  # a part may have no head at all
        end = body.find(b"\r\n\r\n", begin, begin + HEAD_BYTES_MAX)
        if end < 0:
            raise FormError("has a part whose head does not end")
        content = end + 4
        close = yield from _delimiter(body, mark, content - 2)  # the content may be empty
        found.append(_part(bytes(body[begin:end]), (content, max(content, close))))
        at = close + 2 + len(mark)
        if len(found) % _STEP_PARTS == 0:
            yield _STEP_PARTS * 1024
    return found


def _delimiter(body: Body, mark: bytes, at: int) -> Steps[int]:
    """Where the next line that is a boundary begins, with the line end before it."""
    line = b"\r\n" + mark
    false = 0
    while True:
        close = body.find(line, at, at + LEAP_BYTES + len(line))
        if close >= 0:
            behind = close + len(line)
            if body[behind : behind + 2] == b"--" or _AFTER_BOUNDARY.match(body, behind):
                return close
            at = close + 2
            false += 1
            if false % _STEP_PARTS == 0:
                yield _STEP_PARTS * len(line)
            continue
        at += LEAP_BYTES
        if at >= len(body):
            raise FormError("does not end with its boundary")
        yield LEAP_BYTES


def _part(head: bytes, content: Span) -> Part:
    disposition = _DISPOSITION.search(head)
    if disposition is None:
        raise FormError("has a part without a content-disposition")
    parameters = {name.lower(): quoted or plain for name, quoted, plain in _PARAMETER.findall(disposition.group(1))}
    if b"name" not in parameters:
        raise FormError("has a part without a name")
    media = _TYPE.search(head)
    return Part(
        parameters[b"name"][:256].decode("utf-8", "replace"),
        content,
        b"filename" in parameters or b"filename*" in parameters,
        media.group(1).decode("latin-1").lower() if media is not None else "",
    )
