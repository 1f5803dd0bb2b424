"""How many tokens a request will cost, before it is sent: estimated from bytes, learned from what engines report."""

from __future__ import annotations

from typing import TypeVar

from router.core.types import Usage

K = TypeVar("K")
V = TypeVar("V")

#: English prose in common tokenizers runs at about four bytes a token.
BYTES_PER_TOKEN_PRIOR = 4.0
#: What an answer is taken to cost while nothing is known and the client sets no maximum.
OUTPUT_TOKENS_PRIOR = 256
_WEIGHT = 0.1
_ENTRIES_MAX = 4096


class _Tokenizer:
    """What the tokens of one model look like."""

    __slots__ = ("bytes_per_token",)

    def __init__(self, bytes_per_token: float) -> None:
        self.bytes_per_token = bytes_per_token


class _Habit:
    """What the requests of one key to one model run to."""

    __slots__ = ("output_tokens", "tokenizer")

    def __init__(self, tokenizer: _Tokenizer, output_tokens: float) -> None:
        self.tokenizer = tokenizer
        self.output_tokens = output_tokens


class TokenEstimator:
    """Learns bytes per prompt token per model, and tokens per answer per key and model. Bounded memory."""

    __slots__ = ("_habits", "_tokenizers")

    def __init__(self) -> None:
        self._tokenizers: dict[str, _Tokenizer] = {}
        self._habits: dict[tuple[str, str], _Habit] = {}

    def estimate(self, key_id: str, model: str, prompt_bytes: int, max_tokens: int | None) -> tuple[int, int]:
        """Tokens of the prompt, at least 1, and tokens to reserve for the answer.

        The latter is what such answers run to for this key, and never more than was asked for.
        """
        habit = self._habits.get((key_id, model))
        if habit is None:
            tokenizer = self._tokenizers.get(model)
            bytes_per_token = BYTES_PER_TOKEN_PRIOR if tokenizer is None else tokenizer.bytes_per_token
            return int(prompt_bytes / bytes_per_token) + 1, OUTPUT_TOKENS_PRIOR if max_tokens is None else max_tokens
        prompt_tokens = int(prompt_bytes / habit.tokenizer.bytes_per_token) + 1
        if max_tokens is None:
            return prompt_tokens, int(1.5 * habit.output_tokens) + 1
        usual = int(2.0 * habit.output_tokens) + 16
        return prompt_tokens, max_tokens if max_tokens < usual else usual

    def learn(self, key_id: str, model: str, prompt_bytes: int, usage: Usage) -> None:
        """Take in what an engine reported."""
        if prompt_bytes <= 0 or usage.prompt_tokens <= 0:
            return
        bytes_per_token = prompt_bytes / usage.prompt_tokens
        if not 0.5 <= bytes_per_token <= 32.0:  # pictures, or nonsense
            bytes_per_token = 0.5 if bytes_per_token < 0.5 else 32.0
        habit = self._habits.get((key_id, model))
        if habit is None:
            tokenizer = self._tokenizers.get(model)
            if tokenizer is None:
                tokenizer = _Tokenizer(bytes_per_token)
                _put(self._tokenizers, model, tokenizer)
            habit = _Habit(tokenizer, float(usage.output_tokens))
            _put(self._habits, (key_id, model), habit)
        tokenizer = habit.tokenizer
        tokenizer.bytes_per_token += _WEIGHT * (bytes_per_token - tokenizer.bytes_per_token)
        habit.output_tokens += _WEIGHT * (usage.output_tokens - habit.output_tokens)


def _put(table: dict[K, V], key: K, value: V) -> None:
    """Add an entry; the oldest one makes room."""
    if len(table) >= _ENTRIES_MAX:
        del table[next(iter(table))]
    table[key] = value
