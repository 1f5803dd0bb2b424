"""How many tokens a request will cost, before it is sent: estimated from bytes, learned from what engines report."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable
from typing import TypeVar

K = TypeVar("K", bound=Hashable)

#: English prose in common tokenizers runs at about four bytes a token.
BYTES_PER_TOKEN_PRIOR = 4.0
#: What an answer is taken to cost while nothing is known and the client sets no maximum.
OUTPUT_TOKENS_PRIOR = 256.0
_WEIGHT = 0.1
_ENTRIES = 4096


class TokenEstimator:
    """Learns bytes per prompt token per model, and tokens per answer per key and model. Bounded memory."""

    __slots__ = ("_bytes_per_token", "_output")

    def __init__(self) -> None:
        self._bytes_per_token: OrderedDict[str, float] = OrderedDict()
        self._output: OrderedDict[tuple[str, str], float] = OrderedDict()

    def prompt_tokens(self, model: str, prompt_bytes: int) -> int:
        """At least 1."""
        return int(prompt_bytes / self._bytes_per_token.get(model, BYTES_PER_TOKEN_PRIOR)) + 1

    def output_tokens(self, key_id: str, model: str, max_tokens: int | None) -> int:
        """What to reserve for the answer: what such answers run to for this key, never more than was asked for."""
        learned = self._output.get((key_id, model))
        if max_tokens is None:
            return int(1.5 * learned) + 1 if learned is not None else int(OUTPUT_TOKENS_PRIOR)
        return max_tokens if learned is None else min(max_tokens, int(2.0 * learned) + 16)

    def learn(self, key_id: str, model: str, prompt_bytes: int, prompt_tokens: int, output_tokens: int) -> None:
        """Take in what an engine reported."""
        if prompt_tokens > 0 and prompt_bytes > 0:
            sample = min(max(prompt_bytes / prompt_tokens, 0.5), 32.0)
            _blend(self._bytes_per_token, model, sample)
        if output_tokens > 0:
            _blend(self._output, (key_id, model), float(output_tokens))


def _blend(table: OrderedDict[K, float], key: K, sample: float) -> None:
    old = table.get(key)
    table[key] = sample if old is None else old + _WEIGHT * (sample - old)
    if old is None and len(table) > _ENTRIES:
        table.popitem(last=False)
