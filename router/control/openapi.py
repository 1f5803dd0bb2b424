"""The OpenAPI document of the admin API, made from its routes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

from router.control.route import Route

_PATH_PARAM = re.compile(r"\{(\w+)\}")


def openapi(routes: Sequence[Route], version: str) -> dict[str, Any]:
    """OpenAPI 3.1."""
    paths: dict[str, dict[str, Any]] = {}
    for route in routes:
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Admin API of the router",
            "version": version,
            "description": "Times are in seconds; what is unknown is null.",
        },
        "paths": paths,
        "components": {
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
            "schemas": {"Error": _ERROR},
        },
    }


_ERROR: dict[str, Any] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["message", "type", "param", "code"],
            "properties": {
                "message": {"type": "string"},
                "type": {"type": "string"},
                "param": {"type": ["string", "null"]},
                "code": {"type": "string"},
                "problems": {"type": "array", "items": {"type": "string"}},
                "role_needed": {"type": "string"},
            },
        }
    },
}


def _operation(route: Route) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object"} if route.content_type == "application/json" else {"type": "string"}
    operation: dict[str, Any] = {
        "operationId": route.name,
        "summary": route.summary,
        "responses": {
            str(route.status): {"description": "Done.", "content": {route.content_type: {"schema": schema}}},
            "default": {
                "description": "Refused or failed.",
                "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
            },
        },
    }
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in _PATH_PARAM.findall(route.path)
    ]
    parameters += [
        {"name": p.name, "in": "query", "description": p.doc, "schema": {"type": p.kind}} for p in route.query
    ]
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        operation["requestBody"] = {
            "required": not route.body_optional,
            "content": {"application/json": {"schema": route.body}},
        }
    if not route.open:
        operation["security"] = [{"token": []}, {}]
    return operation
