"""Which router's requests go to which region, from the last requests: the lines of the map."""

from __future__ import annotations

from collections import Counter
from typing import Any

from cli.top.view import View
from cli.worldmap import Flow

Json = dict[str, Any]

#: Requests that arrived longer ago than this do not flow any more, in seconds.
FLOWS_S = 60.0
#: Most lines that are drawn; the weakest are left out.
LINES_MAX = 40


def flows(view: View, wall_s: float) -> list[Flow]:
    """The strongest last. Requests that stay in their router's region are not on the way anywhere."""
    places = {r["name"]: r["location"] for r in view.regions if r["location"]}
    at = {router["name"]: router["region"] for router in view.listed("routers")}
    counts: Counter[tuple[Any, Any]] = Counter()
    for request in view.listed("requests"):
        if request["arrival_s"] < wall_s - FLOWS_S:
            continue
        start, end = at.get(request.get("router")), request["region"]
        if start != end and start in places and end in places:
            counts[start, end] += 1
    total = sum(counts.values())
    strongest = counts.most_common(LINES_MAX)
    return [Flow(places[start], places[end], count / total) for (start, end), count in reversed(strongest)]
