"""A row of the table: a test, the figures it measured, the bar they are held against."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Size:
    """How much a row does. ``short`` is for tests: the same in seconds."""

    streams: int = 500
    requests: int = 200
    hold_s: float = 30.0
    short: bool = False


FULL = Size()
SHORT = Size(streams=100, requests=30, hold_s=4.0, short=True)


@dataclass(slots=True)
class Outcome:
    """The figures of a row. It passes if every claim holds; ``late`` are claims about time, which a busy machine may
    break."""

    figures: dict[str, str] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)
    late: list[str] = field(default_factory=list)

    def say(self, name: str, value: object) -> None:
        self.figures[name] = f"{value:.3g}" if isinstance(value, float) else str(value)

    def claim(self, holds: bool, what: str) -> None:
        """``what`` should hold; it is told if it does not."""
        if not holds:
            self.failures.append(what)

    def in_time(self, holds: bool, what: str) -> None:
        if not holds:
            self.late.append(what)


Run = Callable[[Size], Awaitable[Outcome]]


@dataclass(frozen=True, slots=True)
class Row:
    number: int
    test: str
    bar: str
    run: Run


@dataclass(frozen=True, slots=True)
class Result:
    row: int
    test: str
    figure: str
    bar: str
    passed: bool
    failures: tuple[str, ...]
    took_s: float

    def document(self) -> dict[str, Any]:
        return asdict(self)


ROWS: dict[int, Row] = {}


def row(number: int, test: str, bar: str) -> Callable[[Run], Run]:
    """The function measures this row."""

    def add(run: Run) -> Run:
        ROWS[number] = Row(number, test, bar, run)
        return run

    return add
