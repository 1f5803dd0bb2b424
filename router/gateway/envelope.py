"""What the head of a request says, read once per distinct head.

An ``Envelope`` is shared by all requests with the same head. Its ``problem`` is raised when a request is read.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from router.core.sse import StreamKind
from router.core.types import Priority
from router.errors import RouterError
from router.gateway.auth import secret_of
from router.gateway.error_shapes import Dialect, dialect_of
from router.gateway.paths import kept_id, own, path_of, query_of, takes_posts
from router.telemetry.traces import ClientSpan, parent_of
from router.wire.head import RequestHead, connection_options

_REQUEST_ID = re.compile(rb"[A-Za-z0-9._-]{1,128}")
_REGION = re.compile(rb"[A-Za-z0-9._-]{1,64}")

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
_CONVERSING = _KINDS.keys() - {b"/v1/completions"}
_HEARING = (b"/v1/audio/transcriptions", b"/v1/audio/translations")
#: These count tokens and infer nothing.
_COUNTING = (b"/tokenize", b"/detokenize", b"/v1/messages/count_tokens", b"/v1/responses/input_tokens")
#: Paths that end so read a prompt and write no token.
_WRITE_NOTHING = frozenset(
    {b"embeddings", b"embedding", b"embed", b"rerank", b"reranking", b"score", b"classify", b"pooling", b"moderations"}
)
_PRIORITIES = {b"interactive": Priority.INTERACTIVE, b"standard": Priority.STANDARD, b"batch": Priority.BATCH}


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
    counting: bool = False  # it asks for a number of tokens, and uses none
    dialect: Dialect = Dialect.OPENAI  # of its errors
    writes: bool = True  # its answer is text, of which every byte was generated
    generates: bool = True  # its answer is made of tokens
    shows_legs: bool = False  # the client is told which backend continues its stream
    #: the client's id if it is harmless in logs and headers
    request_id: bytes | None = None
    #: (code, detail) of what is wrong with it
    problem: tuple[str, str] | None = None
    #: whether its body is JSON that asks a model to go on, as nearly all are
    plain: bool = True
    #: whether its body is JSON with other members
    special: bool = False
    pin_region: str | None = None
    residency: frozenset[str] | None = None
    priority: Priority | None = None
    affinity: str | None = None
    timeout_s: float | None = None
    policy: str | None = None
    client_region: str | None = None  # for the record; None also when it is no word
    parent: ClientSpan | None = None  # the span of the client that it belongs to
    untraced: bytes = b""  # ``lines`` without those of the trace
    #: whether it is for a backend; the router answers everything else by itself
    routed: bool = True
    #: the response that a backend keeps, and that this asks about
    kept: str | None = None
    #: the web page's, if the client is a browser
    origin: bytes | None = None


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
        multipart=content_type[:10].lower() == b"multipart/",
        lines=b"content-type: %b\r\n%b" % (content_type, b"".join(forwarded)),
        routed=kept is not None or (head.method == b"POST" and own(path) is None),
        kept=kept,
        origin=headers.get(b"origin"),
        counting=path in _COUNTING,
        dialect=dialect_of(path, headers),
        writes=path in _KINDS or path in _HEARING,
        generates=path[path.rfind(b"/") + 1 :] not in _WRITE_NOTHING,
    )
    given = headers.get(b"x-request-id")
    if given is not None and _REQUEST_ID.fullmatch(given):
        envelope.request_id = given
    envelope.untraced = envelope.lines
    trace = headers.get(b"traceparent")
    if trace is not None or b"tracestate" in headers:
        envelope.parent = parent_of(trace or b"", passed.get(b"tracestate", b""))
        others = [line for line in forwarded if not line.startswith((b"traceparent:", b"tracestate:"))]
        envelope.untraced = b"content-type: %b\r\n%b" % (content_type, b"".join(others))
    try:
        _check(path, headers)
        for name in _ASKS.keys() & headers.keys():
            _ASKS[name](envelope, headers[name])
    except RouterError as error:
        envelope.problem = error.code, error.detail
    json = envelope.problem is None and not envelope.multipart and kept is None
    envelope.plain = json and path in _CONVERSING
    envelope.special = json and not envelope.plain
    return envelope


def _check(path: bytes, headers: dict[bytes, bytes]) -> None:
    if not takes_posts(path):
        raise RouterError("not_found", "There is no such path.")
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise RouterError("unsupported_encoding", "Compressed request bodies are not supported.")


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


def _legs(envelope: Envelope, value: bytes) -> None:
    envelope.shows_legs = value.strip().lower() in (b"1", b"true")


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
    b"x-router-legs": _legs,
    b"x-client-region": _client_region,
}
