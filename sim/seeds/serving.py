"""How machines serve what they are asked, through time and troubles."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

from router.core.outcomes import Outcome
from sim.seeds.machine import Machine
from sim.seeds.story import Action, Attempt

if TYPE_CHECKING:
    from sim.seeds.play import Play

_RESTART_S = 2.0  # of an engine that a request has killed


class Serving:
    """Moves the machines of one play, and tells it what their routers hear."""

    def __init__(self, play: Play, noise: random.Random) -> None:
        self._play = play
        self._noise = noise

    def _reply(self, attempt: Attempt, now_s: float, action: Action, *arguments: Any) -> None:
        """The machine says something, and its router hears it later, in this order."""
        router = attempt.story.router
        attempt.heard_s = max(attempt.heard_s, now_s + self._play.way_s(router, attempt.machine))
        self._play.at(attempt.heard_s, action, attempt, *arguments, router=router)

    def reach(self, attempt: Attempt, now_s: float) -> None:
        """The request reaches the machine."""
        machine, story, noise = attempt.machine, attempt.story, self._noise
        if attempt.lease.ended:
            return
        if not machine.up:
            self._reply(attempt, now_s, self._play.fail, Outcome.UNREACHABLE, {})
            return
        if machine.frozen:
            machine.parked.append(("reach", attempt))
            return
        attempt.life = machine.life
        if story.ask.deadly:
            machine.waiting.append(attempt)
            self._play.tell(f"{machine.name} dies of {story}")
            self.kill(machine, now_s)
            self._play.at(now_s + _RESTART_S, self.start, machine)
            return
        for ill in machine.ills:
            if ill == "denies":
                self._reply(attempt, now_s, self._play.fail, Outcome.MODEL_MISSING, {})
            elif ill == "error" and noise.random() < 0.6:
                self._reply(attempt, now_s + 0.005, self._play.fail, Outcome.SERVER_ERROR, {})
            elif ill == "busy" and noise.random() < 0.7:
                again_s = noise.choice((None, 0.5, 2.0))
                self._reply(attempt, now_s, self._play.fail, Outcome.OVERLOADED, {"retry_after_s": again_s})
            else:
                continue
            return
        if story.ask.light:
            self._reply(attempt, now_s + 0.005, self._play.hear_all)
            return
        machine.waiting.append(attempt)
        self._fill(machine, now_s)

    def _fill(self, machine: Machine, now_s: float) -> None:
        while machine.waiting and len(machine.served) < machine.box.places:
            attempt = machine.waiting.popleft()
            machine.served.add(attempt)
            jitter = 1.0 + self._play.scenario.jitter * (2.0 * self._noise.random() - 1.0)
            due_s = now_s + machine.first_token_s(attempt.lease.prompt_tokens) * jitter
            self._play.at(due_s, self._compute, attempt)

    def _works_on(self, attempt: Attempt, step: str) -> bool:
        """Whether the machine continues it now."""
        machine = attempt.machine
        if attempt.life != machine.life or attempt not in machine.served:
            return False
        if machine.frozen:
            machine.parked.append((step, attempt))
            return False
        return True

    def _compute(self, attempt: Attempt, now_s: float) -> None:
        """The prompt is computed: the first token goes out, and the rest will."""
        if not self._works_on(attempt, "compute"):
            return
        machine, ask = attempt.machine, attempt.story.ask
        if ask.stream:
            self._reply(attempt, now_s, self._play.hear_first)
        takes_s = (ask.output_tokens - attempt.story.said) * machine.box.token_s * machine.pace
        if "cut" in machine.ills and self._noise.random() < 0.5:
            self._play.at(now_s + takes_s * self._noise.random(), self._cut, attempt)
        else:
            self._play.at(now_s + takes_s, self._complete, attempt)

    def _cut(self, attempt: Attempt, now_s: float) -> None:
        if self._works_on(attempt, "cut"):
            self.drop(attempt, now_s)
            self._reply(attempt, now_s, self._play.lost)

    def _complete(self, attempt: Attempt, now_s: float) -> None:
        if self._works_on(attempt, "complete"):
            self.drop(attempt, now_s)
            self._reply(attempt, now_s, self._play.hear_all)

    def drop(self, attempt: Attempt, now_s: float) -> None:
        """The machine is done with it."""
        machine = attempt.machine
        if attempt in machine.served:
            machine.served.remove(attempt)
            if not machine.frozen:
                self._fill(machine, now_s)
        elif attempt in machine.waiting:
            machine.waiting.remove(attempt)

    def kill(self, machine: Machine, now_s: float) -> None:
        """The process is gone; connections are reset, new ones refused."""
        machine.deaths += 1
        for attempt in machine.forget():
            if machine.cut_off:
                self._play.doubt(attempt, now_s)  # nobody hears of it
            else:
                self._reply(attempt, now_s, self._play.lost)

    def start(self, machine: Machine, now_s: float) -> None:
        """A reason for it to be down is over."""
        machine.deaths -= 1
        machine.life += 1

    def freeze(self, machine: Machine, now_s: float) -> None:
        """It is there and does nothing; only timeouts tell."""
        machine.frozen += 1
        for attempt in sorted(machine.served, key=lambda attempt: attempt.number):
            if attempt.lease.first_token_s is not None:
                self._play.doubt(attempt, now_s)

    def thaw(self, machine: Machine, now_s: float) -> None:
        """A reason for it to be frozen is over."""
        machine.frozen -= 1
        if machine.frozen:
            return
        steps = {"reach": self.reach, "compute": self._compute, "cut": self._cut, "complete": self._complete}
        parked, machine.parked = machine.parked, []
        for step, attempt in parked:
            self._play.at(now_s, steps[step], attempt)
        self._fill(machine, now_s)
