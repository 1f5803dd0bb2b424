"""An overload is noted when it begins and when it is over, with what it did."""

from __future__ import annotations

from router.control.overload import LATE_S, WELL_S, Overload
from router.telemetry.history import History


class Router:
    def __init__(self) -> None:
        self.now_s, self.late_s, self.shed = 100.0, 0.0, 5
        self.history = History("edge-1")
        self.overload = Overload(
            self.history, late_s=lambda: self.late_s, shed=lambda: self.shed, now_s=lambda: self.now_s
        )

    def go_on(self, seconds: int) -> None:
        for _ in range(seconds):
            self.now_s += 1.0
            self.overload.look()

    def told(self) -> list[tuple[str | None, str | None]]:
        return [(o.after, o.why) for o in reversed(self.history.list())]


def test_a_late_loop_is_told_with_its_end() -> None:
    router = Router()
    router.late_s = LATE_S
    router.go_on(5)
    assert router.told() == []
    router.late_s = 0.4
    router.go_on(20)
    router.late_s = 0.0
    router.go_on(int(WELL_S) + 5)
    assert router.told() == [
        ("overloaded", "its event loop came 0.40 s late again and again"),
        ("serving", "after 29 s; its event loop came 0.40 s late again and again"),
    ]


def test_refusals_for_want_of_a_place_are_counted() -> None:
    router = Router()
    router.shed += 1
    router.go_on(1)
    router.shed += 10
    router.go_on(int(WELL_S) - 1)
    assert router.told() == [("overloaded", "1 refusal for want of a place")]
    router.go_on(5)
    assert router.told()[1:] == [("serving", "after 11 s; 11 refusals for want of a place")]
    router.go_on(60)
    assert len(router.told()) == 2
