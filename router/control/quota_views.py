"""How far limits are used, as the JSON of the admin API."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from router.control.last_minute import Use
from router.core.limits import KINDS, LimitKind
from router.core.scopes import TENANT
from router.core.spending import forecast
from router.store.base import Holder, Key, LimitState

_KINDS = {kind.name: kind for kind in KINDS}
_DAY_S = 86_400


def quota(
    holder: Holder,
    limits: Iterable[LimitState],
    use: Use | None = None,
    pace_usd_s: float | None = None,
    plans: Sequence[str] = (),
) -> dict[str, Any]:
    """``key``, ``plan`` and ``last_minute`` are null where the limits are not those of one key. ``use``: of that.
    ``plans``: all that its JWTs have, if they have several."""
    key = holder if isinstance(holder, Key) else None
    return {
        "account": holder.id,
        "scope": holder.scope.name,
        "name": holder.name,
        "key": {"id": key.id, "name": key.name} if key is not None else None,
        "plan": key.plan.name if key is not None else None,
        "plans": [*plans] if key is not None and plans else [key.plan.name] if key is not None else [],
        "plan_missing": key is not None and key.plan_missing,
        "tenant": key.tenant if key is not None else holder.name if holder.scope is TENANT else None,
        "last_minute": (use or Use()).document() if key is not None else None,
        "limits": [] if key is not None and key.plan_missing else [_limit(holder, s, pace_usd_s) for s in limits],
    }


def _limit(holder: Holder, state: LimitState, pace_usd_s: float | None) -> dict[str, Any]:
    kind = _KINDS.get(state.limit)
    return {
        "limit": state.limit,
        "max": state.max,
        "plan_max": getattr(holder.plan, kind.key, None) if kind is not None else None,  # away: a router gives out less
        "used": state.used,
        "remaining": state.remaining,
        "held": state.held,
        "reset_s": state.reset_s,
        "scope": state.scope,
        **_future(kind, state, pace_usd_s),
    }


def _future(kind: LimitKind | None, state: LimitState, pace_usd_s: float | None) -> dict[str, Any]:
    """Of budgets only: what will have been used at the end of the day or month."""
    if kind is None or not kind.money:
        return {}
    if pace_usd_s is None or state.reset_s is None:
        return {"forecast": None, "pace_usd_per_day": None}
    return {
        "forecast": forecast(state.used, pace_usd_s, state.reset_s),
        "pace_usd_per_day": pace_usd_s * _DAY_S,
    }
