"""Who is on the roll, whatever sources say in whatever order."""

from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from router.core.roll import FILE, Leaves, Roll, RollCall, Sighting, Terms, added
from tests.support.effort import examples
from tests.support.fleets import REGIONS, spec

GRACE_S, LINGER_S = 30.0, 20.0
TERMS = Terms(GRACE_S, LINGER_S)


def roll_of(*sources: str, fixed: tuple[str, ...] = ()) -> Roll:
    roll = Roll()
    roll.configure([spec(name) for name in fixed], dict.fromkeys(sources, TERMS), REGIONS.values())
    return roll


def seen(*names: str, ready: bool = True, leaves: Leaves | None = None) -> list[Sighting]:
    return [Sighting(spec(name), ready, leaves) for name in names]


def call(roll: Roll, now_s: float, *busy: str) -> RollCall:
    return roll.stand(lambda name: name in busy, now_s)


def names(found: RollCall) -> list[str]:
    return [s.name for s in found.specs]


def test_the_file_comes_first_and_a_name_or_an_address_is_there_once() -> None:
    roll = roll_of("dns", "pods", fixed=("us-east/a",))
    roll.tell("pods", [*seen("us-east/a", "us-east/c"), Sighting(spec("us-east/d", url=spec("us-east/b").url))])
    roll.tell("dns", seen("us-east/b"))
    found = call(roll, 0.0)
    assert names(found) == ["us-east/a", "us-east/b", "us-east/c"]
    assert {name: origin.source for name, origin in found.origins.items()} == {
        "us-east/a": FILE,
        "us-east/b": "dns",
        "us-east/c": "pods",
    }
    assert found.left_out == (
        "us-east/a of pods has the name of a backend of file",
        "us-east/d of pods has the address of us-east/b",
    )
    assert added(["us-east/b"], found) == {"us-east/c"}


def test_one_that_is_named_no_more_leaves_and_is_struck_off_when_its_requests_have_ended() -> None:
    roll = roll_of("dns")
    roll.tell("dns", seen("us-east/a", "us-east/b", "us-east/c"))
    call(roll, 0.0)
    roll.tell("dns", seen("us-east/a"))
    found = call(roll, 10.0, "us-east/b")
    assert names(found) == ["us-east/a", "us-east/b"], "c had no requests"
    assert (found.notices["us-east/b"].since_s, found.notices["us-east/b"].until_s) == (10.0, 10.0 + LINGER_S)
    assert not found.origins["us-east/b"].listed
    assert roll.waiting
    assert names(call(roll, 11.0)) == ["us-east/a"]
    assert not roll.waiting


def test_one_that_is_busy_for_ever_is_struck_off_when_its_time_is_over() -> None:
    roll = roll_of("dns")
    roll.tell("dns", seen("us-east/a", "us-east/b"))
    call(roll, 0.0)
    roll.tell("dns", seen("us-east/a"))
    call(roll, 0.0, "us-east/b")
    assert names(call(roll, LINGER_S - 0.1, "us-east/b")) == ["us-east/a", "us-east/b"]
    assert names(call(roll, LINGER_S, "us-east/b")) == ["us-east/a"]


def test_one_that_comes_back_has_no_notice() -> None:
    roll = roll_of("dns")
    roll.tell("dns", seen("us-east/a", "us-east/b"))
    call(roll, 0.0)
    roll.tell("dns", seen("us-east/a"))
    assert "us-east/b" in call(roll, 1.0, "us-east/b").notices
    roll.tell("dns", [*seen("us-east/a"), Sighting(spec("us-east/b", url="http://elsewhere:1"))])
    found = call(roll, 2.0, "us-east/b")
    assert not found.notices
    assert found.specs[1].url == "http://elsewhere:1"


def test_a_source_that_empties_is_believed_after_its_grace_time() -> None:
    roll = roll_of("dns", fixed=("us-west/a",))
    roll.tell("dns", seen("us-east/a", "us-east/b"))
    before = call(roll, 0.0)
    roll.tell("dns", [])
    assert call(roll, 5.0) == before
    assert roll.doubted_since_s("dns") == 5.0
    roll.tell("dns", [])
    assert call(roll, 5.0 + GRACE_S - 0.1) == before
    found = call(roll, 5.0 + GRACE_S, "us-east/a")
    assert names(found) == ["us-west/a", "us-east/a"]
    assert "us-east/a" in found.notices
    call(roll, 6.0 + GRACE_S)
    assert roll.doubted_since_s("dns") is None


def test_a_source_that_recovers_within_its_grace_time_has_changed_nothing() -> None:
    roll = roll_of("dns")
    roll.tell("dns", seen("us-east/a", "us-east/b"))
    before = call(roll, 0.0)
    roll.tell("dns", [])
    call(roll, 1.0)
    roll.tell("dns", seen("us-east/a", "us-east/b"))
    assert call(roll, 2.0) == before
    assert not roll.waiting
    roll.tell("dns", [])
    assert call(roll, GRACE_S + 1.5) == before, "its time begins again"


def test_all_not_ready_at_once_is_not_believed_but_the_end_of_one_is() -> None:
    roll = roll_of("pods")
    roll.tell("pods", seen("us-east/a", "us-east/b"))
    call(roll, 0.0)
    ends = Leaves(40.0, "its pod is terminating")
    roll.tell("pods", [*seen("us-east/a", ready=False), *seen("us-east/b", leaves=ends)])
    found = call(roll, 1.0)
    assert not found.unready
    assert found.notices["us-east/b"] == (1.0, 40.0, ends.by)
    found = call(roll, 1.0 + GRACE_S)
    assert found.unready == {"us-east/a"}


def test_one_that_is_not_ready_is_held_and_one_that_never_was_is_not_there() -> None:
    roll = roll_of("pods")
    roll.tell("pods", [*seen("us-east/a", "us-east/b"), *seen("us-east/c", ready=False)])
    assert names(call(roll, 0.0)) == ["us-east/a", "us-east/b"]
    roll.tell("pods", [*seen("us-east/b", "us-east/c"), *seen("us-east/a", ready=False)])
    found = call(roll, 1.0)
    assert names(found) == ["us-east/a", "us-east/b", "us-east/c"]
    assert found.unready == {"us-east/a"}


def test_saying_it_again_gives_no_more_time() -> None:
    roll = roll_of("pods")
    roll.tell("pods", seen("us-east/a", "us-east/b"))
    call(roll, 0.0)
    for now_s in (1.0, 2.0, 3.0):
        roll.tell("pods", [*seen("us-east/a"), *seen("us-east/b", leaves=Leaves(now_s + 30.0, "terminating"))])
        assert call(roll, now_s).notices["us-east/b"][:2] == (1.0, 31.0)
    roll.tell("pods", [*seen("us-east/a"), *seen("us-east/b", leaves=Leaves(10.0, "its node"))])
    assert call(roll, 4.0).notices["us-east/b"] == (1.0, 10.0, "its node"), "the sooner end holds"


def test_a_warning_from_elsewhere_holds_for_every_backend_and_can_be_taken_back() -> None:
    roll = roll_of("pods", fixed=("us-west/a",))
    roll.warn("us-west/a", Leaves(20.0, "its machine"), 0.0)
    assert call(roll, 0.0).notices["us-west/a"] == (0.0, 20.0, "its machine")
    roll.warn("us-west/a", None, 1.0)
    assert not call(roll, 1.0).notices


def test_an_address_that_moves_to_another_source_is_in_use() -> None:
    roll = roll_of("dns", "pods")
    roll.tell("dns", seen("us-east/a", "us-east/x"))
    call(roll, 0.0)
    roll.tell("dns", seen("us-east/x"))
    roll.tell("pods", seen("us-east/a"))
    found = call(roll, 1.0, "us-east/a")
    assert found.origins["us-east/a"].source == "pods"
    assert not found.notices


def test_regions_are_as_the_file_says_now() -> None:
    roll = roll_of("dns")
    roll.tell("dns", seen("us-east/a", "eu-west/a"))
    roll.configure([], {"dns": TERMS}, [replace(REGIONS["us-east"], jurisdiction="mars")])
    assert [s.region.jurisdiction for s in call(roll, 0.0).specs] == ["mars"]


def test_a_source_that_is_configured_no_more_takes_its_backends_with_it() -> None:
    roll = roll_of("dns", fixed=("us-west/a",))
    roll.tell("dns", seen("us-east/a"))
    roll.configure([spec("us-west/a")], {}, REGIONS.values())
    roll.tell("dns", seen("us-east/a"))
    assert names(call(roll, 0.0, "us-east/a")) == ["us-west/a"]


def test_workers_share_the_places_of_a_backend() -> None:
    roll = Roll(share=lambda most: most // 4)
    roll.configure([], {"dns": TERMS}, REGIONS.values())
    roll.tell("dns", seen("us-east/a"))
    assert call(roll, 0.0).specs[0].max_inflight == 64


SHORT = st.sampled_from(("us-east/a", "us-east/b", "us-east/c", "us-west/a", "eu-west/a"))
HOST = st.sampled_from(("http://h:1", "http://h:2", "http://h:3", "http://h:4"))
SIGHTING = st.builds(
    lambda name, url, ready, in_s: (name, url, ready, in_s),
    SHORT,
    HOST,
    st.booleans(),
    st.none() | st.integers(0, 50),
)
TELL = st.tuples(st.just("tell"), st.sampled_from(("dns", "pods")), st.lists(SIGHTING, max_size=5))
PASS = st.tuples(st.just("pass"), st.integers(0, 40), st.sets(SHORT))


@examples(20)
@given(st.lists(TELL | PASS, max_size=25))
def test_whatever_sources_say(story: list[tuple[str, object, object]]) -> None:
    roll, now_s = roll_of("dns", "pods", fixed=("us-west/a",)), 0.0
    before, busy = call(roll, now_s), set[str]()
    for what, one, two in story:
        told = None
        if what == "tell":
            told = [
                Sighting(spec(n, url=url), ready, None if in_s is None else Leaves(now_s + in_s, "it"))
                for n, url, ready, in_s in two  # type: ignore[attr-defined]
            ]
            roll.tell(str(one), told)
        else:
            now_s += one  # type: ignore[operator]
            busy = set(two)  # type: ignore[call-overload]
        found = call(roll, now_s, *busy)
        assert found.specs[0].name == "us-west/a"
        assert len(set(names(found))) == len({s.url for s in found.specs}) == len(found.specs)
        assert found.origins.keys() == set(names(found))
        assert found.notices.keys() | found.unready <= set(names(found))
        assert not found.notices.keys() & found.unready
        for name, origin in found.origins.items():
            if origin.source != FILE and (not origin.listed or not origin.ready):
                assert name in found.notices or name in found.unready, "it gets no new requests"
        in_use = before.origins.keys() - before.notices.keys() - before.unready
        if what == "tell" and not any(s.ready and s.leaves is None for s in told or ()):
            said = {s.spec.name for s in told or () if s.leaves}
            for name in in_use - said:
                if before.origins[name].source == one and roll.doubted_since_s(str(one)) == now_s:
                    assert name in found.origins, "one that empties is not believed at once"
                    assert name not in found.notices
                    assert name not in found.unready
        if what == "pass" and one == 0 and not busy:
            assert names(found) == [n for n in names(before) if n in names(found)], "nobody comes by itself"
        before = found
