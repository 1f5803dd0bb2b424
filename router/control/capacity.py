"""Keeps the census of the fleet up to date, and tells it: how many backends there are, and how many are needed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from router.config import Config
from router.core.census import Census, Group, Unheard
from router.core.fleet import Fleet
from router.core.needed import REASONS, Goal
from router.core.standing import BackendStanding
from router.tasks import stop, supervise

#: How often it looks by itself, so that trends are known when somebody asks.
LOOK_S = 2.0
#: An answer is never older than this.
_FRESH_S = 0.25


class CensusTaker:
    """``goals`` and the requests that wait for a place, by model, as they are now."""

    def __init__(
        self,
        fleet: Fleet,
        goals: Callable[[], Mapping[str, Goal]],
        waiting: Callable[[], Mapping[str, float]],
        *,
        unheard: Unheard,
        now_s: Callable[[], float],
    ) -> None:
        """``unheard``: see Census."""
        self._census = Census(fleet, unheard)
        self._goals = goals
        self._waiting = waiting
        self._now_s = now_s
        self._looked_s = float("-inf")
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = supervise(self._loop, name="capacity")

    async def stop(self) -> None:
        await stop(self._task)

    def groups(self) -> list[Group]:
        """As of now."""
        now_s = self._now_s()
        if now_s - self._looked_s >= _FRESH_S:
            self._looked_s = now_s
            self._census.look(self._goals(), self._waiting(), now_s)
        return self._census.groups

    async def told(self) -> dict[str, Any]:
        """As the admin API tells it."""
        return document(self.groups())

    async def _loop(self) -> None:
        while True:
            if self._goals():
                self.groups()
            await asyncio.sleep(LOOK_S)


def goals_of(config: Config) -> dict[str, Goal]:
    """How many backends are to run, by model."""
    return {name: goal for name, model in config.models.items() if (goal := model.goal) is not None}


def document(groups: list[Group]) -> dict[str, Any]:
    """Groups as the admin API tells them."""
    return {"data": [_group(g) for g in groups], "idle_usd_hour": sum(g.idle_usd_hour for g in groups)}


def _group(group: Group) -> dict[str, Any]:
    asked, goal = group.asked, group.goal
    p95_s = group.predicted_p95_s
    return {
        "region": group.region,
        "model": group.model,
        "known": group.known,
        "there": group.there,
        "needed": group.needed,
        "needed_now": group.now,
        "reason": group.reason,
        "meaning": None if group.reason is None else REASONS[group.reason],
        "short": group.short,
        "spare": group.spare,
        "min": None if goal is None else goal.least,
        "max": None if goal is None else goal.most,
        "target_ttft_s": None if goal is None else goal.target_ttft_s,
        "kept_ttft_s": group.within_s,
        "predicted_ttft_s_p95": None if p95_s is None or p95_s == float("inf") else p95_s,
        "requests_per_s": asked.per_s,
        "inflight": round(asked.inflight),
        "waiting": asked.waiting,
        "idle_usd_hour": group.idle_usd_hour,
        "engines": [_engine(s) for s in group.standings],
    }


def _engine(standing: BackendStanding) -> dict[str, Any]:
    return {
        "backend": standing.backend,
        "state": standing.state,
        "reason": standing.reason,
        "requests_per_s": standing.per_s,
        "inflight": round(standing.inflight),
        "busy_ratio": standing.busy_ratio,
        "cost_usd_hour": standing.cost_usd_hour,
    }
