"""What does the request ask? A typed peek at the few fields we need; the bytes stay as they are.

We do not model the OpenAI schema: whatever we do not know passes through untouched and is the engine's to judge. What
the head says (the Envelope) is read once per distinct head, what the body says (the Ask) once per request.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import msgspec

from router.core.affinity import prefix_blocks
from router.core.sse import StreamKind
from router.core.types import Priority, Value
from router.errors import RouterError
from router.gateway.auth import secret_of
from router.gateway.paths import kept_id, own, path_of, query_of, takes_posts
from router.wire.head import RequestHead, connection_options

#: Bytes of prompt per prefix block, and how many blocks of a prompt are hashed at most.
PREFIX_BLOCK_BYTES = 1024
PREFIX_BLOCKS_MAX = 1024
#: No more than this is believed of ``n`` and ``max_tokens``; the engine still gets what the client wrote.
CHOICES_MAX = 1024
TOKENS_MAX = 100_000_000

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_REGION = re.compile(rb"[A-Za-z0-9._-]{1,64}")
_TRACEPARENT = re.compile(rb"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
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
    stream_options: msgspec.Raw = msgspec.Raw()
    previous_response_id: msgspec.Raw = msgspec.Raw()
    conversation: msgspec.Raw = msgspec.Raw()


class _Reference(msgspec.Struct):
    id: str | None = None


_decoder = msgspec.json.Decoder(_Body)
_reference_decoder = msgspec.json.Decoder(str | _Reference | None)
_prompts_decoder = msgspec.json.Decoder(list[msgspec.Raw])


@dataclass(slots=True, eq=False)
class Envelope:
    """The head of a request, understood as far as routing needs. Shared by requests with the same head: not altered."""

    method: bytes
    path: bytes  # in its one spelling, see paths.py
    target: bytes  # path and query, for the backend
    shown_path: str  # for records
    kind: StreamKind
    secret: bytes | None
    content_type: bytes
    multipart: bool
    lines: bytes  # header lines for the backend
    #: the client's id if it is harmless in logs and headers
    request_id: bytes | None = None
    #: (code, detail) of what is wrong with it
    problem: tuple[str, str] | None = None
    pin_region: str | None = None
    residency: frozenset[str] | None = None
    priority: Priority | None = None
    affinity: str | None = None
    timeout_s: float | None = None
    policy: str | None = None
    client_region: str | None = None  # for the record; None also when it is no word
    trace_id: str | None = None
    #: whether it is for a backend; the router answers everything else by itself
    routed: bool = True
    #: the response that a backend keeps, and that this asks about
    kept: str | None = None
    #: the web page's, if the client is a browser
    origin: bytes | None = None


class Kept(Value):
    """Something that a backend keeps under an id. ``param``: the member of the body that names it; None: the path."""

    id: str
    param: str | None = None


class Ask(Value, eq=False):
    """One request, understood as far as routing needs."""

    envelope: Envelope
    model: str
    stream: bool
    choices: int  # of all prompts together
    max_tokens: int | None
    prompt_bytes: int
    blocks: tuple[int, ...]
    #: what it continues or asks about
    kept: Kept | None = None
    #: how many prompts the choices are of
    prompts: int = 1
    #: as JSON; empty if there are none
    stream_options: bytes = b""


def envelope_of(head: RequestHead) -> Envelope:
    """What the head says; made when it is first asked for. Its ``problem`` is raised by ``read``."""
    envelope: Envelope | None = head.meaning
    if envelope is None:
        envelope = head.meaning = _understand(head)
    return envelope


def _understand(head: RequestHead) -> Envelope:
    headers = head.headers
    path = path_of(head.target)
    hop_by_hop = connection_options(headers)  # meant for this router alone (RFC 9110 7.6.1)
    passed = headers if not hop_by_hop else {n: v for n, v in headers.items() if n not in hop_by_hop}
    content_type = passed.get(b"content-type", b"application/json")
    forwarded = [b"%b: %b\r\n" % (name, passed[name]) for name in FORWARDED if name in passed]
    kept = kept_id(head.method, path)
    envelope = Envelope(
        head.method,
        path,
        target=path + query_of(head.target),
        shown_path=path[:256].decode("latin-1"),
        kind=_KINDS.get(path, StreamKind.OTHER),
        secret=secret_of(headers),
        content_type=content_type,
        multipart=content_type.startswith(b"multipart/"),
        lines=b"content-type: %b\r\n%b" % (content_type, b"".join(forwarded)),
        routed=kept is not None or (head.method == b"POST" and own(path) is None),
        kept=kept,
        origin=headers.get(b"origin"),
    )
    given = headers.get(b"x-request-id")
    if given is not None and _REQUEST_ID.fullmatch(given):
        envelope.request_id = given
    trace = headers.get(b"traceparent")
    if trace is not None and _TRACEPARENT.fullmatch(trace):
        envelope.trace_id = trace[3:35].decode()
    try:
        _check(path, headers)
        for name in _ASKS.keys() & headers.keys():
            _ASKS[name](envelope, headers[name])
    except RouterError as error:
        envelope.problem = error.code, error.detail
    return envelope


def _check(path: bytes, headers: dict[bytes, bytes]) -> None:
    if not takes_posts(path):
        raise RouterError("not_found", "There is no such path.")
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise RouterError("unsupported_encoding", "Compressed request bodies are not supported.")


def read(envelope: Envelope, data: bytes) -> Ask:
    """Peek at the body. Raises RouterError: invalid_request, not_found, unsupported_encoding."""
    if envelope.problem is not None:
        raise RouterError(*envelope.problem)
    if envelope.kept is not None:
        streamed = b"stream=true" in query_of(envelope.target).lower()
        return Ask(envelope, "", streamed, 1, None, 0, (), Kept(envelope.kept))
    prompt: bytes | memoryview
    if envelope.multipart:
        body, prompt = _read_multipart(data), memoryview(data)
    else:
        body = _read_json(data)
        prompt = memoryview(body.messages or body.prompt or body.input)
        if body.tools:
            prompt = bytes(body.tools) + prompt
    if not body.model:
        raise RouterError("invalid_request", "The body must name a `model`.", param="model")
    limit = body.max_completion_tokens or body.max_tokens or body.max_output_tokens
    n = body.n if body.n is not None and body.n > 1 else 1
    prompts = _prompts_in(body.prompt) if body.prompt else 1
    blocks: tuple[int, ...] = ()
    if len(prompt) > PREFIX_BLOCK_BYTES:
        # the closing bracket is left off so that a longer conversation still begins with this one
        blocks = prefix_blocks(prompt[:-1], block_bytes=PREFIX_BLOCK_BYTES, limit=PREFIX_BLOCKS_MAX)
    return Ask(
        envelope,
        body.model,
        body.stream is True,
        min(n * prompts, CHOICES_MAX),
        int(min(limit, TOKENS_MAX)) if limit is not None and limit > 0 else None,
        len(prompt),
        blocks,
        _continued(body) if envelope.kind is StreamKind.RESPONSES else None,
        min(prompts, CHOICES_MAX),
        bytes(body.stream_options),
    )


def _continued(body: _Body) -> Kept | None:
    """What a request for a response goes on from."""
    for param in ("previous_response_id", "conversation"):
        raw = getattr(body, param)
        if raw and (name := reference(raw)):
            return Kept(name, param)
    return None


def reference(raw: msgspec.Raw) -> str | None:
    """An id, or the ``id`` of an object; None if it is neither: that is for the engine to judge."""
    try:
        found = _reference_decoder.decode(raw)
    except msgspec.MsgspecError:
        return None
    return found.id if isinstance(found, _Reference) else found


def _prompts_in(prompt: msgspec.Raw) -> int:
    """How many prompts a body of /v1/completions holds: a text or a list of token ids is one, a list of these many."""
    begin = bytes(memoryview(prompt)[:64]).split()
    text = b"".join(begin[:2])
    if not text.startswith((b'["', b"[[")):
        return 1
    return max(1, len(_prompts_decoder.decode(prompt)))


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


def _pin(envelope: Envelope, value: bytes) -> None:
    envelope.pin_region = value.decode("latin-1")


def _residency(envelope: Envelope, value: bytes) -> None:
    parts = value.decode("latin-1").split(",")
    envelope.residency = frozenset(part.strip().lower() for part in parts if part.strip())


def _priority(envelope: Envelope, value: bytes) -> None:
    if value.lower() not in _PRIORITIES:
        raise RouterError("invalid_request", "x-router-priority is interactive, standard or batch.")
    envelope.priority = _PRIORITIES[value.lower()]


def _affinity(envelope: Envelope, value: bytes) -> None:
    envelope.affinity = value[:256].decode("latin-1")


def _timeout(envelope: Envelope, value: bytes) -> None:
    if not value.isdigit() or not 0 < int(value) <= 86_400_000:
        raise RouterError("invalid_request", "x-router-timeout-ms is a number of milliseconds up to a day.")
    envelope.timeout_s = int(value) / 1000


def _policy(envelope: Envelope, value: bytes) -> None:
    envelope.policy = value.decode("latin-1")


def _client_region(envelope: Envelope, value: bytes) -> None:
    if _REGION.fullmatch(value):
        envelope.client_region = value.decode()


_ASKS = {
    b"x-router-region": _pin,
    b"x-router-residency": _residency,
    b"x-router-priority": _priority,
    b"x-router-affinity": _affinity,
    b"x-router-timeout-ms": _timeout,
    b"x-router-policy": _policy,
    b"x-client-region": _client_region,
}
