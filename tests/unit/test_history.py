"""Events in memory: bounded, in the order of time, known once, readable by other routers."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.telemetry.history import (
    KINDS,
    UNTOLD_MAX,
    History,
    Occurrence,
    decode,
    document,
    encode,
    iso,
    region_of,
    say_nothing,
)
from tests.support.effort import examples

WORDS = st.none() | st.text(max_size=30)


def occurrence(number: int = 1, at_s: float = 100.0, **changes: object) -> Occurrence:
    made = Occurrence(f"b-{number}", at_s, "b", "health", "us-east/a", region="us-east")
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def test_what_is_noted_has_a_time_a_region_and_who_did_it() -> None:
    history = History("edge")
    history.note("drain", "us-east/a", before="healthy", after="draining", why="new kernel", who="anna", at_s=12.0)
    history.note("key", "key_1", after="revoked", at_s=13.0)
    key, drain = history.list()
    assert (drain.at_s, drain.router, drain.region, drain.before, drain.after) == (
        12.0,
        "edge",
        "us-east",
        "healthy",
        "draining",
    )
    assert (drain.why, drain.who) == ("new kernel", "anna")
    assert (key.subject, key.region) == ("key_1", None)
    assert history.counts == {"drain": 1, "key": 1}
    assert [o.id for o in history.untold] == [drain.id, key.id]


def test_memory_is_bounded() -> None:
    history = History("edge", most=10)
    for number in range(UNTOLD_MAX + 50):
        history.note("key", f"key_{number}", after="created")
    assert [o.subject for o in history.list(limit=2)] == [f"key_{UNTOLD_MAX + 49}", f"key_{UNTOLD_MAX + 48}"]
    assert len(list(history.newest_first())) == 10
    assert len(history.untold) == UNTOLD_MAX


@given(st.lists(st.tuples(st.integers(0, 20), st.floats(0, 100)), max_size=40), st.integers(1, 5))
@examples(4)
def test_those_of_others_come_in_order_and_once(told: list[tuple[int, float]], parts: int) -> None:
    history = History("a", most=1000)
    for part in range(parts):
        history.take(occurrence(number, at_s) for number, at_s in told[part::parts])
        history.take(occurrence(number, at_s) for number, at_s in told[: part + 1])
    held = list(history.newest_first())
    assert sorted(o.at_s for o in held) == [o.at_s for o in reversed(held)]
    assert len({o.id for o in held}) == len(held) == len({number for number, _ in told})


def test_followers_get_what_they_ask_for_and_there_are_not_too_many() -> None:
    history = History("edge")
    mine = history.subscribe(lambda o: o.kind == "key")
    history.note("drain", "eu", after="draining")
    history.note("key", "key_1", after="created")
    assert mine._queue.get_nowait().subject == "key_1"
    assert mine._queue.empty()
    history.unsubscribe(mine)
    with pytest.raises(RuntimeError, match="follow the history already"):
        for _ in range(100):
            history.subscribe()


@given(
    st.builds(
        Occurrence,
        st.text(max_size=9),
        st.floats(0, 4e9),
        st.text(max_size=9),
        st.sampled_from(sorted(KINDS)),
        st.text(max_size=20),
        region=WORDS,
        before=WORDS,
        after=WORDS,
        why=WORDS,
        who=WORDS,
    )
)
@examples(4)
def test_another_router_reads_what_was_written(made: Occurrence) -> None:
    assert decode(encode(made)) == made


@pytest.mark.parametrize("raw", [b"", b"{}", b"[]", b"null", b'{"id":1,"at_s":"x"}', b"\xff"])
def test_what_another_version_wrote_is_left_out(raw: bytes) -> None:
    assert decode(raw) is None


def test_the_document_names_the_place_and_has_an_iso_time() -> None:
    shown = document(occurrence(before="healthy", after="ejected", at_s=1.5))
    assert (shown["region"], shown["backend"], shown["from"], shown["to"]) == (
        "us-east",
        "us-east/a",
        "healthy",
        "ejected",
    )
    assert shown["at"] == "1970-01-01T00:00:01.500Z" == iso(1.5)
    assert document(occurrence(subject="us-east", kind="drain"))["backend"] is None
    assert region_of("config", "regions.toml") is None


def test_text_of_others_cannot_spoil_a_terminal() -> None:
    history = History("edge")
    history.note("config", "regions.toml", why="\x1b[31m" + "x" * 1000)
    (only,) = history.list()
    assert only.why is not None
    assert only.why.isprintable()
    assert len(only.why) <= 400


def test_without_a_history_nothing_happens() -> None:
    say_nothing("key", "key_1", after="created", who="anna")
