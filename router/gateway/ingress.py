"""What does the request ask? A typed peek at the few fields we need; the bytes stay as they are.

We do not model the OpenAI schema: whatever we do not know passes through untouched and is the engine's to judge.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

import msgspec

from router.core.affinity import prefix_blocks
from router.core.sse import StreamKind
from router.core.types import Priority
from router.errors import RouterError
from router.wire.inbound import InboundRequest

#: Bytes of prompt per prefix block, and how many blocks of a prompt are hashed at most.
PREFIX_BLOCK_BYTES = 512
PREFIX_BLOCKS_MAX = 1024

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
_PATH = re.compile(rb"/(?:v1/[A-Za-z0-9_-]+(?:/[A-Za-z0-9_.:-]+)*|tokenize|detokenize|rerank|score|pooling|classify)")
_MULTIPART_MODEL = re.compile(rb'name="model"[^\r\n]*\r\n(?:[^\r\n]+\r\n)*\r\n([^\r\n]{1,256})\r\n', re.IGNORECASE)

#: Nothing else of a client's headers reaches a backend.
FORWARDED = (
    b"accept",
    b"traceparent",
    b"tracestate",
    b"user-agent",
    b"openai-beta",
    b"anthropic-version",
    b"anthropic-beta",
    b"endpoint-load-metrics-format",
)

_KINDS = {
    b"/v1/chat/completions": StreamKind.CHAT,
    b"/v1/completions": StreamKind.CHAT,
    b"/v1/responses": StreamKind.RESPONSES,
    b"/v1/messages": StreamKind.MESSAGES,
}
_PRIORITIES = {b"interactive": Priority.INTERACTIVE, b"standard": Priority.STANDARD, b"batch": Priority.BATCH}


class _Body(msgspec.Struct):
    model: str | None = None
    stream: bool | None = None
    n: int | None = None
    max_tokens: int | float | None = None
    max_completion_tokens: int | float | None = None
    max_output_tokens: int | float | None = None
    messages: msgspec.Raw = msgspec.Raw()
    prompt: msgspec.Raw = msgspec.Raw()
    input: msgspec.Raw = msgspec.Raw()
    tools: msgspec.Raw = msgspec.Raw()


_decoder = msgspec.json.Decoder(_Body)


@dataclass(slots=True)
class Ask:
    """One request, understood as far as routing needs."""

    request_id: bytes
    path: bytes
    target: bytes  # path and query as the client sent them
    model: str
    stream: bool
    kind: StreamKind
    choices: int
    max_tokens: int | None
    prompt_bytes: int
    blocks: tuple[int, ...]
    content_type: bytes
    pin_region: str | None = None
    residency: frozenset[str] | None = None
    priority: Priority | None = None
    affinity: str | None = None
    timeout_s: float | None = None
    policy: str | None = None
    client_region: str | None = None
    trace_id: str | None = None
    forwarded: bytes = field(default=b"")  # header lines for the backend


def path_of(target: bytes) -> bytes:
    """The path of a request target; RFC 9112 also allows the absolute form."""
    if not target.startswith(b"/"):
        scheme, _, rest = target.partition(b"://")
        if scheme.lower() in (b"http", b"https"):
            _, slash, target = rest.partition(b"/")
            target = slash + target
    return target.partition(b"?")[0]


def request_id_of(headers: dict[bytes, bytes], own: bytes) -> bytes:
    """The client's id if it is harmless in logs and headers, else our own."""
    given = headers.get(b"x-request-id")
    return given if given is not None and _REQUEST_ID.fullmatch(given) else own


def read(request: InboundRequest, request_id: bytes) -> Ask:
    """Peek at the body and the asking headers. Raises RouterError: invalid_request, not_found, unsupported_encoding."""
    headers = request.headers
    path = path_of(request.target)
    if _PATH.fullmatch(path) is None or b".." in path:
        raise RouterError("not_found", "There is no such path.")
    encoding = headers.get(b"content-encoding")
    if encoding is not None and encoding.lower() != b"identity":
        raise RouterError("unsupported_encoding", "Compressed request bodies are not supported.")
    content_type = headers.get(b"content-type", b"application/json")
    if content_type.startswith(b"multipart/"):
        body, prompt = _read_multipart(request.body), request.body
    else:
        body = _read_json(request.body)
        prompt = bytes(body.tools) + bytes(body.messages or body.prompt or body.input)
    if not body.model:
        raise RouterError("invalid_request", "The body must name a `model`.", param="model")
    limit = body.max_completion_tokens or body.max_tokens or body.max_output_tokens
    ask = Ask(
        request_id=request_id,
        path=path,
        target=path + _query_of(request.target),
        model=body.model,
        stream=bool(body.stream),
        kind=_KINDS.get(path, StreamKind.OTHER),
        choices=max(body.n or 1, 1),
        max_tokens=int(limit) if limit is not None and limit > 0 else None,
        prompt_bytes=len(prompt),
        # the closing bracket is left off so that a longer conversation still begins with this one
        blocks=prefix_blocks(prompt[:-1], block_bytes=PREFIX_BLOCK_BYTES, limit=PREFIX_BLOCKS_MAX),
        content_type=content_type,
    )
    _read_headers(ask, headers)
    return ask


def _query_of(target: bytes) -> bytes:
    _, mark, query = target.partition(b"?")
    return mark + query


def _read_json(data: bytes) -> _Body:
    try:
        if not data.isascii():
            data.decode()
        return _decoder.decode(data)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at ")
        param = place.strip("`").removeprefix("$").lstrip(".") or None
        raise RouterError("invalid_request", f"{message}.", param=param) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        raise RouterError("invalid_request", "The body is not valid JSON.") from None
    except RecursionError:
        raise RouterError("invalid_request", "The JSON of the body is nested too deeply.") from None


def _read_multipart(data: bytes) -> _Body:
    match = _MULTIPART_MODEL.search(data)
    return _Body(model=match.group(1).decode("utf-8", "replace") if match else None)


def _read_headers(ask: Ask, headers: dict[bytes, bytes]) -> None:
    lines = [b"%b: %b\r\n" % (name, headers[name]) for name in FORWARDED if name in headers]
    if lines:
        ask.forwarded = b"".join(lines)
        trace = headers.get(b"traceparent")
        if trace is not None and _TRACEPARENT.fullmatch(trace):
            ask.trace_id = trace[3:35].decode()
    for name, value in headers.items():
        if name.startswith(b"x-") and (reader := _ASKS.get(name)) is not None:
            reader(ask, value)


def _pin(ask: Ask, value: bytes) -> None:
    ask.pin_region = value.decode("latin-1")


def _residency(ask: Ask, value: bytes) -> None:
    ask.residency = frozenset(part.strip().lower() for part in value.decode("latin-1").split(",") if part.strip())


def _priority(ask: Ask, value: bytes) -> None:
    if value.lower() not in _PRIORITIES:
        raise RouterError("invalid_request", "x-router-priority is interactive, standard or batch.")
    ask.priority = _PRIORITIES[value.lower()]


def _affinity(ask: Ask, value: bytes) -> None:
    ask.affinity = value[:256].decode("latin-1")


def _timeout(ask: Ask, value: bytes) -> None:
    if not value.isdigit() or not 0 < int(value) <= 86_400_000:
        raise RouterError("invalid_request", "x-router-timeout-ms is a number of milliseconds up to a day.")
    ask.timeout_s = int(value) / 1000


def _policy(ask: Ask, value: bytes) -> None:
    ask.policy = value.decode("latin-1")


def _client_region(ask: Ask, value: bytes) -> None:
    ask.client_region = value.decode("latin-1")


_ASKS = {
    b"x-router-region": _pin,
    b"x-router-residency": _residency,
    b"x-router-priority": _priority,
    b"x-router-affinity": _affinity,
    b"x-router-timeout-ms": _timeout,
    b"x-router-policy": _policy,
    b"x-client-region": _client_region,
}
