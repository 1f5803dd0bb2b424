"""The one number that an autoscaler asks for: how many backends of a model are needed in a region, or in all. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from router.config.selectors import label_value


class UnheardError(Exception):
    """Nobody can say yet, and why."""


class NoNumberError(Exception):
    """No number is asked for."""


def needed_number(capacity: Sequence[dict[str, Any]], model: str, region: str | None) -> int:
    """``capacity``: the groups of the document of ``router capacity``. Whoever waits needs one at least. Names are as
    they are, or as a label spells them. ``region`` None: the sum of all. Raises UnheardError and NoNumberError."""
    groups = [
        group
        for group in capacity
        if model in (group["model"], label_value(group["model"]))
        and (region is None or region in (group["region"], label_value(group["region"])))
    ]
    where = f" in {region}" if region is not None else ""
    if unheard := [group for group in groups if group["reason"] == "unheard"]:
        raise UnheardError(f"nobody can say yet how many of {model} are needed{where}: {unheard[0]['meaning']}")
    found = [group for group in groups if group["needed"] is not None]
    if not found:
        raise NoNumberError(f"no number is asked for of {model}{where}: is [models.{model!r}] target_ttft_s set?")
    return sum(max(group["needed"], int(group["waiting"] > 0)) for group in found)
