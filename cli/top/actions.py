"""Drain, resume and notice from the live view: what each would take away, and doing it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cli import confirm, units
from cli.commands.regions import act
from cli.context import Context, operator
from cli.region_states import leaving_words

Json = dict[str, Any]

_NOTHING_LOST = "Others can serve everything that is served there."


@dataclass(frozen=True, slots=True)
class Question:
    """``what``: the command in words. ``losses``: what it takes away; empty when others can serve all of it."""

    what: str
    losses: tuple[str, ...]
    remarks: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        return "\n".join(self.losses or self.remarks)


def question(ctx: Context, what: str, name: str) -> Question:
    """Ask the router what would be lost. Raises CliError."""
    found = confirm.place_losses(ctx, name)
    losses = tuple(confirm.lost(found))
    if found is None or losses:
        return Question(what, losses, (_NOTHING_LOST,))
    more = filter(None, (confirm.traffic(found), confirm.jurisdictions(found)))
    return Question(what, (), (_NOTHING_LOST, *more))


def harmless(what: str, remark: str) -> Question:
    """It takes nothing away, and is asked about all the same: a key is pressed quickly."""
    return Question(what, (), (remark,))


def drain(ctx: Context, name: str) -> str:
    """Returns what has happened, in words. Raises CliError."""
    answer = act(ctx, name, "drain", {"by": operator(), "reason": "router top"})
    return f"{name} gets no new requests ({answer['applied']}){_left(answer)}"


def resume(ctx: Context, name: str) -> str:
    answer = act(ctx, name, "resume", {})
    return f"{name} gets requests again ({answer['applied']})"


def notice(ctx: Context, name: str, in_s: float) -> str:
    answer = act(ctx, name, "notice", {"in_s": in_s, "by": operator()})
    leaving = answer["leaving"]
    words = leaving_words(leaving) if leaving is not None else f"leaving in {units.seconds(in_s)}"
    return f"{name} is {words} ({answer['applied']}){_left(answer)}"


def _left(answer: Json) -> str:
    left = int(answer["inflight"])
    return f"; {units.plural(left, 'request')} still in flight there" if left else ""


#: what it is called -> how it is done, where nothing else must be known
SIMPLE: dict[str, Callable[[Context, str], str]] = {"drain": drain, "resume": resume}
