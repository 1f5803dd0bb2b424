"""What a client is told when no backend answers its request: from the end of the last attempt, or from a refusal."""

from __future__ import annotations

from collections.abc import Collection

from router.config import Plan
from router.core.decisions import Reject
from router.core.outcomes import Outcome
from router.errors import RouterError
from router.gateway.exchange import PassedOn
from router.upstream.classify import AttemptEnd


def error_of_end(end: AttemptEnd, backend: str, *, any_usable: bool) -> RouterError:
    """No other backend may be asked. ``any_usable``: another one of the model could be."""
    if end.objection is not None:
        return PassedOn(end.objection)
    if end.outcome is Outcome.OWN_SHORTAGE:
        return RouterError("router_exhausted", retry_after_s=end.retry_after_s, should_retry=True)
    if end.outcome is Outcome.OVERLOADED:
        return RouterError(
            "admission_full" if end.status == 429 else "no_backend",
            "Every backend that could serve this is overloaded.",
            retry_after_s=end.retry_after_s or 1.0,
            should_retry=True,
        )
    if end.outcome is Outcome.UNREACHABLE and not any_usable:
        return RouterError("no_backend", retry_after_s=1.0, should_retry=True)
    return RouterError(end.code or "upstream_error", f"Backend {backend} {end.detail.rstrip('.')}.")


def error_of_reject(rejected: Reject) -> RouterError:
    """No backend was asked."""
    return RouterError(
        rejected.reason.value,
        rejected.detail,
        retry_after_s=rejected.retry_after_s,
        should_retry=False if rejected.retry_after_s is None else None,  # waiting helps nobody
    )


def not_in_plan(plan: Plan, model: str) -> RouterError:
    listed = ", ".join(plan.models[:20]) + (", …" if len(plan.models) > 20 else "")
    detail = f'The plan "{plan.name}" of this key has no model `{model[:128]}`. It has: {listed}.'
    return RouterError("forbidden", detail, param="model")


def unknown_model(model: str, known: Collection[str]) -> RouterError:
    names = sorted(known)
    listed = ", ".join(names[:20]) + (", …" if len(names) > 20 else "")
    return RouterError(
        "unknown_model",
        f"The model `{model[:128]}` does not exist. Models: {listed or 'none yet'}.",
        param="model",
    )
