"""Who takes part in a play: requests, their attempts, and the routers."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from router.core.course import Course
from router.core.types import Lease
from sim.seeds.machine import Machine
from sim.seeds.scenario import Ask
from sim.site import Site

Action = Callable[..., None]


class Attempt:
    """One try of a request on one machine."""

    __slots__ = ("heard_s", "lease", "life", "machine", "number", "story")

    def __init__(self, number: int, story: Story, lease: Lease, machine: Machine) -> None:
        self.number = number
        self.story = story
        self.lease = lease
        self.machine = machine
        self.life = -1  # of the machine, when it took the request
        self.heard_s = 0.0  # when its router hears the last of what the machine has said


class Story:
    """One request, from its arrival to its end."""

    __slots__ = (
        "ask",
        "asked",
        "begun",
        "course",
        "ended",
        "error",
        "failure",
        "hedged",
        "killed",
        "live",
        "router",
        "said",
        "ttft_s",
        "until_s",
        "waits",
    )

    def __init__(self, ask: Ask, router: Router, course: Course) -> None:
        self.ask = ask
        self.router = router
        self.course = course
        self.failure: str | None = None
        self.live: list[Lease] = []
        self.hedged = False
        self.ttft_s: float | None = None
        self.asked: list[str] = []  # since the answer broke off last
        self.begun = False  # the client has a part of the answer
        self.said = 0  # tokens of it, from legs that broke off
        self.waits = False
        self.until_s = float("inf")  # its wait is over
        self.ended = False
        self.error: str | None = None
        self.killed = 0  # machines

    def __str__(self) -> str:
        return f"request {self.ask.number}"


class Router:
    """One router, and what hinders it."""

    __slots__ = ("live", "nameless", "news", "number", "reported", "seen", "short", "site", "stopped_until_s", "sweeps")

    def __init__(self, number: int, site: Site[Story]) -> None:
        self.number = number
        self.site = site
        self.live: dict[Lease, Attempt] = {}
        self.stopped_until_s = float("-inf")
        #: how many troubles keep names or sockets from it
        self.nameless = self.short = 0
        self.sweeps = False
        #: the generation of its fleet that the rules have looked at
        self.seen = -1
        #: what the other routers hear of it next
        self.reported: dict[str, tuple[int, int]] = {}
        self.news: list[Any] = []
