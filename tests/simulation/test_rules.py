"""The rules notice when the core breaks one: each test breaks the core on purpose."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from router.core import candidates, fleet
from router.core.admission import WaitQueue
from router.core.backend import Backend
from router.core.course import Course, Stop
from router.core.fleet import Fleet
from router.core.health import Health
from router.core.hedging import Hedging
from router.core.retry import RetryBudget
from sim.seeds.rules import Broken
from sim.seeds.scenario import scenario_of
from sim.seeds.shrink import broken_by

Breakage = Callable[[pytest.MonkeyPatch], None]


def first_broken(rule: str, seeds: int = 400) -> Broken:
    """The breakage that the first of these seeds shows of ``rule``."""
    seen: list[str] = []
    for seed in range(seeds):
        if (broken := broken_by(scenario_of(seed))) is not None:
            if broken.rule == rule:
                return broken
            seen.append(f"seed {seed}: {broken}")
    raise AssertionError(f"no seed breaks {rule!r}; seen: {seen}")


def forgets_failures(patch: pytest.MonkeyPatch) -> None:
    failed = Course.failed

    def forgetful(self: Course, *args: Any, **how: Any) -> Stop | None:
        tried = self.tried
        stop = failed(self, *args, **how)
        self.tried = tried
        return stop

    patch.setattr(Course, "failed", forgetful)


def never_gives_up(patch: pytest.MonkeyPatch) -> None:
    judge = Course._judge

    def eager(self: Course, *args: Any, **how: Any) -> Stop | None:
        stop = judge(self, *args, **how)
        return None if stop in (Stop.ATTEMPTS, Stop.DEADLY, Stop.DEADLINE) else stop

    patch.setattr(Course, "_judge", eager)


def ignores_drains(patch: pytest.MonkeyPatch) -> None:
    sort_out = candidates.sort_out

    def careless(backends: Any, *args: Any) -> Any:
        drained = [b for b in backends if b.draining]
        for b in drained:
            b.draining = False
        roster = sort_out(backends, *args)
        for b in drained:
            b.draining = True
        return roster

    patch.setattr(fleet, "sort_out", careless)


def ignores_residency(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(
        candidates,
        "unfit",
        lambda b, request, exclude=(), shunned=(): candidates.Struck.TRIED if b.name in {*exclude, *shunned} else None,
    )


def spends_freely(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(RetryBudget, "left", lambda self, now_s, *, hopeful=True: 1.0)


def loses_count(patch: pytest.MonkeyPatch) -> None:
    ended = Backend.ended

    def sloppy(self: Backend, *args: Any) -> Any:
        event = ended(self, *args)
        self.inflight += self.requests_total % 7 == 3
        return event

    patch.setattr(Backend, "ended", sloppy)


def leaves_them_waiting(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(WaitQueue, "pop", lambda self, now_s, fits=None: None)


def never_ends_a_wait(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(WaitQueue, "expire", lambda self, now_s: [])


def ejects_everybody(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Fleet, "_may_eject", lambda self, b: True)


def never_takes_back(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Health, "timer", lambda self, now_s: None)
    fire = Health.fire
    patch.setattr(
        Health, "fire", lambda self, event, now_s: self.state is not fleet._EJECTED and fire(self, event, now_s)
    )
    patch.setattr(candidates, "strike", candidates.strike)

    def strict(*args: Any) -> Any:
        roster = sort_out(*args)
        roster.down = ()
        return roster

    sort_out = candidates.sort_out
    patch.setattr(fleet, "sort_out", strict)


def hedges_without_end(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(Hedging, "sent", lambda self, lease: setattr(self, "_saved", 9.0) or self.due_s(lease))


@pytest.mark.parametrize(
    ("breakage", "rule"),
    [
        (forgets_failures, "no backend is asked twice"),
        (never_gives_up, "attempts are limited"),
        (ignores_drains, "a backend that drains gets no request"),
        (ignores_residency, "residency and pins hold for every attempt"),
        (spends_freely, "retries stay within their budget"),
        (loses_count, "requests in flight are counted right"),
        (leaves_them_waiting, "nobody waits while a backend is well and has room"),
        (never_ends_a_wait, "waits are limited"),
        (ejects_everybody, "judgement ejects a share of the fleet at most"),
        (hedges_without_end, "hedges stay within their budget"),
        (never_takes_back, "a fleet that is well answers"),
    ],
)
def test_a_breakage_is_noticed(breakage: Breakage, rule: str, monkeypatch: pytest.MonkeyPatch) -> None:
    breakage(monkeypatch)
    first_broken(rule)
