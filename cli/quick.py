"""Commands that scripts ask again and again, as JSON: parsed and answered without Typer, which is half of a start.

It leaves to Typer all that it does not understand for certain; a test compares the two.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from cli.errors import Exit
    from cli.world import Context

#: command -> where the admin API has its document
PATHS = {
    ("status",): "status",
    ("regions", "list"): "regions",
    ("routers", "list"): "routers",
    ("capacity",): "capacity",
}
#: commands that take --router
_OF_ONE = {("status",), ("regions", "list")}
_VALUES = ("--admin-url", "--admin-token", "--context", "--router")


class Asked(NamedTuple):
    """A command and its flags by name."""

    command: tuple[str, ...]
    flags: dict[str, str]


def understood(words: Sequence[str]) -> Asked | None:
    """None: something else is wanted, or it is not certain what."""
    command = next((c for c in PATHS if tuple(words[: len(c)]) == c), None)
    if command is None or "--json" not in words:
        return None
    rest, flags = iter(words[len(command) :]), dict[str, str]()
    for word in rest:
        if word in ("--json", "-q", "--quiet"):
            continue
        value = next(rest, "")
        if word not in _VALUES or word in flags or not value or value.startswith("-"):
            return None
        flags[word] = value
    if ("--router" in flags and command not in _OF_ONE) or {"--admin-url", "--context"} <= flags.keys():
        return None
    return Asked(command, flags)


def answer(asked: Asked) -> int:
    """Print the document. The exit code."""
    from cli.world import Context

    flags = asked.flags
    ctx = Context(
        admin_url=flags.get("--admin-url"),
        admin_token=flags.get("--admin-token"),
        context_name=flags.get("--context"),
    )
    return ctx.outcome(lambda: _print(ctx, asked))


def _print(ctx: Context, asked: Asked) -> Exit:
    from cli.errors import Exit

    document = ctx.admin.get(f"/admin/v1/{PATHS[asked.command]}", router=asked.flags.get("--router"))
    ctx.out.json(document)
    well = asked.command != ("status",) or document["router"]["ready"]
    return Exit.OK if well else Exit.UNHEALTHY
