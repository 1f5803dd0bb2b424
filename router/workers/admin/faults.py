"""The injected faults in force, kept by the process in front of the workers for workers that are started later."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import orjson

from router.workers.admin.links import WorkerGoneError, WorkerLink

_PATH = "/admin/v1/chaos"
#: What a worker says of a fault besides what it was asked for.
_TOLD_ONLY = frozenset({"backends", "says", "left_s"})
#: What is nearly over is not begun again.
_LEFT_MIN_S = 0.2


class Faults:
    """``note`` the faults that a worker lists; ``hand_on`` starts them in another one, for the time they have left."""

    def __init__(self, now_s: Callable[[], float]) -> None:
        self._now_s = now_s
        self._running: list[
            tuple[dict[str, Any], float]
        ] = []  # the body of the request that starts it, and when it ends

    def note(self, listed: list[dict[str, Any]]) -> None:
        """Remember exactly these faults: all that are in force now."""
        now_s = self._now_s()
        self._running = [
            (
                {name: value for name, value in entry.items() if name not in _TOLD_ONLY and value is not None},
                now_s + entry["left_s"],
            )
            for entry in listed
        ]

    async def hand_on(self, link: WorkerLink) -> None:
        """Start each fault in a worker. It refuses a fault if a reload has removed its backend or forbidden faults."""
        for fault, end_s in self._running:
            if (left_s := end_s - self._now_s()) > _LEFT_MIN_S:
                with suppress(WorkerGoneError):
                    await link.ask("POST", _PATH, orjson.dumps(fault | {"for_s": left_s}))
