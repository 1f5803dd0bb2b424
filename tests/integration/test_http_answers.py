"""The corpus of answers through a real router: a backend can fail its own request, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import orjson
import pytest

from tests.integration.conftest import OPEN
from tests.support import corpus
from tests.support.backends import DONE, ROLE, SSE_HEAD, Call, ScriptedBackend, chunk, event, whole
from tests.support.raw import statuses, talk
from tests.support.router import RouterProcess, Site
from tests.support.threads import backend_on_a_thread

PASSED = corpus.table("answers.toml")["passed"]
BROKEN = corpus.table("answers.toml")["broken"]
CUT = corpus.table("answers.toml")["cut"]

STREAM = SSE_HEAD + chunk(ROLE) + chunk(event("one")) + chunk(event("two"))
END = chunk(event(None, "stop")) + chunk(DONE)
#: name -> (what follows two tokens of a stream, whether the backend closes, whether the client gets a whole stream)
STREAMS: dict[str, tuple[bytes, bool, bool]] = {
    "whole": (END + b"0\r\n\r\n", False, True),
    "closed without the last chunk": (END, True, True),
    "cut": (b"", True, False),
    "cut within a chunk": (b"99\r\ndata: {", True, False),
    "ends early": (b"0\r\n\r\n", False, False),
    "bad chunk size": (b"evil\r\n", False, False),
    "chunk without its end": (chunk(event("three"))[:-2] + b"xx", False, False),
    "an answer instead of a chunk": (b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", False, False),
    "done twice": (END + chunk(DONE) + b"0\r\n\r\n", False, True),
}

#: bodies that end with the connection
CLOSED = {
    "until the end of the connection",
    "until the end, though it says keep-alive",
    "HTTP/1.0 until the end",
    "HTTP/1.0 kept, but without a length",
}

GOOD = whole(200, b'{"second":true}')


class Hostile:
    """Behaviour of all backends: the first request on the model ``case`` gets its answer, the next a good one."""

    def __init__(self) -> None:
        self.answers: dict[str, tuple[bytes, bool]] = {}
        self.calls: list[Call] = []

    async def __call__(self, call: Call) -> None:
        document = orjson.loads(call.body)
        if document.get("second"):
            await call.send(GOOD)
            return
        answer, closes = self.answers[document["model"]]
        step = document.get("step") or len(answer) or 1
        for at in range(0, len(answer), step):
            await call.send(answer[at : at + step])
        if closes:
            call.close()


World = tuple[RouterProcess, dict[str, ScriptedBackend]]


def model_of(case: str) -> str:
    return case.replace(" ", "_")


def cases() -> dict[str, tuple[bytes, bool]]:
    """case -> what its backend answers, and whether it closes then."""
    out = {f"passed {c[2]}": (corpus.raw(c[3]), c[2] in CLOSED) for c in PASSED}
    out |= {f"broken {c[2]}": (corpus.raw(c[3]), False) for c in BROKEN}
    out |= {f"cut {c[1]}": (corpus.raw(c[2]), True) for c in CUT}
    out |= {f"stream {name}": (STREAM + rest, closes) for name, (rest, closes, _) in STREAMS.items()}
    return out


@pytest.fixture(scope="module")
def world() -> Iterator[World]:
    """One router, and a backend for each case: what a backend does is held against it."""
    hostile = Hostile()
    hostile.answers = {model_of(case): answer for case, answer in cases().items()}
    backends = {case: ScriptedBackend(hostile) for case in cases()}
    with ExitStack() as stack:
        stack.enter_context(backend_on_a_thread(*backends.values()))
        sites = [Site("near", f"b{i}", b.url, models=[model_of(c)]) for i, (c, b) in enumerate(backends.items())]
        yield stack.enter_context(RouterProcess(sites, head=OPEN + "[probes]\ninterval = 60.0\n")), backends


CHAT = b"/v1/chat/completions"
#: A route that promises nothing: its answers are judged by their framing alone.
ANY = b"/v1/score"


async def ask(r: RouterProcess, case: str, path: bytes = CHAT, **more: object) -> bytes:
    host, port = r.listen.split(":")
    body = orjson.dumps({"model": model_of(case), **more})
    request = b"POST %b HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%b"
    return await talk((host, int(port)), request % (path, len(body), body), timeout_s=3.0)


def connections(backend: ScriptedBackend) -> int:
    return len({id(call.writer) for call in backend.calls})


def test_the_corpus_is_large() -> None:
    assert len(cases()) > 100


@pytest.mark.parametrize("step", [0, 7])
@pytest.mark.parametrize("case", PASSED, ids=[c[2] for c in PASSED])
async def test_what_is_passed_on(world: World, case: list[Any], step: int) -> None:
    r, backends = world
    status, _, name, _, body, kept = case
    backend = backends[f"passed {name}"]
    backend.calls.clear()
    answer = await ask(r, f"passed {name}", ANY, step=step)
    assert statuses(answer) == [status], answer
    assert answer.endswith(b"\r\n\r\n" + corpus.raw(body) if body else b"\r\n\r\n") or status == 400
    assert b"evil" not in answer.lower()
    assert (b"content-length" in answer) is (status != 204)
    assert (await ask(r, f"passed {name}", ANY, second=True)).endswith(b'{"second":true}')
    if not step:
        assert connections(backend) == (1 if kept else 2)


@pytest.mark.parametrize("step", [0, 1000])
@pytest.mark.parametrize("case", BROKEN, ids=[c[2] for c in BROKEN])
async def test_what_is_no_answer(world: World, case: list[Any], step: int) -> None:
    r, backends = world
    code, _, name, _ = case
    backend = backends[f"broken {name}"]
    backend.calls.clear()
    answer = await ask(r, f"broken {name}", step=step)
    assert statuses(answer) == [502], answer
    assert b'"code":"%b"' % code.encode() in answer
    assert b"evil" not in answer.lower()
    if code == "upstream_protocol" and name not in ("redirect", "see other"):
        await ask(r, f"broken {name}", second=True)
        assert connections(backend) == len(backend.calls), "a connection in doubt was used again"


@pytest.mark.parametrize("case", CUT, ids=[c[1] for c in CUT])
async def test_what_is_cut(world: World, case: list[Any]) -> None:
    r, _ = world
    answer = await ask(r, f"cut {case[1]}")
    assert statuses(answer) == [502], answer
    assert b"evil" not in answer


@pytest.mark.parametrize("name", STREAMS)
async def test_streams_are_whole_or_end_with_an_error(world: World, name: str) -> None:
    r, _ = world
    whole_ = STREAMS[name][2]
    answer = await ask(r, f"stream {name}", stream=True)
    assert statuses(answer) == [200]
    assert b"one" in answer
    assert b"two" in answer
    assert b"evil" not in answer
    assert answer.endswith(b"\r\n0\r\n\r\n") is whole_
    assert (b"stream_interrupted" in answer) is not whole_
    assert (b"[DONE]" in answer) is whole_
