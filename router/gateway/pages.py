"""What the router answers by itself: health, version, and the list of models."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from router import __version__
from router.errors import RouterError
from router.gateway.paths import Own

#: Nobody tells when a model was made: OpenAI's list and Anthropic's name the beginning of the epoch then.
_CREATED = 0
_CREATED_AT = "1970-01-01T00:00:00Z"


def state_page(what: Own, not_ready: str | None) -> tuple[int, dict[str, Any]]:
    """Status and document of a health or version path. ``not_ready``: why this router should get no traffic."""
    if what is Own.VERSION:
        return 200, {"version": __version__}
    if what is Own.ALIVE:
        return 200, {"status": "ok"}
    return (200, {"status": "ready"}) if not_ready is None else (503, {"status": "not ready", "reason": not_ready})


def models_page(names: Iterable[str], name: str) -> dict[str, Any]:
    """The list of models, or the one of this name. Has the members of OpenAI's answer and of Anthropic's."""
    if not name:
        data = [_entry(n) for n in sorted(names)]
        ends = {"first_id": data[0]["id"], "last_id": data[-1]["id"]} if data else {"first_id": None, "last_id": None}
        return {"object": "list", "data": data, "has_more": False, **ends}
    if name not in names:
        raise RouterError("unknown_model", f"The model `{name[:128]}` does not exist.", param="model")
    return _entry(name)


def _entry(name: str) -> dict[str, Any]:
    return {
        "id": name,
        "object": "model",
        "created": _CREATED,
        "owned_by": "meridian",
        "type": "model",
        "display_name": name,
        "created_at": _CREATED_AT,
    }
