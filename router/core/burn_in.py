"""Whether a new backend has proved itself: what was measured of it, held against bars. Pure.

It has to answer well-formed streams, say the same twice when nothing is left to chance, answer every request under a
load that rises, and be about as quick as a backend beside it that serves the same model, measured in the same minute.
Where there is no other one, its times are told and not judged, as is whether it can continue answers of others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from itertools import combinations
from statistics import median
from typing import Any

#: Requests at once, one step after the other, and the output tokens of each request.
LEVELS = (1, 2, 4, 8)
TOKENS = 32
#: First tokens and later ones may take as many times as long as those of the backend beside it, and this much longer.
TTFT_TIMES, TTFT_SLACK_S = 2.0, 0.1
ITL_TIMES, ITL_SLACK_S = 1.5, 0.01
#: The part of a greedy answer that must be the same another time. Not all of it: in half precision two tokens may be
#: nearly as likely, and the requests beside it change the order of sums.
SAME_RATIO = 0.5


def requests_at(level: int) -> int:
    """How many requests a step has."""
    return max(3, 2 * level)


@dataclass(slots=True)
class Shot:
    """One request. ``error``: why it has no answer; ``flaws``: what is wrong with the answer it has."""

    error: str | None = None
    flaws: tuple[str, ...] = ()
    text: str = ""
    ttft_s: float | None = None
    itl_s: float | None = None
    output_tokens: int = 0


@dataclass(slots=True)
class Step:
    """What ``requests`` at once came to."""

    requests: int
    shots: list[Shot]
    took_s: float

    @property
    def ttft_s(self) -> float | None:
        return _median(s.ttft_s for s in self.shots)

    @property
    def itl_s(self) -> float | None:
        return _median(s.itl_s for s in self.shots)

    @property
    def errors(self) -> int:
        return sum(s.error is not None for s in self.shots)

    def document(self) -> dict[str, Any]:
        tokens = sum(s.output_tokens for s in self.shots)
        return {
            "requests": self.requests,
            "answers": len(self.shots) - self.errors,
            "errors": self.errors,
            "ttft_s": self.ttft_s,
            "itl_s": self.itl_s,
            "output_tokens_per_s": tokens / self.took_s if self.took_s > 0 else None,
        }


@dataclass(slots=True)
class Measured:
    """Of one backend. ``rtt_s``: how far away it is, taken off before its times are compared.

    ``greedy``: the same question again and again. The first answer is not compared: a prompt that is not cached yet is
    computed in another order.
    """

    backend: str
    rtt_s: float = 0.0
    greedy: list[Shot] = field(default_factory=list)
    steps: list[Step] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the report. ``bar`` says what it is held against."""

    name: str
    passed: bool
    figure: str
    bar: str


def judge(one: Measured, other: Measured | None, continues: str) -> list[Check]:
    """The checks of ``one`` beside ``other``. ``continues``: whether it can continue answers, in a few words."""
    return [
        _form(one),
        _sameness(one),
        _errors(one),
        _times("first token", "ttft_s", one, other, TTFT_TIMES, TTFT_SLACK_S),
        _times("between tokens", "itl_s", one, other, ITL_TIMES, ITL_SLACK_S),
        Check("continues answers", True, continues, "told, not judged"),
    ]


def report(one: Measured, other: Measured | None, continues: str) -> dict[str, Any]:
    """Everything for people and programs, as JSON."""
    checks = judge(one, other, continues)
    beside = {step.requests: step.document() for step in other.steps} if other is not None else {}
    return {
        "passed": all(check.passed for check in checks),
        "beside": other.backend if other is not None and other.steps else None,
        "checks": [asdict(check) for check in checks],
        "steps": [step.document() | {"beside": beside.get(step.requests)} for step in one.steps],
    }


def _form(one: Measured) -> Check:
    shots = [*one.greedy, *(shot for step in one.steps for shot in step.shots)]
    answers = [shot for shot in shots if shot.error is None]
    flawed = [shot for shot in answers if shot.flaws]
    bar = "framing, end and usage of every stream"
    if not answers:
        return Check("well-formed streams", False, "no answer", bar)
    first = f": {flawed[0].flaws[0]}" if flawed else ""
    return Check("well-formed streams", not flawed, f"{len(answers) - len(flawed)} of {len(answers)}{first}", bar)


def same_ratio(one: Measured) -> float | None:
    """How much of a greedy answer was the same another time: of the two answers that agree best. None without two."""
    texts = [shot.text for shot in one.greedy[1:] if shot.error is None and shot.text]
    return max((_common(a, b) / max(len(a), len(b)) for a, b in combinations(texts, 2)), default=None)


def _common(a: str, b: str) -> int:
    return next((n for n, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _sameness(one: Measured) -> Check:
    bar = f"the first {SAME_RATIO:.0%} of a greedy answer"
    ratio = same_ratio(one)
    if ratio is None:
        return Check("says the same twice", False, "no two answers", bar)
    return Check("says the same twice", ratio >= SAME_RATIO, f"the first {ratio:.0%}", bar)


def _errors(one: Measured) -> Check:
    shots = [shot for step in one.steps for shot in step.shots]
    failed = [shot.error for shot in (*one.greedy, *shots) if shot.error is not None]
    most = max((step.requests for step in one.steps), default=0)
    figure = f"{len(failed)} of {len(shots) + len(one.greedy)}" + (f": {failed[0]}" if failed else "")
    return Check("errors", not failed and bool(shots), figure, f"none, with up to {most} requests at once")


def _times(name: str, member: str, one: Measured, other: Measured | None, times: float, slack_s: float) -> Check:
    """At the step where it does worst beside the other."""
    known = [(step.requests, s) for step in one.steps if (s := getattr(step, member)) is not None]
    if not known:
        return Check(name, False, "none came", "one at least")
    beside = {step.requests: getattr(step, member) for step in other.steps} if other is not None else {}
    # Two round trips: a connection, and the request on it. Tokens after the first come without one.
    trips = 2.0 if member == "ttft_s" else 0.0
    compared = []
    for requests, took_s in known:
        theirs_s = beside.get(requests)
        if other is not None and theirs_s is not None:
            ours_s = max(0.0, took_s - trips * one.rtt_s)
            bar_s = times * max(0.0, theirs_s - trips * other.rtt_s) + slack_s
            compared.append((ours_s / bar_s, requests, ours_s, bar_s))
    if other is None or not compared:
        requests, took_s = known[-1]
        return Check(name, True, f"{_ms(took_s)} at {requests}", "nothing to compare with")
    load, requests, ours_s, bar_s = max(compared)
    return Check(name, load <= 1.0, f"{_ms(ours_s)} at {requests}", f"{_ms(bar_s)}, by {other.backend}")


def _ms(seconds: float) -> str:
    return f"{seconds * 1000:.3g} ms" if seconds < 1.0 else f"{seconds:.3g} s"


def _median(values: Any) -> float | None:
    known: Sequence[float] = [value for value in values if value is not None]
    return median(known) if known else None
