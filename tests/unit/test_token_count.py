"""An engine is asked how many tokens a text has."""

from __future__ import annotations

import orjson
import pytest

from router.gateway.token_count import count_tokens
from router.upstream.pool import Pool
from router.wire.flow import Flow
from router.wire.outbound import Outbound
from tests.support.playbook import Playbook


def ask(pool: Pool, outbound: Outbound, text: str) -> list[int | None]:
    """The answer, once it is there."""
    answers: list[int | None] = []

    async def run() -> None:
        answers.append(await count_tokens(pool, outbound, "m", text))

    Flow(run()).step()
    return answers


@pytest.mark.parametrize(
    ("status", "body", "count"),
    [
        (200, b'{"count":5,"max_model_len":4096,"tokens":[89,77,74,572,510]}', 5),
        (200, b'{"tokens":[1,2,3]}', 3),
        (200, b'{"tokens":[]}', 0),
        (200, b'{"count":true}', None),
        (200, b"[1,2]", None),
        (200, b"no JSON", None),
        (404, b'{"count":5}', None),
    ],
)
async def test_answers(monkeypatch: pytest.MonkeyPatch, status: int, body: bytes, count: int | None) -> None:
    backend = Playbook(monkeypatch).backend("us-east/a")
    outbound = await backend.connect(1.0)
    answers = ask(backend.pool, outbound, "Grüße")
    head, _, asked = backend.asked[0].partition(b"\r\n\r\n")
    assert head.startswith(b"POST /tokenize HTTP/1.1\r\n")
    assert orjson.loads(asked) == {
        "model": "m",
        "prompt": "Grüße",
        "content": "Grüße",
        "add_special_tokens": False,
        "add_special": False,
    }
    backend.answers(status, body)
    assert answers == [count]
    assert backend.pool.take(1000.0) is outbound, "it is used for the rest as well"


async def test_a_connection_that_breaks(monkeypatch: pytest.MonkeyPatch) -> None:
    backend = Playbook(monkeypatch).backend("us-east/a")
    outbound = await backend.connect(1.0)
    answers = ask(backend.pool, outbound, "a")
    backend.dies()
    assert answers == [None]
