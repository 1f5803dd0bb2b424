"""The tables of keys, requests and events."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from cli import units
from cli.commands.events import change
from cli.commands.traffic import remark, status_text
from cli.output import escape, state
from cli.top.fleet import failed, number, seconds, text
from cli.top.sheets import Cell, Column, Row, Sheet
from cli.top.view import View

Json = Mapping[str, Any]

KEYS = (
    Column("key", text=True),
    Column("tenant", text=True, leaves=4),
    Column("plan", text=True, leaves=6),
    Column("last minute", right=True, leaves=8, largest=True),
    Column("refused", right=True, leaves=9, largest=True),
    Column("requests/1h", right=True, largest=True),
    Column("failed/1h", right=True, leaves=7, largest=True),
    Column("tokens/1h", right=True, leaves=10, largest=True),
    Column("p50/1h", right=True, leaves=5, largest=True),
    Column("cost/1h", right=True, largest=True),
    Column("fullest limit", leaves=11, largest=True),
    Column("id", leaves=2),
    Column("expires", leaves=1),
    Column("", leaves=12),
)

REQUESTS = (
    Column("time", leaves=3, largest=True),
    Column("for", right=True, largest=True),
    Column("status"),
    Column("backend", text=True),
    Column("model", text=True, leaves=6),
    Column("first token", right=True, leaves=9, largest=True),
    Column("tokens", right=True, leaves=5, largest=True),
    Column("attempts", right=True, leaves=4, largest=True),
    Column("tenant", text=True, leaves=7),
    Column("router", text=True, leaves=2),
    Column("request", text=True, leaves=1),
    Column("remarks", text=True, leaves=8),
)

EVENTS = (
    Column("time", largest=True),
    Column("ago", right=True, leaves=4),
    Column("kind", leaves=5),
    Column("subject", text=True),
    Column("change", text=True),
    Column("why", text=True, leaves=6),
    Column("who", text=True, leaves=3),
    Column("router", text=True, leaves=2),
)


#: How the table calls what a request waits for, where it is not the same word.
_PHASES = {"place": "waiting", "connection": "connecting"}


def keys(view: View) -> Sheet:
    """Those that can be used, the dearest first."""
    use = view.used_by("key use", "key")
    quotas = {q["account"]: q for q in view.listed("quotas")}
    rows = [_key(k, use.get(k["id"]) or {}, quotas.get(k["id"])) for k in view.listed("keys") if not k["revoked"]]
    rows.sort(key=lambda row: -float(row.cells[9].rank or 0.0))
    return Sheet(KEYS, rows, "no keys: make one with `router keys create NAME`")


def _key(key: Json, told: Json, quota: Json | None) -> Row:
    minute = (quota or {}).get("last_minute") or {}
    fullest = max(
        ((q["used"] / q["max"], q) for q in (quota or {}).get("limits", ()) if q["max"]), default=None, key=_at
    )
    refused = minute.get("refused")
    tokens = told["prompt_tokens"] + told["output_tokens"] if told else None
    wrong = key.get("expired") or key.get("plan_missing")
    cells = (
        Cell(f"[bold]{escape(key['name'])}[/]", key["name"].lower()),
        text(key["tenant"]),
        text(key["plan"]),
        number(minute.get("requests")),
        Cell(f"[yellow]{units.count(refused)}[/]" if refused else units.count(refused), refused),
        number(told.get("requests")),
        failed(told.get("errors"), told.get("requests")),
        number(tokens),
        seconds((told.get("ttft_s") or {}).get("p50")),
        number(told.get("cost_usd"), units.usd(told.get("cost_usd"))),
        _fullest(fullest),
        Cell(f"[dim]{escape(key['id'])}[/]", key["id"]),
        Cell(units.clock(key["expires_s"]) if key.get("expires_s") else "[dim]never[/]", key.get("expires_s")),
        Cell(state("down", text="expired" if key.get("expired") else "plan missing") if wrong else ""),
    )
    about = {"key": f"{key['name']} {key['id']}", "tenant": key["tenant"], "plan": key["plan"]}
    return Row(key["id"], cells, 1 if wrong or refused else 0, (), about)


def _at(entry: tuple[float, Json]) -> float:
    return entry[0]


def _fullest(found: tuple[float, Json] | None) -> Cell:
    if found is None:
        return Cell(units.UNKNOWN)
    ratio, limit = found
    colour = "red" if ratio >= 0.9 else "yellow" if ratio >= 0.7 else "green"
    return Cell(f"[{colour}]{units.ratio(ratio)}[/] of {escape(limit['limit'])}", ratio)


def requests(view: View) -> Sheet:
    """Those in flight, the longest first, then those that ended, the newest first."""
    rows = [*map(_in_flight, view.listed("in flight")), *map(_ended, view.listed("requests"))]
    return Sheet(REQUESTS, rows, "no requests yet: `router chat PROMPT` sends one")


def _in_flight(request: Json) -> Row:
    phase, predicted_s = request["phase"], request["predicted_ttft_s"]
    late = phase == "first token" and predicted_s is not None and request["at_backend_s"] > 2 * predicted_s + 0.5
    remarks = ""
    if late:
        remarks = f"[yellow]first token expected after {units.seconds(predicted_s)}[/]"
    if request["hedge"]:
        remarks = f"{remarks}, also at {escape(request['hedge'])}".lstrip(", ")
    status = Cell(f"[cyan]{_PHASES.get(phase, phase)}[/]", 0)
    return _row(request, request["age_s"], status, remarks, 1 if late else 0, "live")


def _ended(request: Json) -> Row:
    status = Cell(status_text(request["status"]), request["status"])
    return _row(request, request["duration_s"], status, remark(dict(request)), 0, str(request["status"]))


def _row(request: Json, lasted_s: float, status: Cell, remarks: str, alarm: int, word: str) -> Row:
    tokens = request["output_tokens"]
    cells = (
        Cell(f"[dim]{units.clock(request['arrival_s'])}[/]", request["arrival_s"]),
        seconds(lasted_s),
        status,
        text(request["backend"]),
        text(request["model"]),
        seconds(request["ttft_s"]),
        Cell(f"{units.count(request['prompt_tokens'])} → {units.count(tokens)}", request["prompt_tokens"] + tokens),
        number(request["attempts"]),
        text(request["tenant"]),
        text(request.get("router")),
        Cell(f"[dim]{escape(request['request_id'])}[/]", request["request_id"]),
        Cell(remarks, remarks or None),
    )
    names = ("region", "backend", "model", "tenant", "router")
    about = {name: request.get(name) for name in names} | {"key": request["key_id"], "status": word}
    return Row(request["request_id"], cells, alarm, (), about)


def events(view: View, now_s: float) -> Sheet:
    """The newest first. ``now_s``: of the wall's clock."""
    rows = []
    for event in view.listed("events"):
        cells = (
            Cell(f"[dim]{units.clock(event['at_s'])}[/]", event["at_s"]),
            Cell(units.age(max(0.0, now_s - event["at_s"])), -event["at_s"]),
            text(event["kind"]),
            Cell(f"[bold]{escape(event['subject'])}[/]", event["subject"]),
            Cell(change(dict(event)), event["to"]),
            text(event["why"]),
            text(event["who"]),
            text(event["router"]),
        )
        about = {"kind": event["kind"], "subject": event["subject"], "who": event["who"], "router": event["router"]}
        rows.append(Row(event["id"], cells, 0, (), about))
    return Sheet(EVENTS, rows, "nothing has changed yet")
