"""The keys that a router knows: their records, and secrets that replace each other."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config import Plan
from router.errors import RouterError
from router.store.keys import OLDER_MAX, KeyRecord, Older, Ring, new_key, rotated

PEPPER = b"pepper"
PLANS = {"default": Plan("default")}
NOW_S = 1_796_000_000.0

digests = st.binary(min_size=32, max_size=32).map(bytes.hex)
records = st.builds(
    KeyRecord,
    id=st.text(max_size=5),
    name=st.text(max_size=5),
    tenant=st.text(max_size=5),
    plan=st.text(max_size=5),
    created_s=st.floats(0, 1e10),
    revoked=st.booleans(),
    digest=digests,
    expires_s=st.none() | st.floats(0, 1e10),
    rotations=st.integers(0, 5),
    older=st.lists(st.builds(Older, digests, st.floats(0, 1e10)), max_size=3).map(tuple),
)


@given(records)
def test_a_record_is_read_as_it_was_written(record: KeyRecord) -> None:
    assert KeyRecord.decode(record.id, record.encode()) == record
    assert KeyRecord.of(record.document()) == record


def test_a_record_without_news_has_the_members_that_older_routers_know() -> None:
    record, _ = new_key("a", "default", None, NOW_S, PEPPER)
    assert set(record.document()) == {"id", "name", "tenant", "plan", "created_s", "revoked", "digest"}
    old = b'{"name":"a","tenant":"a","plan":"default","created_s":1.0,"revoked":false,"digest":"00"}'
    assert KeyRecord.decode("key_1", old) == KeyRecord("key_1", "a", "a", "default", 1.0, False, "00")


@pytest.mark.parametrize(
    "raw",
    [
        b"",
        b"{}",
        b"[1]",
        b'{"name":"a","tenant":"a","plan":"p","created_s":1,"revoked":false,"digest":"xy"}',
        b'{"name":"a","tenant":"a","plan":"p","created_s":1,"revoked":false,"digest":"00","expires_s":"soon"}',
        b'{"name":"a","tenant":"a","plan":"p","created_s":1,"revoked":false,"digest":"00","older":[["xy",1]]}',
        b'{"name":"a","tenant":"a","plan":"p","created_s":1,"revoked":false,"digest":"00","older":7}',
    ],
)
def test_what_no_router_wrote(raw: bytes) -> None:
    assert KeyRecord.decode("key_1", raw) is None


@given(st.lists(st.tuples(st.floats(0, 100), st.floats(0, 50)), max_size=OLDER_MAX))
def test_exactly_the_secrets_whose_overlap_lasts_work(turns: list[tuple[float, float]]) -> None:
    """Each rotation: the overlap, and how long it is until the next one."""
    record, secret = new_key("a", "default", None, NOW_S, PEPPER)
    ends_s: dict[str, float] = {}
    now_s = NOW_S
    for overlap_s, pause_s in turns:
        ends_s = {each: min(end_s, now_s + overlap_s) for each, end_s in ends_s.items()}
        ends_s[secret] = now_s + overlap_s
        record, secret = rotated(record, overlap_s, now_s, PEPPER)
        now_s += pause_s
    ring = Ring(PLANS)
    ring.load([record], PEPPER)
    newest = ring.lookup(secret.encode())
    assert newest is not None
    assert newest.replaced_until_s is None
    assert record.rotations == len(turns)
    for each, end_s in ends_s.items():
        key = ring.lookup(each.encode())
        if end_s > now_s:
            assert key is not None
            assert key.replaced_until_s == end_s
            assert (key.id, key.plan) == (newest.id, newest.plan)
        else:
            assert key is None or (key.replaced_until_s or 0.0) <= now_s


def test_too_many_old_secrets_are_refused_and_an_overlap_of_nothing_ends_them() -> None:
    record, _ = new_key("a", "default", None, NOW_S, PEPPER)
    for _ in range(OLDER_MAX):
        record, _ = rotated(record, 60.0, NOW_S, PEPPER)
    with pytest.raises(RouterError) as caught:
        rotated(record, 60.0, NOW_S, PEPPER)
    assert caught.value.code == "invalid_request"
    record, _ = rotated(record, 0.0, NOW_S, PEPPER)
    assert record.older == ()


def test_a_ring_forgets_the_secrets_that_a_key_no_longer_has() -> None:
    record, old = new_key("a", "default", None, NOW_S, PEPPER)
    ring = Ring(PLANS)
    ring.load([record], PEPPER)
    record, middle = rotated(record, 60.0, NOW_S, PEPPER)
    ring.put(record)
    assert ring.lookup(old.encode()) is not None
    record, new = rotated(record, 0.0, NOW_S, PEPPER)
    ring.put(record)
    assert ring.lookup(old.encode()) is None
    assert ring.lookup(middle.encode()) is None
    assert ring.lookup(new.encode()) is not None
    ring.set_plans({"default": Plan("default", concurrent=1)})
    assert ring.lookup(old.encode()) is None


def test_a_copy_from_before_is_corrected() -> None:
    record, _ = new_key("a", "default", None, NOW_S, PEPPER)
    later, _ = rotated(replace(record, expires_s=5.0), 60.0, NOW_S, PEPPER)
    assert record.corrected(record) is record
    assert later.corrected(record) is later
    assert record.corrected(later) == replace(later, expires_s=None)
    assert record.corrected(replace(record, revoked=True)).revoked
