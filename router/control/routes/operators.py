"""Who may operate, and who asks."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from router.control.callers import DONE, ROLE, who_of
from router.control.inputs import document_of, text_of
from router.control.operators import ROLES
from router.control.plane import ControlPlane
from router.control.replies import reply
from router.control.route import OPERATORS, V1, Route
from router.errors import RouterError


async def whoami(request: web.Request, control: ControlPlane | None = None) -> web.StreamResponse:
    role = request.get(ROLE, ROLES[-1])
    return reply({"name": who_of(request), "role": role, "token_needed": request.app[OPERATORS].needed})


async def list_operators(request: web.Request, control: ControlPlane | None = None) -> web.StreamResponse:
    operators = request.app[OPERATORS]
    found = [{"name": operator.name, "role": operator.role} for operator in operators.all()]
    return reply({"data": found, "file": None if operators.path is None else str(operators.path.absolute())})


async def add_operator(request: web.Request, control: ControlPlane | None = None) -> web.StreamResponse:
    document = await document_of(request, _NEW)
    name, role = text_of(document, "name", required=True), text_of(document, "role") or ROLES[0]
    try:
        token = await asyncio.to_thread(request.app[OPERATORS].add, name, role)
    except ValueError as error:
        raise RouterError("invalid_request", str(error)) from None
    except OSError as error:
        raise _not_written(error) from None
    request[DONE] = f"{name}, role {role}"
    return reply({"name": name, "role": role, "token": token}, 201)


async def remove_operator(request: web.Request, control: ControlPlane | None = None) -> web.StreamResponse:
    name = request.match_info["operator"]
    try:
        removed = await asyncio.to_thread(request.app[OPERATORS].remove, name)
    except ValueError as error:
        raise RouterError("invalid_request", str(error)) from None
    except OSError as error:
        raise _not_written(error) from None
    if not removed:
        raise RouterError("not_found", "There is no such operator in the file.")
    return reply({"name": name, "removed": True})


def _not_written(error: OSError) -> RouterError:
    return RouterError("invalid_request", f"The file of operators cannot be written: {error.strerror}.")


_NEW: dict[str, Any] = {
    "type": "object",
    "required": ["name"],
    "properties": {
        "name": {"type": "string"},
        "role": {"type": "string", "enum": list(ROLES), "description": "Default: read."},
    },
}

ROUTES: tuple[Route, ...] = (
    Route("GET", f"{V1}/whoami", "whoami", "Who asks, and with which role.", whoami),
    Route("GET", f"{V1}/operators", "listOperators", "Who may operate, without tokens.", list_operators, role="admin"),
    Route(
        "POST",
        f"{V1}/operators",
        "addOperator",
        "Let somebody operate; the token is shown this once.",
        add_operator,
        body=_NEW,
        status=201,
        role="admin",
    ),
    Route(
        "DELETE",
        f"{V1}/operators/{{operator}}",
        "removeOperator",
        "Take the token of an operator out of force.",
        remove_operator,
        role="admin",
    ),
)
