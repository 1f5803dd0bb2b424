"""Model names that clients use -> models that backends serve: weighted targets (canary), then fallbacks."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import orjson

from router.config import ModelAlias
from router.core.types import Rng

_TOKEN = re.compile(rb'"(?:[^"\\]|\\.)*"|[{}\[\]:,]', re.DOTALL)


class Aliases:
    """``[models.*]`` of the configuration."""

    def __init__(self, models: Mapping[str, ModelAlias]) -> None:
        self._models = dict(models)

    def names(self) -> list[str]:
        return sorted(self._models)

    def get(self, model: str) -> ModelAlias | None:
        return self._models.get(model)

    def microusd(self, model: str, prompt_tokens: int, output_tokens: int) -> int:
        """What these tokens cost in millionths of a dollar: USD per million tokens is microusd per token."""
        alias = self._models.get(model)
        if alias is None:
            return 0
        return math.ceil(
            prompt_tokens * alias.price_input_usd_per_mtok + output_tokens * alias.price_output_usd_per_mtok
        )

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


def rewrite_model(body: bytes, model: bytes) -> bytes:
    """The same JSON object with the value of its top-level ``model`` replaced; every other byte stays.

    ``model`` is the new value as JSON, with its quotes. A body without such a string comes back as it is.
    """
    depth = 0
    key: bytes | None = None
    expect_value = False
    out: list[bytes] = []
    copied = 0
    for match in _TOKEN.finditer(body):
        token = match.group()
        first = token[0]
        if first in b"{[":
            depth += 1
            expect_value = False
        elif first in b"}]":
            depth -= 1
        elif depth != 1:
            continue
        elif first == 58:  # a colon
            expect_value = True
        elif first == 44:  # a comma
            expect_value, key = False, None
        elif expect_value:
            if key == b'"model"' or (key is not None and b"\\" in key and _spells_model(key)):
                out += (body[copied : match.start()], model)
                copied = match.end()
            expect_value = False
        else:
            key = token
    return b"".join((*out, body[copied:])) if out else body


def _spells_model(key: bytes) -> bool:
    """Whether this string with escapes is the word ``model``."""
    try:
        return bool(orjson.loads(key) == "model")
    except orjson.JSONDecodeError:
        return False
