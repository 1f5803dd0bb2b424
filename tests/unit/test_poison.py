"""Bodies of which backends died: suspects, trials, convicts, and what other routers hear."""

from __future__ import annotations

import pytest

from router.errors import RouterError
from router.gateway.poison import MEMORY_S, Poison, Suspect, digest_of
from router.store.notes import Marks

BODY, OTHER = b'{"prompt":[1,99999999]}', b'{"prompt":"hello"}'
DEAD = frozenset({"us/a", "us/b"})


class MarkStore:
    """The marks of a store, which is all that is used of it here."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.marks = Marks(lambda: self.now_s)

    def any_marks(self) -> bool:
        return bool(self.marks)

    def marked(self, kind: str, digest: str) -> bool:
        return self.marks.has(kind, digest)

    def mark(self, kind: str, digest: str, ttl_s: float) -> None:
        self.marks.put(kind, digest, ttl_s)


class Site:
    """A router and the health of its backends."""

    def __init__(self, store: MarkStore | None = None) -> None:
        self.store = store or MarkStore()
        self.away: set[str] = set()
        self.poison = Poison(self.store, lambda name: name not in self.away)  # type: ignore[arg-type]

    def admit(self, now_s: float, body: bytes = BODY) -> Suspect | None:
        self.store.now_s = now_s
        return self.poison.admit(body, now_s)

    def killed(self, now_s: float, trial: Suspect | None = None, *, told: bool = True) -> None:
        self.store.now_s = now_s
        self.poison.killed(BODY, DEAD, now_s, trial=trial, told=told)

    def refused(self, now_s: float, body: bytes = BODY) -> RouterError:
        with pytest.raises(RouterError) as caught:
            self.admit(now_s, body)
        return caught.value


def test_a_suspect_is_refused_while_a_backend_is_away_and_then_tried_once() -> None:
    site = Site()
    site.killed(0.0)
    site.away = {"us/b"}
    assert site.refused(5.0).retry_after_s == 2.0
    assert site.admit(5.0, OTHER) is None
    site.away = set()
    trial = site.admit(6.0)
    assert trial is not None
    assert site.refused(6.1).should_retry, "one trial at a time"
    site.poison.release(trial, 6.2, answered=True)
    assert site.admit(6.3) is None, "acquitted, though the mark of the suspicion is still there"


def test_a_convict_is_refused_for_ten_minutes() -> None:
    site = Site()
    site.killed(0.0)
    trial = site.admit(10.0)
    site.killed(11.0, trial)
    assert trial is not None
    site.poison.release(trial, 11.0, answered=False)
    assert site.refused(12.0).should_retry is False
    assert site.refused(11.0 + MEMORY_S - 1.0).retry_after_s is None
    assert site.admit(11.0 + MEMORY_S) is None


def test_a_trial_that_proves_nothing_may_be_repeated() -> None:
    site = Site()
    site.killed(0.0)
    trial = site.admit(10.0)
    assert trial is not None
    site.poison.release(trial, 11.0, answered=False)
    assert site.admit(12.0) is trial


def test_other_routers_refuse_a_suspect_for_a_while_and_a_convict_for_ten_minutes() -> None:
    store = MarkStore()
    here, there = Site(store), Site(store)
    here.killed(0.0)
    assert there.refused(1.0).should_retry
    assert there.admit(1.0, OTHER) is None
    here.killed(40.0, here.admit(35.0))
    assert there.refused(40.0 + MEMORY_S - 1.0).status == 502
    assert there.admit(41.0 + MEMORY_S) is None


def test_a_suspect_is_one_at_every_router_for_ten_minutes() -> None:
    store = MarkStore()
    here, there, third = Site(store), Site(store), Site(store)
    here.killed(0.0)
    trial = there.admit(MEMORY_S - 10.0)
    assert trial is not None, "another router tries it, as a suspect"
    assert there.refused(MEMORY_S - 9.0).should_retry, "one trial at a time"
    there.killed(MEMORY_S - 8.0, trial)
    assert third.refused(MEMORY_S + 100.0).should_retry is False, "one more death, and all of them refuse it"
    assert here.admit(0.5 * MEMORY_S, OTHER) is None


def test_an_acquittal_holds_everywhere() -> None:
    store = MarkStore()
    here, there = Site(store), Site(store)
    here.killed(0.0)
    trial = there.admit(31.0)
    assert trial is not None
    there.poison.release(trial, 32.0, answered=True)
    assert there.admit(33.0) is None
    assert Site(store).admit(33.0) is None


def test_what_is_bound_to_a_jurisdiction_is_not_told() -> None:
    store = MarkStore()
    Site(store).killed(0.0, told=False)
    assert not store.any_marks()


def test_nothing_is_hashed_where_nothing_is_remembered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("router.gateway.poison.digest_of", None)
    assert Site().admit(0.0) is None


def test_what_is_remembered_is_bounded() -> None:
    site = Site()
    for number in range(3000):
        site.poison.killed(b"%d" % number, DEAD, 0.0, trial=None, told=False)
    assert site.admit(1.0, b"0") is None, "the oldest are forgotten"
    assert site.admit(1.0, b"2999") is not None


def test_bodies_differ_by_their_length_and_both_ends() -> None:
    size = 3 * 1024 * 1024
    bodies = [bytes(size), bytes(size + 1), b"x" + bytes(size - 1), bytes(size - 1) + b"x", b"", b"0"]
    assert len({digest_of(body) for body in bodies}) == len(bodies)
