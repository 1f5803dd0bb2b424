"""Reads an error of a backend, in whichever shape engines and providers put it.

OpenAI, vLLM, llama.cpp: ``{"error": {message, type, param, code}}``; Anthropic adds ``"type": "error"`` outside. SGLang
and old vLLM are flat. FastAPI says ``{"detail": text or list}``, TGI ``{"error": text, "error_type": word}``, Ollama
``{"error": text}``, Mistral, Cohere and Bedrock ``{"message": text}``, Google puts the object into a list. Some send
plain text.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from router.core.leniency import loads

#: A longer text is not a code or type.
_WORD_LENGTH_MAX = 100
_DECODED_BYTES_MAX = 256 * 1024
_NESTED_MAX = 3
_TEXT_LENGTH_MAX = 500


@dataclass(slots=True)
class Said:
    """The words of one error, each empty when it was not said.

    number   the HTTP status that the error itself names, 0 if it names none
    more     further fields beside those of OpenAI's shape
    whole    the document as it came
    """

    message: str = ""
    type: str = ""
    code: str = ""
    param: str | None = None
    number: int = 0
    more: dict[str, Any] = field(default_factory=dict)
    whole: object = None


def read_body(body: bytes, *, encoding: bytes = b"") -> Said:
    """Read the body of an error answer, whatever it holds. Never raises."""
    body = _decoded(body, encoding)
    try:
        document: object = loads(body)
    except ValueError:
        return Said(_plain_text(body))
    return read_document(document)


def read_document(document: object) -> Said:
    """Read an error that came as JSON: a whole body, or an object inside a stream."""
    whole = document
    if isinstance(document, list) and document and isinstance(document[0], dict):  # Google
        document = document[0]
    if isinstance(document, str):
        return Said(document, whole=whole)
    if not isinstance(document, dict):
        return Said(whole=whole)
    said = Said(whole=whole)
    for layer in _layers(document):
        _take(said, layer)
    return said


def _layers(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """The objects that may hold the error, from the innermost, which counts first, to the outermost."""
    layers = [document]
    while len(layers) <= _NESTED_MAX:
        inner = layers[-1].get("error")
        if not isinstance(inner, dict):
            break
        layers.append(inner)
    return iter(layers[::-1])


def _take(said: Said, layer: dict[str, Any]) -> None:
    said.message = said.message or _message(layer)
    for name in ("code", "status", "status_code", "statusCode", "http_status", "error_code"):
        _take_code(said, layer.get(name))
    for name in ("type", "error_type", "__type"):
        value = layer.get(name)
        if isinstance(value, str) and value != "error" and not said.type:  # Anthropic's outer type says nothing
            _take_type(said, value)
    param = layer.get("param")
    if said.param is None and isinstance(param, str):
        said.param = param[:_WORD_LENGTH_MAX]
    for name, value in layer.items():
        if name not in _READ and value is not None:
            said.more.setdefault(name, value)


#: Fields of OpenAI's shape, or around it; all others are ``more``.
_READ = frozenset({"message", "type", "code", "param", "error", "object", "error_type", "detail", "request_id"})


def _take_code(said: Said, value: object) -> None:
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) <= 3:
        value = int(value)
    if isinstance(value, bool):
        return
    if isinstance(value, int) and 400 <= value <= 599:
        said.number = said.number or value
    elif isinstance(value, str) and not said.code and value.lower() not in ("", "error", "failed", "fail"):
        said.code = value[:_WORD_LENGTH_MAX]


def _take_type(said: Said, value: str) -> None:
    if value.isascii() and value.isdigit():  # SGLang: "type": "503"
        _take_code(said, value)
    else:
        said.type = value.rpartition("#")[2][:_WORD_LENGTH_MAX]  # Bedrock: "com.amazonaws…#ThrottlingException"


def _message(layer: dict[str, Any]) -> str:
    for name in ("message", "detail", "error", "title", "Message", "msg", "error_description"):
        value = layer.get(name)
        if isinstance(value, str) and value.strip():
            return value
        if isinstance(value, list) and name in ("detail", "message"):
            return _problems(value)
        if isinstance(value, dict) and name in ("detail", "message"):  # Mistral: {"message": {"detail": [...]}}
            text = _message(value)
            if text:
                return text
    return ""


def _problems(entries: list[object]) -> str:
    """FastAPI's list of problems as text: the place of each, and the problem."""
    found = []
    for entry in entries[:10]:
        if isinstance(entry, str):
            found.append(entry)
        elif isinstance(entry, dict) and isinstance(entry.get("msg"), str):
            place = entry.get("loc")
            where = ".".join(str(part)[:60] for part in place[:8]) if isinstance(place, (list, tuple)) else ""
            found.append(f"{where}: {entry['msg']}" if where else entry["msg"])
    return "; ".join(found)


def _plain_text(body: bytes) -> str:
    """The body as text; empty for a web page or JSON that was cut."""
    text = body[: 4 * _TEXT_LENGTH_MAX].decode("utf-8", "replace").strip()
    return "" if text.startswith(("<", "{", "[")) else text[:_TEXT_LENGTH_MAX]


def _decoded(body: bytes, encoding: bytes) -> bytes:
    """The body, decompressed if need be: some backends compress without being asked."""
    if encoding.lower() not in (b"gzip", b"x-gzip", b"deflate"):
        return body
    try:
        return zlib.decompressobj(wbits=47).decompress(body, _DECODED_BYTES_MAX)  # 47: either header
    except zlib.error:
        return b""
