"""A decision as a table: every candidate, what it would have cost, and why it lost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cli import units

if TYPE_CHECKING:
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
    "leaving": "goes away soon, or has gone",
    "ejected": "ejected: it failed",
    "probation": "on its way back, trials taken",
    "burning_in": "has not passed its burn-in",
    "not_before": "asked us to come later",
    "failing": "failed lately, others come first",
    "saturated": "full",
    "tried": "tried before",
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
    "draining": "resume it",
    "leaving": "its notice is cancelled, or it is back",
    "saturated": "a place becomes free",
    "ejected": "it is well again",
    "probation": "its trials succeed",
    "burning_in": "it passes its burn-in",
    "not_before": "the time it asked for passes",
    "failing": "it serves a request again",
    "residency": "its jurisdiction is allowed",
    "pin": "its region is asked for",
    "model": "it serves the model",
    "denied": "it has the model",
}


def changes(decision: Json) -> list[str]:
    """For each other candidate the change that would let it win, one line each: ``eu/a: 0.12 s less queue``."""
    from rich.markup import escape

    winner = chosen(decision)
    if winner is None or not in_seconds(decision):
        return []
    lines = []
    for candidate in decision["candidates"]:
        if candidate["chosen"]:
            continue
        struck = candidate["struck"]
        needed = _less(candidate, winner) if struck is None else _REMEDY.get(struck)
        if needed is not None:
            lines.append(f"  {escape(candidate['backend'])}: {needed}")
    return ["", "[dim]to win instead[/]", *lines] if lines else []


def _less(candidate: Json, winner: Json) -> str:
    from router.core.explain import changes_to_win

    terms = {name: value or 0.0 for name, value in candidate["terms"].items()}
    less = changes_to_win(terms, {name: value or 0.0 for name, value in winner["terms"].items()})
    told = [f"{units.seconds(by_s)} less {name}" for name, by_s in less.items() if by_s >= _NEGLIGIBLE_S]
    return " and ".join(told) or "nothing: it was equally good; preference or chance decided"


def decision_table(decision: Json, *, bars: bool) -> Table:
    """One row for each candidate, the best first. ``bars`` adds each cost as a picture, coloured by its terms."""
    from rich.table import Table

    seconds = in_seconds(decision)
    names = term_names(decision)
    bars = bars and seconds and bool(names)
    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("")
    table.add_column("backend", no_wrap=True)
    table.add_column("cost", justify="right", no_wrap=True)
    for name in names:
        header_style = _style(name) if bars else "dim"
        table.add_column(name, justify="right", no_wrap=True, header_style=header_style)
    if bars:
        table.add_column("", no_wrap=True)
    table.add_column("", no_wrap=True)
    highest = max((c["cost_s"] or 0.0 for c in decision["candidates"]), default=0.0)
    for candidate in decision["candidates"]:
        is_chosen = candidate["chosen"]
        cells: list[str | Text] = ["[green]▶[/]" if is_chosen else " ", candidate["backend"]]
        cells.append(_number(candidate["cost_s"], seconds))
        cells += [_term(candidate["terms"].get(name), seconds) for name in names]
        if bars:
            cells.append(_bar(candidate, names, highest))
        cells.append(verdict(candidate, decision))
        faint = candidate["struck"] is not None
        table.add_row(*cells, style="bold" if is_chosen else "dim" if faint else "")
    return table


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
