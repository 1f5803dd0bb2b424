"""The running router, if there is one: what it refuses, what waits for a restart, how it differs from the file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from cli import units
from cli.context import Context
from cli.doctor.symptoms import FAIL, WARN, Symptom, good
from cli.errors import CliError, nobody_runs

Json = dict[str, Any]

_AREA = "router"


def look(ctx: Context, path: str) -> list[Symptom]:
    """``path``: of the file that was looked at."""
    try:
        status = ctx.admin.get("/admin/v1/status")
    except CliError as error:
        if nobody_runs(error):
            return [good(_AREA, ctx.admin.url, "none runs there")]
        return [Symptom(_AREA, ctx.admin.url, FAIL, error.message, error.hint or "See --admin-url and --context.")]
    return [*_lines(status, path)]


def _lines(status: Json, path: str) -> Iterator[Symptom]:
    router, store = status["router"], status["store"]
    name = router["name"]
    text = (
        f"version {router['version']}, generation {router['config_generation']}, up {units.seconds(router['uptime_s'])}"
    )
    if router["ready"]:
        yield good(_AREA, name, f"ready; {text}")
    else:
        yield Symptom(_AREA, name, FAIL, f"not ready: {router.get('not_ready')}", "`router status` shows more.")
    if refused := router.get("config_refused"):
        first = (refused["problems"] or ["no reason given"])[0]
        advice = "Mend the file: the next start would fail."
        yield Symptom(_AREA, name, FAIL, f"refused its file at {units.clock(refused['at_s'])}: {first}", advice)
    for line in router.get("config_pending") or ():
        yield Symptom(_AREA, name, WARN, f"pending until restart: {line}", "Restart it, or take the change back.")
    if store["state"] != "up" or store.get("notice"):
        state = FAIL if store["state"] != "up" else WARN
        yield Symptom(_AREA, name, state, store.get("notice") or f"its store is {store['state']}", "See store, above.")
    for line in status.get("troubles", ()):
        yield Symptom(_AREA, "fleet", FAIL, line, "`router routers list` shows them all.")
    for line in status.get("differences", ()):
        yield Symptom(_AREA, "fleet", WARN, line, "Give every router the same file.")
    for silent in (status.get("fleet") or {}).get("silent", ()):
        yield Symptom(_AREA, silent, FAIL, "it does not answer the others", "`router routers list`")
    source = router["config_source"]
    if os.path.abspath(path) != source:
        text = f"it runs {source}, and {path} was looked at"
        yield Symptom(_AREA, name, WARN, text, "Name the router's file with --config.")
