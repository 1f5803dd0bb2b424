"""router policies: how a backend can be chosen."""

from __future__ import annotations

from dataclasses import dataclass

import typer

from cli.context import AsJson, Context, context

group = typer.Typer(help="How a backend can be chosen.", no_args_is_help=True)


@dataclass(frozen=True, slots=True)
class ListOptions:
    as_json: bool


@group.command("list")
def list_(ctx: typer.Context, as_json: AsJson = False) -> None:
    """Every policy, what it does and whose idea it is. Needs no router."""
    context(ctx).run(run_list, ListOptions(as_json))


def run_list(ctx: Context, options: ListOptions) -> None:
    from router.core.policy import list_policies

    found = [{"name": name, "summary": summary, "source": source} for name, summary, source in list_policies()]
    if options.as_json:
        ctx.out.json(found)
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="dim", padding=(0, 2, 0, 0))
    table.add_column("policy", no_wrap=True, style="bold")
    table.add_column("what it does")
    table.add_column("source", style="dim")
    for policy in found:
        table.add_row(policy["name"], policy["summary"], policy["source"])
    ctx.out.line(table)
