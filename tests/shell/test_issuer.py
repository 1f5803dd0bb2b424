"""The keys of an issuer, from a real HTTP server and from files: fetched, kept, asked for again, and never waited for long."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

pytest.importorskip("jwt")

from router.config import JwtSection
from router.identity import issuer as module
from router.identity.issuer import BURST, EVERY_S, Issuer
from tests.support import issuer as support


@pytest.fixture
def there() -> Iterator[support.Issuer]:
    with support.Issuer() as made:
        yield made


@asynccontextmanager
async def knowing(
    jwks: str, *, refresh: float = 3600.0, now_s: Callable[[], float] = time.monotonic
) -> AsyncIterator[Issuer]:
    known = Issuer(monotonic_s=now_s)
    known.apply(JwtSection(jwks=jwks, refresh=refresh))
    await known.start()
    try:
        yield known
    finally:
        await known.stop()


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(30):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.005)


def has(known: Issuer, kid: str, algorithm: str = "ES256") -> bool:
    return known.keys is not None and bool(known.keys.candidates(kid, algorithm))


async def test_keys_are_fetched_at_the_start_and_again_and_again(there: support.Issuer) -> None:
    async with knowing(there.url, refresh=0.02) as known:
        await until(lambda: has(known, there.keys[0].kid))
        assert known.changes == 2
        new = there.rotate()
        await until(lambda: has(known, new.kid))
        asked = there.asked
        await until(lambda: there.asked > asked + 2)
        assert known.changes == 3, "the same document changes nothing"


async def test_an_unknown_key_is_sought_at_once_and_all_wait_for_one_answer(there: support.Issuer) -> None:
    async with knowing(there.url) as known:
        await until(lambda: known.keys is not None)
        new, asked = there.rotate(), there.asked
        waiting = [known.seek() for _ in range(50)]
        assert len(set(waiting)) == 1
        assert waiting[0] is not None
        await waiting[0]
        assert has(known, new.kid)
        assert there.asked == asked + 1


async def test_nobody_makes_the_router_ask_often(there: support.Issuer) -> None:
    now_s = [0.0]
    async with knowing(there.url, now_s=lambda: now_s[0]) as known:
        await until(lambda: known.keys is not None)
        asked = there.asked
        for _ in range(BURST):
            news = known.seek()
            assert news is not None
            await news
        assert [known.seek() for _ in range(100)] == [None] * 100
        assert there.asked == asked + BURST
        now_s[0] += EVERY_S
        assert known.seek() is not None
        now_s[0] += 1000 * EVERY_S
        assert known._may_ask()
        assert known._may <= BURST


async def test_an_issuer_that_is_slow_is_not_waited_for(there: support.Issuer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "WAIT_S", 0.05)
    there.answers_after_s = 1.0
    async with knowing(there.url) as known:
        news = known.seek()
        assert news is not None
        await news
        assert known.keys is None, "the answer is still on its way"
        await until(lambda: known.keys is not None)


async def test_one_that_is_away_at_the_start_is_found_when_it_is_back(
    there: support.Issuer, caplog: pytest.LogCaptureFixture
) -> None:
    there.status = 503
    async with knowing(there.url) as known:
        news = known.seek()
        assert news is not None
        await news
        await until(lambda: known.problem is not None)
        assert (known.keys, known.problem, known.age_s) == (None, "answered 503", None)
        there.status = 200
        await until(lambda: known.keys is not None)
        assert known.problem is None
    said = [r.getMessage() for r in caplog.records if "answered 503" in r.getMessage()]
    assert len(said) == 1
    assert "no JWT can be checked" in said[0]


@pytest.mark.parametrize("fault", ["status", "moved", "garbage", "empty", "long", "closed"])
async def test_one_that_fails_later_changes_nothing(
    there: support.Issuer, fault: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = there.keys[0]
    async with knowing(there.url, refresh=0.02) as known:
        await until(lambda: known.keys is not None)
        there.rotate()
        if fault in ("status", "moved"):
            there.status = 500 if fault == "status" else 302
        elif fault == "closed":
            monkeypatch.setattr(there, "document", lambda: 1 / 0)
            monkeypatch.setattr(there._server, "handle_error", lambda *_: None)
        else:
            body = {"garbage": b"<html>", "empty": b'{"keys": []}', "long": b" " * 300_000}[fault]
            monkeypatch.setattr(there, "document", lambda: body)
        await until(lambda: known.problem is not None)
        assert has(known, first.kid)
        assert known.changes == 2


async def test_a_file_is_read_again_when_it_changes(
    tmp_path: Path, there: support.Issuer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_FILE_S", 0.02)
    path = tmp_path / "jwks.json"
    async with knowing(str(path)) as known:
        await until(lambda: known.problem is not None)
        assert "No such file" in (known.problem or "")
        path.write_bytes(there.document())
        news = known.seek()
        assert news is not None
        await news
        assert has(known, there.keys[0].kid)
        new = there.rotate("EdDSA")
        path.write_bytes(there.document())
        await until(lambda: has(known, new.kid, "EdDSA"))


async def test_another_place_is_another_issuer(tmp_path: Path, there: support.Issuer) -> None:
    async with knowing(there.url) as known:
        await until(lambda: known.keys is not None)
        known.apply(JwtSection(jwks=there.url, leeway=5.0))
        assert known.keys is not None
        with support.Issuer() as other:
            known.apply(JwtSection(jwks=other.url))
            assert known.keys is None, "what the first one signed is not good any more"
            await until(lambda: has(known, other.keys[0].kid))
        known.apply(JwtSection())
        assert known.keys is None
