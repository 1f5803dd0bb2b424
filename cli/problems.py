"""Problems and warnings of a regions.toml, taken apart for scripts, and warnings with the line that they are about."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from router.config import Config

#: The key or table that a text is about, as the loader and the warnings write it.
_LABEL = re.compile(
    r"""(?P<path> \[{1,2}[^\]]+\]{1,2} (?: \s (?: "[^"]*" | \#\d+ | [\w-]+ ) )* (?: :\ [\w-]+ (?=:) )?
        | [\w.-]+/[\w.-]+ | [a-z_]+ (?=:\ unknown\ key) ) (?: :\ | (?=\ ) ) """,
    re.VERBOSE,
)
_HINT = re.compile(r'(?:, |; )(?P<hint>did you mean ".*"\?|write .*|name .*|use .*)$')
_TABLE = re.compile(r"\[(\w+)(?:\.([^\]]+))?\](?: ([\w-]+))?")


def taken_apart(text: str, source: str) -> dict[str, Any]:
    """``file:line: path: message, hint`` as its parts; what it does not have is null."""
    rest, line = text, None
    if text.startswith(f"{source}:"):
        found = re.match(r"(\d+)?:? ?", text[len(source) + 1 :])
        assert found is not None
        line = int(found[1]) if found[1] else None
        rest = text[len(source) + 1 + found.end() :]
    path = None
    label = _LABEL.match(rest)
    if label is not None:
        path, rest = label["path"], rest[label.end() :].strip()
    hint = _HINT.search(rest)
    if hint is not None:
        rest = rest[: hint.start()]
    return {"file": source, "line": line, "path": path, "message": rest, "hint": hint["hint"] if hint else None}


def located(warnings: Sequence[str], config: Config) -> list[str]:
    """The warnings with the file, and the line where that can be told."""
    from router.config.places import line_of, locate

    try:
        places = locate(Path(config.source).read_text("utf-8-sig").replace("\r\n", "\n"))
    except (OSError, ValueError):
        places = {}
    made = []
    for warning in warnings:
        line = line_of(places, _path_of(warning, config))
        made.append(f"{config.source}:{line}: {warning}" if line else f"{config.source}: {warning}")
    return made


def _path_of(warning: str, config: Config) -> tuple[str | int, ...]:
    """The key or table of the file that a warning begins with; empty if it names none."""
    if (table := _TABLE.match(warning)) is not None:
        return tuple(part for part in table.groups() if part)
    name = re.split(r"[: ]", warning, maxsplit=1)[0]
    for number, region in enumerate(config.regions):
        for place, spec in enumerate(region.backends):
            if spec.name == name:
                return ("regions", number, "backends", place)
    return ()
