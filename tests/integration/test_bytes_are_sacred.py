"""What a client writes is what the engine reads, and the other way round: every byte, however it is cut on its way."""

from __future__ import annotations

import http.client
import itertools
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
from hypothesis import HealthCheck, given
from hypothesis import strategies as st

from tests.integration.conftest import OPEN
from tests.support.backends import SSE_HEAD, Call, ScriptedBackend, chunk
from tests.support.effort import examples
from tests.support.router import RouterProcess, Site
from tests.support.threads import backend_on_a_thread

WITH_ROUTER = examples(
    6,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@dataclass
class Script:
    """What the backend writes next: each piece is a write of its own."""

    pieces: list[bytes] = field(default_factory=list)

    async def __call__(self, call: Call) -> None:
        for piece in self.pieces:
            await call.send(piece)


@dataclass
class World:
    router: RouterProcess
    backend: ScriptedBackend
    script: Script
    connection: socket.socket | None = None

    def ask(self, *pieces: bytes) -> bytes:
        """Send the pieces; the body of the answer. One connection serves them all, as long as it is kept."""
        if self.connection is None:
            host, port = self.router.listen.split(":")
            self.connection = socket.create_connection((host, int(port)), timeout=10)
            self.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for piece in pieces:
            self.connection.sendall(piece)
        with http.client.HTTPResponse(self.connection) as answer:
            answer.begin()
            body = answer.read()
            if answer.will_close or answer.status != 200:
                self.connection.close()
                self.connection = None
            assert answer.status == 200, body
            return body


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    script = Script()
    with backend_on_a_thread(ScriptedBackend(script)) as backend:
        with RouterProcess([Site("near", "a", backend.url)], head=OPEN, command=("-m", "router")) as r:
            world = World(r, backend, script)
            yield world
            if world.connection is not None:
                world.connection.close()


# JSON as text, because a serialiser would tidy it up

SPACE = st.sampled_from(["", "", "", " ", "\n", "\t", "\r\n  "])
NUMBER = st.one_of(
    st.integers(-(10**60), 10**60).map(str),
    st.sampled_from(
        ["-0", "0.10", "1E5", "1.0e+05", "12345678901234567890123", "0.1000000000000000055511151231257827"]
    ),
)
STRING = st.one_of(
    st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"], exclude_characters='"\\'), max_size=8),
    st.sampled_from(
        ["\\u0000", "\\ud83d\\ude00", "\\/", "\\n\\\\", 'a\\"model\\":', "\\u00e9", "data: [DONE]", "é€😀"]
    ),
).map(lambda text: f'"{text}"')


def _array(items: list[tuple[str, str]]) -> str:
    return "[" + ",".join(space + item for space, item in items) + "]"


def _object(items: list[tuple[str, str, str]]) -> str:
    return "{" + ",".join(f"{space}{key}{space}:{value}" for space, key, value in items) + "}"


VALUE = st.recursive(
    st.one_of(NUMBER, STRING, st.sampled_from(["true", "false", "null"])),
    lambda inner: st.one_of(
        st.lists(st.tuples(SPACE, inner), max_size=3).map(_array),
        st.lists(st.tuples(SPACE, STRING, inner), max_size=3).map(_object),
    ),
    max_leaves=8,
)
UNKNOWN = st.sampled_from(["x", "vendor_field", "seed", "é", "logit_bias", "Model", "modeL", "a\\\\b", "x"]).map(
    '"{}"'.format
)


@st.composite
def documents(draw: st.DrawFn) -> bytes:
    members = draw(st.lists(st.tuples(SPACE, UNKNOWN, VALUE), max_size=5))
    members.insert(draw(st.integers(0, len(members))), (draw(SPACE), '"model"', '"m"'))
    return (draw(SPACE) + _object(members) + draw(SPACE)).encode()


def cut(data: bytes, places: list[int]) -> list[bytes]:
    marks = [0, *sorted({p % len(data) for p in places} - {0}), len(data)] if data else [0, 0]
    return [data[a:b] for a, b in itertools.pairwise(marks)]


CUTS = st.lists(st.integers(0, 1 << 16), max_size=6)
HEAD = b"POST /v1/anything HTTP/1.1\r\nhost: a\r\n"  # a route that promises nothing
CHAT = b"POST /v1/chat/completions HTTP/1.1\r\nhost: a\r\n"


@WITH_ROUTER
@given(
    body=documents(), cuts=CUTS, chunked=st.booleans(), document=VALUE, answer_cuts=CUTS, answer_chunked=st.booleans()
)
def test_json_arrives_as_it_was_written(
    world: World,
    body: bytes,
    cuts: list[int],
    chunked: bool,
    document: str,
    answer_cuts: list[int],
    answer_chunked: bool,
) -> None:
    answer = document.encode()
    head = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n"
    if answer_chunked:
        framed = (
            head + b"transfer-encoding: chunked\r\n\r\n" + b"".join(map(chunk, cut(answer, answer_cuts))) + b"0\r\n\r\n"
        )
    else:
        framed = head + b"content-length: %d\r\n\r\n%b" % (len(answer), answer)
    world.script.pieces = cut(framed, answer_cuts)
    if chunked:
        request = HEAD + b"transfer-encoding: chunked\r\n\r\n" + b"".join(map(chunk, cut(body, cuts))) + b"0\r\n\r\n"
    else:
        request = HEAD + b"content-length: %d\r\n\r\n%b" % (len(body), body)
    assert world.ask(*cut(request, cuts)) == answer
    assert world.backend.calls[-1].body == body


LINE_END = st.sampled_from(["\n", "\n", "\n", "\r\n", "\r"])
CONTENT = STRING.map('data: {{"choices":[{{"index":0,"delta":{{"content":{}}},"finish_reason":null}}],"y":1}}'.format)
LINES = st.one_of(
    CONTENT,
    CONTENT,
    st.sampled_from(
        [": ping", "event: x", "id: 1", "retry: 5", "data", "data:", "data: é€😀", "data: {broken", "other"]
    ),
)
LAST = 'data: {"choices":[{"index":0,"delta":{},"finish_reason":"stop"}]}'


@WITH_ROUTER
@given(
    events=st.lists(st.tuples(st.lists(LINES, min_size=1, max_size=3), LINE_END), max_size=12),
    end=LINE_END,
    cuts=st.lists(st.integers(0, 1 << 16), max_size=12),
    writes=CUTS,
)
def test_streams_arrive_as_they_were_written(
    world: World, events: list[tuple[list[str], str]], end: str, cuts: list[int], writes: list[int]
) -> None:
    text = "".join("".join(line + e for line in lines) + e for lines, e in events)
    stream = (text + LAST + end * 2 + "data: [DONE]" + end * 2).encode()
    world.script.pieces = cut(SSE_HEAD + b"".join(map(chunk, cut(stream, cuts))) + b"0\r\n\r\n", writes)
    body = b'{"model":"m","stream":true}'
    assert world.ask(CHAT + b"content-length: %d\r\n\r\n%b" % (len(body), body)) == stream
