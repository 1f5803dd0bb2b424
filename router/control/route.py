"""One route of the admin API: its path, what it takes, and who answers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from aiohttp import web

from router.control.operators import Operators
from router.control.plane import ControlPlane

CONTROL: web.AppKey[ControlPlane] = web.AppKey("control", ControlPlane)
OPERATORS: web.AppKey[Operators] = web.AppKey("operators", Operators)
DOCUMENT: web.AppKey[dict[str, Any]] = web.AppKey("document", dict)

#: before every path
V1 = "/admin/v1"

Handler = Callable[[web.Request, ControlPlane], Awaitable[web.StreamResponse]]


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter of the query."""

    name: str
    kind: str  # JSON Schema type
    doc: str


@dataclass(frozen=True, slots=True)
class Route:
    method: str
    path: str  # parameters in braces, as OpenAPI writes them
    name: str  # operationId
    summary: str
    handler: Handler
    query: tuple[Param, ...] = ()
    body: dict[str, Any] | None = None  # JSON Schema
    body_optional: bool = False
    status: int = 200
    content_type: str = "application/json"
    open: bool = False  # needs no token
    changes: bool = True  # False: also with POST it only looks, or asks
    role: str | None = None  # that the caller needs; None: what ``needs`` says

    @property
    def needs(self) -> str:
        """The role that the caller needs: to look, to operate, or to decide who may do what."""
        return self.role or ("read" if self.method == "GET" else "operate")

    @property
    def writes(self) -> bool:
        """It changes something."""
        return self.changes and self.method != "GET" and self.needs != "read"
