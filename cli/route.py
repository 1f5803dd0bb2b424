"""The route one request took, in two lines: where and how fast, and why there."""

from __future__ import annotations

import time
from typing import Any

from cli import units
from cli.client import Remote, segment
from cli.completion import Answer
from cli.decision_view import STRUCK, chosen, in_seconds, term_names, verdict
from cli.errors import CliError, StatusError
from cli.output import dotted

Json = dict[str, Any]

#: The record of a request is written when its last byte has left; how long to look for it.
_RECORD_TRIES = 20
_RECORD_PAUSE_S = 0.05


def route_line(answer: Answer) -> str:
    """Where it was answered, and how fast."""
    speed = answer.tokens_per_s
    attempts = f"[yellow]{answer.attempts} attempts[/]" if answer.attempts > 1 else None
    tokens = units.plural(answer.output_tokens, "token") if answer.output_tokens is not None else None
    return dotted(
        f"[bold]{' → '.join([answer.backend or 'unknown backend', *answer.went_on])}[/]",
        attempts,
        f"first token {units.seconds(answer.ttft_s)}",
        f"{tokens} in {units.seconds(answer.duration_s)}" if tokens else units.seconds(answer.duration_s),
        f"{units.rate(speed)} tokens/s" if speed else None,
        f"{answer.cached_tokens} of {answer.prompt_tokens} prompt tokens cached" if answer.cached_tokens else None,
    )


def why_line(record: Json) -> str:
    """What was expected of the winner, its cost by its parts, and how much worse each other region's best was."""
    decision = record["decision"]
    winner = chosen(decision)
    if winner is None or winner["cost_s"] is None:
        return f"policy {decision['policy']}"
    show = units.seconds if in_seconds(decision) else "{:.3g}".format
    cost = show(winner["cost_s"])
    terms = [(name, winner["terms"].get(name) or 0.0) for name in term_names(decision)]
    shown = [f"{name} {show(value)}" for name, value in terms if value >= 0.0005]
    own = winner["backend"].partition("/")[0]
    rule = decision.get("reason")
    others: dict[str, list[str]] = {}  # verdict -> the regions it is about
    for region in dict.fromkeys(c["backend"].partition("/")[0] for c in decision["candidates"]):
        if region != own:
            others.setdefault(_verdict_of(region, decision), []).append(region)
    pinned = others.pop(STRUCK["pin"], None)
    told = [f"{', '.join(regions)} {words}" for words, regions in others.items()]
    expected = record["attempts"][-1]["predicted_ttft_s"] if record["attempts"] else None
    return dotted(
        f"predicted {units.seconds(expected)}" if expected is not None else None,
        f"cost {cost} = {' + '.join(shown)}" if shown else f"cost {cost}",
        f"decided by: {rule}" if rule not in (None, "lowest cost") else None,
        f"only {own} was asked for" if pinned else None,
        *told,
    )


def _verdict_of(region: str, decision: Json) -> str:
    """Of the region's best candidate, or all that is in the way of its backends."""
    inside = [c for c in decision["candidates"] if c["backend"].partition("/")[0] == region]
    ranked = [c for c in inside if c["cost_s"] is not None]
    return " and ".join(dict.fromkeys(verdict(c, decision) for c in ranked[:1] or inside))


def find_record(admin: Remote, request_id: str | None) -> Json | None:
    """The router's record of a request that has just ended; None when the admin API does not tell."""
    for _ in range(_RECORD_TRIES if request_id is not None else 0):
        try:
            record: Json = admin.get(f"/admin/v1/requests/{segment(request_id or '')}")
        except StatusError as error:
            if error.status != 404:
                return None
            time.sleep(_RECORD_PAUSE_S)
        except CliError:
            return None
        else:
            return record
    return None
