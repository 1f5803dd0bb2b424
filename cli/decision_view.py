"""A decision as a table: every candidate, what it would have cost, and why it lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cli import units
from cli.output import escape

if TYPE_CHECKING:
    from rich.console import Console, ConsoleOptions, RenderResult
    from rich.table import Table
    from rich.text import Text

Json = Mapping[str, Any]

STRUCK = {
    "model": "does not serve the model",
    "denied": "says it does not have the model",
    "residency": "outside the allowed jurisdictions",
    "pin": "another region was asked for",
    "kept": "another backend keeps the response it continues",
    "draining": "draining",
    "asleep": "sleeps, until a request wakes it",
    "leaving": "goes away soon, or has gone",
    "not_ready": "its source says that it is not ready",
    "ejected": "ejected: it failed",
    "probation": "on its way back, trials taken",
    "burning_in": "has not passed its burn-in",
    "not_before": "asked us to come later",
    "failing": "failed lately, others come first",
    "saturated": "full",
    "continues": "cannot continue the answer of another backend",
    "tried": "failed this request before",
    "shunned": "its region has just failed this request",
}

#: reason of a decision among equals -> what would have had to be otherwise
_TIES = {
    "lowest cost": "it cost less: the winner was cheaper, though by less than a millisecond",
    "chance": "chance had picked it: the costs are equal, and chance decides among equals",
    "spread by prompt": "the prompt began otherwise: equal backends share out prompts by their beginnings",
    "local region": "it stood in the router's region, which comes first among equals",
    "knows the prefix": "it had as much of the prompt in its prefix cache, which decides among equals",
    "affinity": "the request's affinity had led to it, which decides among equals",
    "explored": "the router had not been visiting a backend it had heard nothing of for long",
}

#: Terms of policies whose costs are not times.
_NOT_SECONDS = frozenset({"requests", "matched blocks", "usd per hour", "tokens in flight", "uncached tokens"})

_TERM_STYLE = {
    "rtt": "blue",
    "overhead": "bright_black",
    "queue": "yellow",
    "prefill": "magenta",
    "decode": "cyan",
}
_BAR_WIDTH = 26
#: The row that tells how much more than the winner it would have cost.
_AGAINST = "against ▶"
#: Blank columns between two columns.
_GAP = 2
#: A term that is this small for every candidate is not shown.
_NEGLIGIBLE_S = 0.0005


def in_seconds(decision: Json) -> bool:
    """The policy's costs are seconds."""
    return not any(name in _NOT_SECONDS for c in decision["candidates"] for name in c["terms"])


def term_names(decision: Json) -> list[str]:
    """The terms worth a column, in the policy's order."""
    candidates = decision["candidates"]
    names = list(dict.fromkeys(name for c in candidates for name in c["terms"]))
    if not in_seconds(decision):
        return names
    return [n for n in names if any(abs(c["terms"].get(n) or 0.0) >= _NEGLIGIBLE_S for c in candidates)]


def chosen(decision: Json) -> Json | None:
    return next((c for c in decision["candidates"] if c["chosen"]), None)


def best_cost(decision: Json) -> float | None:
    return min((c["cost_s"] for c in decision["candidates"] if c["cost_s"] is not None), default=None)


def worst_term(candidate: Json, against: Json) -> str | None:
    """The term in which the candidate loses most against another."""
    gaps = {name: value - (against["terms"].get(name) or 0.0) for name, value in candidate["terms"].items()}
    name = max(gaps, key=lambda n: gaps[n], default=None)
    return name if name is not None and gaps[name] >= _NEGLIGIBLE_S else None


def verdict(candidate: Json, decision: Json) -> str:
    """The reason why this candidate won, or lost: ``+91 ms, rtt``."""
    if candidate["struck"] is not None:
        return STRUCK.get(candidate["struck"], str(candidate["struck"]))
    winner = chosen(decision)
    if candidate["chosen"]:
        return str(decision.get("reason") or "chosen")
    if winner is None or winner["cost_s"] is None or candidate["cost_s"] is None:
        return ""
    gap = candidate["cost_s"] - winner["cost_s"]
    if not in_seconds(decision):
        return f"+{gap:.3g}" if gap > 0 else "as good"
    if gap < _NEGLIGIBLE_S:
        return "as good" if gap > -_NEGLIGIBLE_S else f"{units.seconds(-gap)} less"
    term = worst_term(candidate, winner)
    return f"+{units.seconds(gap)}, {term}" if term else f"+{units.seconds(gap)}"


_REMEDY = {
    "draining": "it were resumed",
    "asleep": "it were woken",
    "leaving": "its notice were cancelled, or it came back",
    "not_ready": "its source said that it is ready",
    "saturated": "it had a free place",
    "ejected": "it recovered",
    "probation": "its trials succeeded",
    "burning_in": "it passed its burn-in",
    "not_before": "the pause it asked for were over",
    "failing": "it served a request again",
    "residency": "residency allowed it",
    "pin": "the request named its region",
    "model": "it served the model",
    "denied": "it had the model",
    "continues": "it could continue the answer of another backend",
    "tried": "it had not failed this request",
    "shunned": "no backend of its region had failed this request",
}
#: Words of a backend that nothing could have let win.
_NO_REMEDY = {"kept"}


def changes(decision: Json) -> list[str]:
    """For each other candidate the change that would let it win, one line each: ``eu/a: it had 120 ms less queue``."""
    winner = chosen(decision)
    if winner is None or not in_seconds(decision):
        return []
    lines = []
    for candidate in decision["candidates"]:
        if candidate["chosen"]:
            continue
        struck = candidate["struck"]
        needed = _less(candidate, winner, decision) if struck is None else _REMEDY.get(struck)
        if needed is not None:
            lines.append(f"  {escape(candidate['backend'])}: {needed}")
    return ["", "[dim]would be chosen if[/]", *lines] if lines else []


#: The terms of which most is missing; the others come as one sum.
_TERMS_TOLD = 2


def _less(candidate: Json, winner: Json, decision: Json) -> str:
    from router.core.explain import changes_to_win

    terms = {name: value or 0.0 for name, value in candidate["terms"].items()}
    less = changes_to_win(terms, {name: value or 0.0 for name, value in winner["terms"].items()})
    told = [f"{units.seconds(by_s)} less {name}" for name, by_s in less.items() if by_s >= _NEGLIGIBLE_S]
    if len(told) > _TERMS_TOLD:
        rest_s = sum([*less.values()][_TERMS_TOLD:])
        told = [", ".join(told[:_TERMS_TOLD]), f"{units.seconds(rest_s)} less of other terms"]
    return f"it had {' and '.join(told)}" if told else _otherwise(decision.get("reason"))


def _otherwise(reason: str | None) -> str:
    """It cost no more than the winner: which rule has decided between them."""
    rule = (reason or "").partition(" (")[0]  # behind it stands that there was a panic
    return _TIES.get(rule, f"the policy's rule for equal costs had chosen it{f': {rule}' if rule else ''}")


class DecisionTable:
    """Every candidate with its cost and each of its terms, the best first, and why it lost.

    With ``bars`` each cost is a picture, too, coloured by its terms. The picture goes first where there is no room. If
    candidates do not fit as rows they become columns, as many beside each other as do. No number is ever cut.
    """

    def __init__(self, decision: Json, *, bars: bool) -> None:
        self._decision = decision
        self._seconds = in_seconds(decision)
        self._names = term_names(decision)
        self._bars = bars and self._seconds and bool(self._names)

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        room = options.max_width
        for bars in (True, False) if self._bars else (False,):
            table = self._rows(bars)
            if console.measure(table, options=options.update(max_width=10 * room + 1000)).maximum <= room:
                yield table
                return
        yield from self._columns(room)

    def _rows(self, bars: bool) -> Table:
        from rich.table import Table

        names, decision = self._names, self._decision
        table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, _GAP, 0, 0))
        table.add_column("")
        table.add_column("backend", no_wrap=True)
        table.add_column("cost", justify="right", no_wrap=True)
        for name in names:
            table.add_column(name, justify="right", no_wrap=True, header_style=_style(name) if bars else "dim")
        if bars:
            table.add_column("", no_wrap=True)
        table.add_column("", no_wrap=True)
        highest = max((c["cost_s"] or 0.0 for c in decision["candidates"]), default=0.0)
        for candidate in decision["candidates"]:
            cells: list[str | Text] = ["[green]▶[/]" if candidate["chosen"] else " ", escape(candidate["backend"])]
            cells += self._numbers(candidate)
            if bars:
                cells.append(_bar(candidate, names, highest))
            cells.append(escape(verdict(candidate, decision)))
            style = "bold" if candidate["chosen"] else "dim" if candidate["struck"] is not None else ""
            table.add_row(*cells, style=style)
        return table

    def _columns(self, room: int) -> RenderResult:
        """A column for each candidate that has a cost, as many at a time as fit; below, the others and why."""
        from rich.text import Text

        ranked = [c for c in self._decision["candidates"] if c["cost_s"] is not None]
        others = [c for c in self._decision["candidates"] if c["cost_s"] is None]
        while ranked:
            width, taken = max(map(len, (_AGAINST, *self._names))), 0
            while taken < len(ranked) and (not taken or width + _GAP + self._width(ranked[taken]) <= room):
                width += _GAP + self._width(ranked[taken])
                taken += 1
            yield self._beside(ranked[:taken])
            yield Text()
            ranked = ranked[taken:]
        for candidate in self._decision["candidates"]:
            if candidate in others or candidate["chosen"]:
                mark = "[green]▶[/]" if candidate["chosen"] else " "
                words = escape(verdict(candidate, self._decision))
                yield Text.from_markup(f"{mark} {escape(candidate['backend'])}  [dim]{words}[/]")

    def _beside(self, candidates: Sequence[Json]) -> Table:
        from rich.table import Table

        winner = chosen(self._decision)
        table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, _GAP, 0, 0))
        table.add_column("", style="dim", no_wrap=True, overflow="fold")
        for candidate in candidates:
            mark, style = ("[green]▶[/] ", "bold") if candidate["chosen"] else ("", "")
            header = f"{mark}{escape(candidate['backend'])}"
            table.add_column(header, justify="right", overflow="fold", style=style, header_style=style or "dim")
        columns = [self._numbers(candidate) for candidate in candidates]
        for name, *values in zip(("cost", *self._names), *columns, strict=True):
            table.add_row(name, *values)
        if winner is not None and any(not c["chosen"] for c in candidates):
            table.add_row(_AGAINST, *(_gap(c, winner, self._seconds) for c in candidates))
        return table

    def _numbers(self, candidate: Json) -> list[str]:
        """Its cost, and each term."""
        terms = (_term(candidate["terms"].get(name), self._seconds) for name in self._names)
        return [_number(candidate["cost_s"], self._seconds), *terms]

    def _width(self, candidate: Json) -> int:
        mark = 2 if candidate["chosen"] else 0
        return max(mark + len(candidate["backend"]), *map(len, self._numbers(candidate)))


def _gap(candidate: Json, winner: Json, seconds: bool) -> str:
    """How much more than the winner it would have cost."""
    if candidate["chosen"] or candidate["cost_s"] is None or winner["cost_s"] is None:
        return ""
    gap = candidate["cost_s"] - winner["cost_s"]
    shown = units.seconds(gap) if seconds else f"{gap:.3g}"
    return f"+{shown}" if gap >= 0 else shown


def _style(term: str) -> str:
    return _TERM_STYLE.get(term, "red")


def _number(value: float | None, seconds: bool) -> str:
    if value is None:
        return units.UNKNOWN
    return units.seconds(value) if seconds else f"{value:.4g}"


def _term(value: float | None, seconds: bool) -> str:
    if value is None:
        return ""
    if not seconds:
        return f"{value:.4g}"
    return "·" if abs(value) < _NEGLIGIBLE_S else units.seconds(value)


def _bar(candidate: Json, names: Sequence[str], highest: float) -> Text:
    """The cost as one bar, a colour for each term."""
    from rich.text import Text

    text = Text()
    if highest <= 0:
        return text
    drawn, total = 0, 0.0
    for name in names:
        total += max(0.0, candidate["terms"].get(name) or 0.0)
        end = round(min(total / highest, 1.0) * _BAR_WIDTH)
        text.append("━" * (end - drawn), style=_style(name))
        drawn = max(drawn, end)
    return text
