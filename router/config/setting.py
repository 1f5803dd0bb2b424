"""One key of the file, and one table: kind, bounds, and the words that document it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields
from typing import Any, Literal

Kind = Literal[
    "string", "integer", "number", "boolean", "port", "strings", "numbers", "table", "tables", "tables or table"
]


@dataclass(frozen=True, slots=True)
class Setting:
    """One key. ``problem`` gets a value of the right kind and says what is wrong with it, or None.

    ``secret``: a wrong value is never shown, because it may be a secret in the wrong place.
    """

    name: str
    kind: Kind
    doc: str
    low: float | None = None
    high: float | None = None
    above: float | None = None
    choices: tuple[str, ...] = ()
    problem: Callable[[Any], str | None] | None = None
    required: bool = False
    secret: bool = False
    computed: bool = False  # the default is computed when the file is loaded
    attr: str = ""  # the field of the dataclass, when it has another name
    inner: tuple[Setting, ...] = ()  # keys of the table or tables


@dataclass(frozen=True, slots=True)
class Section:
    """A table of the file. ``named``: one table per name, as in ``[plans.NAME]``."""

    name: str
    doc: str
    model: type
    keys: tuple[Setting, ...]
    named: bool = False


def default(model: type, key: Setting) -> Any:
    """The default of a key, from the dataclass it fills; None when it has none."""
    if key.computed:
        return None
    for field in fields(model):
        if field.name == (key.attr or key.name) and field.default is not MISSING:
            return field.default
    return None
