"""A router that vanishes is noted once, by one of those that are left."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from router import clock
from router.control.vanished import LEFT_ALONE, SHOWN_S, SILENCE_S, Vanished, gone
from router.telemetry.history import History

NAMES = ("edge-1", "edge-2", "edge-3")


class Other(NamedTuple):
    name: str
    age_s: float


class Fleet:
    """Routers that hear each other and share a history, until some of them are killed."""

    def __init__(self) -> None:
        self.now_s = 100.0
        self.up = True
        self.alive = set(NAMES)
        self.silent_s: dict[str, float] = {}
        self.histories = {name: History(name) for name in NAMES}
        self.watch = {
            name: Vanished(
                history,
                name,
                lambda: [Other(n, self.now_s - self.silent_s.get(n, self.now_s)) for n in NAMES],
                store_is_up=lambda: self.up,
                now_s=lambda: self.now_s,
            )
            for name, history in self.histories.items()
        }

    def kill(self, *names: str) -> None:
        self.alive -= set(names)
        self.silent_s |= dict.fromkeys(names, self.now_s)

    def revive(self, name: str) -> None:
        self.alive.add(name)
        del self.silent_s[name]

    def share(self) -> None:
        for history in self.histories.values():
            told = list(history.untold)
            history.untold.clear()
            for other in self.histories.values():
                other.take(told)

    def go_on(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now_s += 1.0
            for name in sorted(self.alive):
                self.watch[name].look()
            self.share()

    def told(self) -> list[tuple[str, str | None, str]]:
        (name, *_) = self.alive
        found = self.histories[name].list(lambda o: o.after in ("gone", "back"))
        return [(o.subject, o.after, o.router) for o in reversed(found)]


@pytest.fixture
def fleet() -> Fleet:
    made = Fleet()
    made.go_on(3)
    return made


def test_one_that_is_killed_is_noted_once_for_all(fleet: Fleet) -> None:
    fleet.kill("edge-2")
    fleet.go_on(int(SILENCE_S))
    assert fleet.told() == []
    fleet.go_on(30)
    assert fleet.told() == [("edge-2", "gone", "edge-1")]
    gone = fleet.histories["edge-1"].last("router", "edge-2")
    assert gone is not None
    assert 30.0 < clock.wall_s() - gone.at_s + 36.0 - SILENCE_S < 40.0, "it is noted for when it was last heard"
    fleet.revive("edge-2")
    fleet.go_on(5)
    assert fleet.told() == [("edge-2", "gone", "edge-1"), ("edge-2", "back", "edge-1")]


def test_one_that_stops_in_order_is_not_missed(fleet: Fleet) -> None:
    fleet.histories["edge-2"].note("router", "edge-2", before="serving", after="stopped")
    fleet.share()
    fleet.kill("edge-2")
    fleet.go_on(30)
    assert fleet.told() == []


def test_workers_that_stop_in_order_are_not_missed_and_those_that_were_left_alone_are(fleet: Fleet) -> None:
    for after, found in (("stopped", []), (LEFT_ALONE, [("edge-2", "gone", "edge-1")])):
        for worker in ("edge-2#0", "edge-2#1"):
            fleet.histories["edge-2"].note("router", worker, before="serving", after=after)
        fleet.share()
        fleet.kill("edge-2")
        fleet.go_on(30)
        assert fleet.told() == found
        fleet.revive("edge-2")
        fleet.histories["edge-2"].note("router", "edge-2#0", after="started")
        fleet.share()
        fleet.go_on(5)
    assert fleet.told() == [("edge-2", "gone", "edge-1")], "that it has started says that it is back"


def test_who_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    history = History("edge-1")
    for name, after in (("edge-2", "gone"), ("edge-3", "gone"), ("edge-3#1", "started"), ("edge-4", "gone")):
        history.note("router", name, after=after)
    assert [o.subject for o in gone(history, ["edge-2"])] == ["edge-4"], "one that is heard is not gone"
    assert [o.subject for o in gone(history, [])] == ["edge-4", "edge-2"]
    now_s = clock.wall_s()
    monkeypatch.setattr(clock, "wall_s", lambda: now_s + SHOWN_S + 60)
    assert gone(history, []) == []


def test_several_at_once_are_noted_by_who_is_left(fleet: Fleet) -> None:
    fleet.kill("edge-1")
    fleet.go_on(1)
    fleet.kill("edge-2")
    fleet.go_on(30)
    assert sorted(fleet.told()) == [("edge-1", "gone", "edge-3"), ("edge-2", "gone", "edge-3")]


def test_a_store_that_is_away_makes_nobody_vanish(fleet: Fleet) -> None:
    fleet.up = False
    fleet.kill("edge-2", "edge-3")
    fleet.go_on(30)
    fleet.up = True
    fleet.revive("edge-2")
    fleet.revive("edge-3")
    fleet.go_on(30)
    assert fleet.told() == []


def test_a_router_that_stood_still_itself_accuses_nobody(fleet: Fleet) -> None:
    fleet.kill("edge-2", "edge-3")
    fleet.now_s += 60.0
    fleet.watch["edge-1"].look()
    fleet.revive("edge-2")
    fleet.revive("edge-3")
    fleet.go_on(10)
    assert fleet.told() == []
