"""What a worker that comes later is told of the faults on purpose that go on."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import orjson

from router.workers.admin.faults import Faults
from router.workers.admin.links import WorkerGoneError, WorkerLink


class Link:
    """A worker that notes what it is told."""

    def __init__(self) -> None:
        self.told: list[dict[str, Any]] = []

    async def ask(self, method: str, path: str, body: bytes) -> None:
        assert (method, path) == ("POST", "/admin/v1/chaos")
        self.told.append(orjson.loads(body))
        if len(self.told) == 1:
            raise WorkerGoneError("for a moment")


def listing(target: str, fault: str, left_s: float, **more: Any) -> dict[str, Any]:
    entry = {"fault": fault, "target": target, "key": None, "share": 1.0, "delay_s": None, "after_tokens": None}
    return entry | more | {"backends": ["us/a"], "says": "…", "left_s": left_s}


def test_what_still_goes_on_is_handed_on_for_the_rest_of_its_time() -> None:
    now_s = 100.0
    faults = Faults(lambda: now_s)
    listed = [
        listing("us/a", "delay", 60.0, delay_s=0.5),
        listing("us/b", "refuse", 5.0),
        listing("us", "cut", 60.0, after_tokens=0, key="key_1", share=0.2),
    ]
    faults.note(listed)
    now_s += 10.0
    link = Link()
    asyncio.run(faults.hand_on(cast(WorkerLink, link)))
    assert link.told == [
        {"target": "us/a", "fault": "delay", "delay_s": 0.5, "share": 1.0, "for_s": 50.0},
        {"target": "us", "fault": "cut", "after_tokens": 0, "key": "key_1", "share": 0.2, "for_s": 50.0},
    ]
    faults.note([])
    again = Link()
    asyncio.run(faults.hand_on(cast(WorkerLink, again)))
    assert again.told == []
