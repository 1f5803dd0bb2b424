"""Everything about one backend, one region, one key or one request, as one looks into it."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from cli import units
from cli.client import Remote, segment
from cli.commands.events import events_table
from cli.commands.explain import headline
from cli.commands.traffic import request_cells, request_facts, requests_table
from cli.decision_view import DecisionTable, changes
from cli.errors import StatusError
from cli.output import Table, dotted, escape, facts
from cli.region_states import region_state, story
from cli.region_tables import backend_facts, backends_table
from cli.waterfall import waterfall
from cli.why import sentence

if TYPE_CHECKING:
    from rich.console import RenderableType

Json = dict[str, Any]

_V1 = "/admin/v1"
_EVENTS = 12
_REQUESTS = 12
#: For a question that is not sent: what a request of this many tokens would cost at each backend.
_PROMPT = "Why is the sky blue? "


def of_request(admin: Remote, request_id: str) -> RenderableType:
    """As ``router traffic show``: the sentence, the facts, the waterfall, the decision. In flight: how far it is."""
    try:
        record = admin.get(f"{_V1}/requests/{segment(request_id)}")
    except StatusError as error:
        if error.status != 404:
            raise
        live = admin.get(f"{_V1}/requests/in-flight", limit=1000)["data"]
        found = next((r for r in live if r["request_id"] == request_id), None)
        if found is None:
            raise
        return in_flight_facts(found)
    return request_story(record)


def request_story(record: Json) -> RenderableType:
    parts: list[RenderableType] = [f"[bold]{escape(sentence(record))}[/]", "", request_facts(record)]
    if record["attempts"]:
        parts += ["", waterfall(record)]
    if record["decision"]["candidates"]:
        parts += ["", *_decision(record["decision"])]
    return _stacked(parts)


def _decision(decision: Json) -> list[RenderableType]:
    return [headline(decision), "", DecisionTable(decision, bars=True), *changes(decision)]


def in_flight_facts(live: Json) -> RenderableType:
    """How far a request is that has not ended."""
    there = f"{units.seconds(live['at_backend_s'])} there" if live["at_backend_s"] is not None else None
    expected = live["predicted_ttft_s"]
    first = f"first token after {units.seconds(live['ttft_s'])}" if live["ttft_s"] is not None else None
    if first is None and expected is not None:
        first = f"first token expected {units.seconds(expected)} after it was sent"
    waited = f"waited {units.seconds(live['wait_s'])} for a place" if live["wait_s"] > 0.0005 else None
    tokens = f"{units.count(live['prompt_tokens'])} prompt, {units.count(live['output_tokens'])} answer so far"
    told = facts(
        {
            "request": f"[bold]{escape(live['request_id'])}[/]",
            "arrived": dotted(units.clock(live["arrival_s"]), f"{units.seconds(live['age_s'])} ago", live["path"]),
            "now": dotted(f"[cyan]{live['phase']}[/]", waited, first),
            "backend": dotted(escape(live["backend"] or units.UNKNOWN), there, _attempts(live["attempts"])),
            "beside it": escape(live["hedge"]) if live["hedge"] else None,
            "model": escape(live["model"] or units.UNKNOWN),
            "for": dotted(f"tenant {escape(live['tenant'])}", f"key {live['key_id']}" if live["key_id"] else None),
            "tokens": tokens,
        }
    )
    return _stacked(["[bold]It is on its way.[/] The waterfall and the decision are here when it has ended.", "", told])


def _attempts(number: int) -> str | None:
    return f"attempt {number}" if number > 1 else None


def of_backend(admin: Remote, backend: Json) -> RenderableType:
    """Its facts, what a request would cost there now, what runs there, and its history."""
    name = backend["name"]
    parts: list[RenderableType] = [backend_facts(backend)]
    if backend["models"]:
        model = backend["models"][0]
        asked = {"model": model, "messages": [{"role": "user", "content": _PROMPT}]}
        try:
            decision = admin.post(f"{_V1}/explain", asked)["decision"]
        except StatusError as error:
            parts += ["", f"[dim]what a request for {escape(model)} would cost:[/] {escape(error.message)}"]
        else:
            parts += ["", f"[dim]a short request for {escape(model)} now:[/]", *_decision(decision)]
    return _stacked([*parts, *_traffic(admin, name), *_history(admin, backend=name)])


def of_region(admin: Remote, region: Json) -> RenderableType:
    """Its backends, what runs there, and its history."""
    law = region["jurisdiction"] and f"jurisdiction {region['jurisdiction']}"
    head = f"[bold]{escape(region['name'])}[/]  {region_state(region)}  {dotted(law, story(region))}"
    parts: list[RenderableType] = [head, "", backends_table(region["backends"])]
    return _stacked([*parts, *_traffic(admin, region["name"]), *_history(admin, region=region["name"])])


def of_key(admin: Remote, key: Json) -> RenderableType:
    """How far its limits are used, and its last requests."""
    from cli.commands.quota import quota_table

    quotas = admin.get(f"{_V1}/quotas", key=key["id"])["data"]
    last = admin.get(f"{_V1}/requests", limit=_REQUESTS, key=key["id"])["data"]
    expires = "never" if key.get("expires_s") is None else units.clock(key["expires_s"])
    told = facts(
        {
            "key": f"[bold]{escape(key['name'])}[/]  [dim]{escape(key['id'])}[/]",
            "for": dotted(f"tenant {escape(key['tenant'])}", f"plan {escape(key['plan'])}"),
            "expires": expires,
        }
    )
    return _stacked([told, "", quota_table(quotas), *_last(last)])


def _traffic(admin: Remote, place: str) -> list[RenderableType]:
    """What runs there, and what ended there last. ``place``: a backend or a region."""
    live = admin.get(f"{_V1}/requests/in-flight", limit=1000)["data"]
    there = [r for r in live if place in (r["backend"], r["region"])]
    parts: list[RenderableType] = []
    if there:
        parts += ["", f"[dim]in flight there: {len(there)}, the longest first[/]", _live_table(there[:_REQUESTS])]
    return [*parts, *_last(admin.get(f"{_V1}/requests", limit=_REQUESTS, backend=place)["data"])]


def _last(requests: list[Json]) -> list[RenderableType]:
    if not requests:
        return ["", "[dim]no requests ended there that are still known[/]"]
    made = requests_table()
    for summary in requests:
        made.add_row(*request_cells(summary))
    return ["", "[dim]the last requests[/]", made]


def _live_table(requests: list[Json]) -> Table:
    columns = ("request", "for", "phase", "model", "first token", "tokens", "tenant")
    made = Table(columns, right=("for", "first token", "tokens"), drop=("tenant", "model", "first token"))
    for r in requests:
        made.add_row(
            escape(r["request_id"]),
            units.seconds(r["age_s"]),
            f"[cyan]{r['phase']}[/]",
            escape(r["model"] or units.UNKNOWN),
            units.seconds(r["ttft_s"]),
            f"{units.count(r['prompt_tokens'])} → {units.count(r['output_tokens'])}",
            escape(r["tenant"]),
        )
    return made


def _history(admin: Remote, **about: str) -> list[RenderableType]:
    found = admin.get(f"{_V1}/events", limit=_EVENTS, **about)["data"]
    return ["", "[dim]history[/]", events_table(found)] if found else []


def event_facts(event: Json) -> RenderableType:
    from cli.commands.events import change

    return _stacked(
        [
            facts(
                {
                    "event": f"[bold]{escape(event['subject'])}[/]  {change(event)}",
                    "kind": event["kind"],
                    "time": f"{units.clock(event['at_s'])}, {units.ago(max(0.0, time.time() - event['at_s']))}",
                    "why": escape(event["why"] or "") or None,
                    "who": escape(event["who"] or "") or None,
                    "router": escape(event["router"]),
                }
            )
        ]
    )


def _stacked(parts: list[RenderableType]) -> RenderableType:
    from rich.console import Group
    from rich.text import Text

    return Group(*(Text.from_markup(part) if isinstance(part, str) else part for part in parts))
