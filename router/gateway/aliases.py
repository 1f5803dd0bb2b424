"""Model names that clients use -> models that backends serve: weighted targets (canary), then fallbacks."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from router.config import ModelAlias
from router.core.types import Rng
from router.gateway.members import Span, members
from router.gateway.steps import Body, finish
from router.wire.outbound import Piece

#: Where a stretch of a body begins and ends, and what stands there for an engine.
Edit = tuple[int, int, bytes]

_KEY = b'"model"'
#: All of its letters have such a code; a key may be spelled with them.
_ESCAPED_LETTER = b"\\u006"
_VALUE = re.compile(rb'[ \t\r\n]*:[ \t\r\n]*("[^"\\]*")')
_QUOTE = 34


class Aliases:
    """``[models.*]`` of the configuration."""

    def __init__(self, models: Mapping[str, ModelAlias]) -> None:
        self._models = dict(models)

    def names(self) -> list[str]:
        return sorted(self._models)

    def get(self, model: str) -> ModelAlias | None:
        return self._models.get(model)

    def route(self, model: str, rng: Rng) -> tuple[str, ...]:
        """The models to try, in order. A name that is no alias stands for itself."""
        alias = self._models.get(model)
        if alias is None:
            return (model,)
        first = self._pick(alias, rng) if alias.targets else model
        return (first, *(name for name in alias.fallbacks if name != first))

    def may_be(self, model: str, served: str) -> bool:
        """Whether ``served`` can be what answers for ``model``."""
        alias = self._models.get(model)
        if alias is None:
            return served == model
        return served in ([t.model for t in alias.targets] or [model]) or served in alias.fallbacks

    @staticmethod
    def _pick(alias: ModelAlias, rng: Rng) -> str:
        mark = rng.random() * sum(target.weight for target in alias.targets)
        for target in alias.targets:
            mark -= target.weight
            if mark < 0:
                return target.model
        return alias.targets[-1].model


def model_spans(body: Body) -> Sequence[Span]:
    """Where the top-level members ``model`` of a request have their values, those that are strings.

    The request must name a model. Usually only one place in it spells that key, and that place is the one.
    """
    at = body.find(_KEY)
    if at >= 0 and body.find(_KEY, at + len(_KEY)) < 0 and _ESCAPED_LETTER not in body:
        value = _VALUE.match(body, at + len(_KEY))
        if value is not None:
            return (value.span(1),)
    return strings_only(body, finish(members(body, ("model",))).get("model", ()))


def strings_only(body: Body, spans: Sequence[Span]) -> Sequence[Span]:
    return [(begin, end) for begin, end in spans if body[begin] == _QUOTE]


def edited(body: Body, edits: Sequence[Edit]) -> tuple[Piece, ...]:
    """The body with other bytes in some places, in pieces; nothing long is copied."""
    view = memoryview(body)
    pieces: list[Piece] = []
    copied = 0
    for begin, end, new in edits:
        pieces += (view[copied:begin], new)
        copied = end
    pieces.append(view[copied:])
    return tuple(pieces)
