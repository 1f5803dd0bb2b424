"""The heading, the charts and the map, as large as there is room for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from cli import charts, units, worldmap
from cli.output import STATE_STYLE, dotted, escape, state
from cli.top.flows import flows
from cli.top.sheets import parsed
from cli.top.view import History, View

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text

Json = dict[str, Any]

#: From this width on there is room for a map with the charts beside it.
MAP_WIDTH = 116
#: Charts of one line each.
CHART_LINES = 4


def as_drawn(text: Text, *, wrap: bool = False) -> RenderableType:
    """As rich draws it, in the terminal's own colours."""
    from rich.console import Group

    text.no_wrap = not wrap
    return Group(text)


def heading(view: View, room: int, *, paused: bool = False) -> str:
    """One line: how the router is, whom the figures are about, and the figures that matter most, as many as fit."""
    status = view.status
    if status is None:
        return "[dim]waiting for the router[/]"
    router, traffic = status["router"], status["traffic"]
    name = f"[bold]{escape(scope(status))}[/]"
    parts = [
        "[reverse] paused [/]" if paused else "",
        state("ok", text=name) if router["ready"] else state("down", text=f"[red]not ready[/]  {name}"),
        f"{units.rate(traffic['requests_per_s'])} req/s",
        f"{units.count(traffic['inflight'])} in flight",
        _failed(traffic["error_ratio"]),
        f"p50 {units.seconds(traffic['ttft_s_p50'])}",
        f"p99 {units.seconds(traffic['ttft_s_p99'])}",
        f"[yellow]{units.count(traffic['queued'])} waiting[/]" if traffic["queued"] else "",
        f"{units.rate(traffic['output_tokens_per_s'])} tok/s",
        f"policy {escape(router['policy'])}",
        f"up {units.seconds(router['uptime_s'])}",
    ]
    told = ""
    for part in filter(None, parts):
        longer = dotted(told, part)
        if parsed(longer).cell_len > room:
            break
        told = longer
    return told


def scope(status: Json) -> str:
    """Whom the figures are about: one router by its name, or how many."""
    fleet = status.get("fleet")
    if not fleet or len(fleet["routers"]) == 1:
        name = str(fleet["routers"][0] if fleet else status["router"]["name"])
        return name if not fleet or fleet["scope"] != "this router only" else f"{name} only"
    return units.plural(len(fleet["routers"]), "router")


def _failed(ratio: float | None) -> str:
    if ratio is None:
        return ""
    colour = "red" if ratio >= 0.05 else "yellow" if ratio > 0 else "dim"
    return f"[{colour}]{units.ratio(ratio)} failed[/]"


def notes(view: View) -> list[str]:
    """Other things that must be seen: routers that are silent, differing or refused configurations, the store."""
    status = view.status
    if status is None:
        return []
    fleet, store, router = status.get("fleet") or {}, status["store"], status["router"]
    said = [f"[red]no answer from {escape(name)}[/]" for name in fleet.get("silent", ())]
    if store["state"] not in ("up", "ok"):
        said.append(f"[yellow]store {escape(store['state'])}[/]")
    if router.get("config_refused"):
        said.append("[red]the configuration file is refused[/]")
    said += [f"[red]{escape(line)}[/]" for line in status.get("troubles", ())[:2]]
    said += [f"[yellow]{escape(line)}[/]" for line in status.get("differences", ())[:2]]
    said += [f"[yellow]{escape(name)}: {escape(why)}[/]" for name, why in view.refused.items()]
    return said


def staleness(view: View, now_s: float) -> str:
    """Why the figures are old, and how old; empty while they are of now."""
    if not view.is_stale(now_s):
        return ""
    age_s = view.age_s(now_s)
    old = f"figures of {units.clock(view.wall_s)}, {units.ago(age_s)}"
    return f"{old}: {escape(view.trouble)}" if view.trouble else f"{old}: the router is silent"


def charts_of(view: View) -> list[tuple[str, str, str, History, str]]:
    """The charts: name, value now, unit, history, colour."""
    traffic = view.status["traffic"] if view.status is not None else {}
    queued = f"{units.count(traffic['queued'])} waiting" if traffic.get("queued") else ""
    requests, tokens = units.rate(traffic.get("requests_per_s")), units.rate(traffic.get("output_tokens_per_s"))
    ttft, inflight = units.seconds(traffic.get("ttft_s_p50")), units.count(traffic.get("inflight"))
    return [
        ("requests", requests, "a second", view.requests_per_s, "cyan"),
        ("tokens", tokens, "a second", view.tokens_per_s, "magenta"),
        ("first token", ttft, "p50/1m", view.ttft_s, "yellow"),
        ("in flight", inflight, queued, view.inflight, "green"),
    ]


def lines(view: View, width: int) -> list[Text]:
    """Each chart on one line."""
    from rich.text import Text

    columns = max(10, width - 37)
    return [
        Text.assemble(
            (f"{name:<13}", "dim"),
            (f"{now:>7} ", "bold"),
            (f"{unit:<13}", "dim"),
            (charts.sparkline(history, columns), colour),
        )
        for name, now, unit, history, colour in charts_of(view)
    ]


def stacked(view: View, width: int) -> list[Text]:
    """Each chart under its heading, three lines high; together they are as high as the map."""
    from rich.text import Text

    made: list[Text] = []
    for name, now, unit, history, colour in charts_of(view):
        made.append(Text.assemble((f"{name}  ", "dim"), (now, "bold"), (f" {unit}", "dim")))
        made += [Text(row, style=colour) for row in charts.columns(history, width, 3)]
    return made


def marks(regions: list[Json]) -> list[worldmap.Mark]:
    """The regions on the map: their state as a colour, what is in flight as a number."""
    return [
        worldmap.Mark(
            r["location"],
            f"{r['name']} {units.count(r['inflight'])}",
            STATE_STYLE.get(r["state"], "white"),
            r["name"],
        )
        for r in regions
        if r["location"]
    ]


def overview(view: View, width: int, room: int, wall_s: float) -> tuple[RenderableType, int] | None:
    """The picture above the table of regions, in at most ``room`` lines, and how many it takes; None: no room."""
    from rich.console import Group
    from rich.table import Table as Grid
    from rich.text import Text

    places = marks(view.regions)
    if places and width >= MAP_WIDTH and room >= worldmap.LINES + 1:
        grid = Grid.grid(padding=(0, 3, 0, 0))
        drawn = worldmap.draw(places, flows(view, wall_s))
        grid.add_row(Group(*drawn), Group(*stacked(view, width - worldmap.COLUMNS - 4)))
        return Group(grid, Text()), worldmap.LINES + 1
    if room >= CHART_LINES + 1 and width >= 50:
        return Group(*lines(view, width), Text()), CHART_LINES + 1
    return None
