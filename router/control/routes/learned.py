"""What this router has learned of its fleet, and the records it learned from: for ``router replay`` and ``plan``."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson
from aiohttp import web

from router import clock
from router.config import fingerprint
from router.control.inputs import number
from router.control.plane import ControlPlane
from router.control.replies import reply
from router.control.route import V1, Param, Route
from router.core.knowledge import knowledge_of
from router.telemetry.journal import as_document

JOURNAL_MAX = 100_000
#: Records that are written at once. The loop serves requests in between.
_TOGETHER = 100


def learned(control: ControlPlane) -> dict[str, Any]:
    config = control.reloader.config
    return {
        "router": {
            "name": config.router.name,
            "version": control.version,
            "policy": config.router.policy,
            "config_hash": fingerprint(config),
        },
        "at_s": clock.wall_s(),
        **knowledge_of(control.fleet, control.now_s()),
    }


async def show_learned(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    return reply(learned(control))


async def read_journal(request: web.Request, control: ControlPlane) -> web.StreamResponse:
    """The newest records, the oldest of them first, as the journal's file has them."""
    limit = int(number(request, "limit", JOURNAL_MAX, low=1, high=JOURNAL_MAX))
    control.telemetry.flush()
    records = control.telemetry.journal.list(limit=limit)[::-1]
    headers = {"Content-Type": "application/json", "Cache-Control": "no-store"}
    response = web.StreamResponse(headers=headers)
    await response.prepare(request)
    await response.write(b'{"data":[')
    for at in range(0, len(records), _TOGETHER):
        lines = [orjson.dumps(as_document(r), option=orjson.OPT_NON_STR_KEYS) for r in records[at : at + _TOGETHER]]
        await response.write((b"," if at else b"") + b",".join(lines))
        await asyncio.sleep(0)
    await response.write(b"]}\n")
    await response.write_eof()
    return response


ROUTES: tuple[Route, ...] = (
    Route(
        "GET",
        f"{V1}/learned",
        "showLearned",
        "What this router has learned of each backend: prefill, decode, pace, distance, KV cache, with the samples.",
        show_learned,
    ),
    Route(
        "GET",
        f"{V1}/journal",
        "readJournal",
        "The records of the last requests, the oldest first, as the journal's file has them.",
        read_journal,
        query=(Param("limit", "integer", f"At most this many, the newest (1 to {JOURNAL_MAX})."),),
    ),
)
