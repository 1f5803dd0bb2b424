"""The costs of finished requests, by who asked and who answered, until somebody writes them into the books.

Rows wait here while the store is away, each day apart: ROWS_MAX of a day, the rest added to one row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from router import clock
from router.core.limits import KINDS, MICRO, SUMS
from router.core.scopes import MODEL
from router.core.spending import DAY_S, OTHERS, ROWS_MAX, Spender, Sums
from router.telemetry.kinds import RequestKind

_DAYS_MAX = 40
#: The names of limits on money.
_BUDGETS = frozenset(KINDS[i].name for i, _ in SUMS if KINDS[i].money)


class Asker(NamedTuple):
    """Whose requests are counted together. ``asked``: the model by the name that the client used."""

    spender: Spender
    asked: str


class OverBudget(NamedTuple):
    """A budget into which a request did not fit: a sign that it is used up, if almost all of it is spent already."""

    asker: Asker
    limit: str
    scope: str
    name: str


class Costs:
    def __init__(self, wall_s: Callable[[], float] = clock.wall_s) -> None:
        self._wall_s = wall_s
        self._days: dict[int, dict[Asker, Sums]] = {}
        self._refused: set[OverBudget] = set()

    def __repr__(self) -> str:
        return f"<Costs {sum(map(len, self._days.values()))} rows, {len(self._refused)} refused>"

    def fold(self, kind: RequestKind) -> None:
        """Count finished requests of one kind."""
        if kind.free:
            if kind.error == "quota_exhausted":
                self._note_refusals(kind)
            return
        rows = self._days.setdefault(int(self._wall_s() // DAY_S), {})
        if len(self._days) > _DAYS_MAX:
            del self._days[min(self._days)]
        asked, served = kind.model or "", kind.served_model or kind.model or ""
        for use in kind.uses:
            asker = Asker(Spender(kind.tenant, use.key_id, use.plan, served), asked)
            used = Sums(len(use.records), use.prompt_tokens, use.output_tokens, round(use.cost_usd * MICRO))
            before = rows.get(asker)
            if before is None and len(rows) >= ROWS_MAX:
                asker = Asker(OTHERS, "")
                before = rows.get(asker)
            rows[asker] = used if before is None else before.plus(used)

    def _note_refusals(self, kind: RequestKind) -> None:
        for use in kind.uses:
            for record in use.records:
                if record.limit in _BUDGETS and not record.limit_never and len(self._refused) < ROWS_MAX:
                    scope, name = record.limit_scope or "", record.limit_of or ""
                    model = name if scope == MODEL.name else ""  # it may not be the one that was asked for
                    asker = Asker(Spender(kind.tenant, use.key_id, use.plan, model), kind.model or "")
                    self._refused.add(OverBudget(asker, record.limit, scope, name))

    def take(self) -> tuple[dict[int, dict[Asker, Sums]], set[OverBudget]]:
        """By day, everything since the last call."""
        taken = self._days, self._refused
        self._days, self._refused = {}, set()
        return taken
