"""How many tokens a request will cost, before it is sent: estimated from bytes, learned from what engines report."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import TypeVar

from router.core.params import Params
from router.core.prices import Price, microusd
from router.core.types import Usage

K = TypeVar("K")
V = TypeVar("V")

#: The longest answer that is expected where the client sets no maximum.
OUTPUT_TOKENS_LONGEST = 4096
#: No guess of an answer's length reserves more than a quarter of what a limit allows in a minute, rounded up: a fifth
#: has no place beside four.
GUESS_DIVISOR = 4
#: Bytes of a whole answer beside its text: its id, model, roles and braces.
ANSWER_FRAME_BYTES = 256
_ENTRIES_MAX = 4096


class _Tokenizer:
    """Bytes per token in the prompts of one model, and tokens that its chat template adds to each: at least one.
    ``template_seen``: the latter were seen."""

    __slots__ = ("bytes_per_token", "template_seen", "template_tokens")

    def __init__(self, bytes_per_token: float, template_tokens: float = 1.0) -> None:
        self.bytes_per_token = bytes_per_token
        self.template_tokens = template_tokens
        self.template_seen = False

    def learn_template(self, seen: float, weight: float) -> None:
        before = self.template_tokens
        self.template_tokens = before + weight * (seen - before) if self.template_seen else seen
        self.template_seen = True


class _Habit(_Tokenizer):
    """The same in the requests of one key to one model, and tokens of their answers: None before the first."""

    __slots__ = ("answers", "output_tokens")

    def __init__(self, bytes_per_token: float, template_tokens: float) -> None:
        super().__init__(bytes_per_token, template_tokens)
        self.output_tokens: float | None = None
        self.answers = 0


class TokenEstimator:
    """Learns bytes per token of prompts, tokens that templates add, and tokens of answers, per key and model. Bounded
    memory.

    Only text teaches, and what others write teaches a key nothing once it has written itself: a tenant with pictures,
    or with a language of its own, spoils the estimates of nobody else.
    """

    __slots__ = ("_habits", "_params", "_prior", "_tokenizers")

    def __init__(self, params: Params) -> None:
        self._params = params
        self._prior = _Tokenizer(params.bytes_per_token_prior)
        self._tokenizers: dict[str, _Tokenizer] = {}
        self._habits: dict[tuple[str, str], _Habit] = {}

    def estimate(self, key_id: str, model: str, text_bytes: int, max_tokens: int | None) -> tuple[int, int]:
        """Tokens of a prompt with this text, at least 1, and tokens to reserve for the answer.

        The latter is what such answers run to for this key, and never more than was asked for.
        """
        habit = self._habits.get((key_id, model))
        if habit is None or habit.output_tokens is None:
            known = self._known(key_id, model)
            prompt_tokens = int(text_bytes / known.bytes_per_token + known.template_tokens)
            return prompt_tokens, self._params.output_tokens_prior if max_tokens is None else max_tokens
        prompt_tokens = int(text_bytes / habit.bytes_per_token + habit.template_tokens)
        if max_tokens is None:
            return prompt_tokens, int(1.5 * habit.output_tokens) + 1
        usual = int(2.0 * habit.output_tokens) + 16
        return prompt_tokens, max_tokens if max_tokens < usual else usual

    def bytes_per_token(self, key_id: str, model: str) -> float:
        """As far as is known."""
        return self._known(key_id, model).bytes_per_token

    def _known(self, key_id: str, model: str) -> _Tokenizer:
        return self._habits.get((key_id, model)) or self._tokenizers.get(model) or self._prior

    def learn(self, key_id: str, model: str, text_bytes: int | None, usage: Usage, *, writes: bool = True) -> None:
        """Take in what an engine reported. ``text_bytes``: of a prompt that was nothing but text, else None.
        ``writes``: the request was for an answer of tokens."""
        habit = self._habits.get((key_id, model))
        if habit is None:
            known = self._known(key_id, model)
            habit = _Habit(known.bytes_per_token, known.template_tokens)
            _put(self._habits, (key_id, model), habit)
        params = self._params
        if writes:
            usual = habit.output_tokens
            if usual is None:
                usual = float(usage.output_tokens)
            habit.output_tokens = usual + params.tokens_weight * (usage.output_tokens - usual)
        answers = habit.answers = habit.answers + 1
        if answers > params.answers_all and answers & 7:
            return
        if text_bytes is None or usage.prompt_tokens <= 0:
            return
        if text_bytes < params.text_bytes_min or usage.prompt_tokens > text_bytes:
            template_tokens = usage.prompt_tokens - text_bytes / habit.bytes_per_token
            for each in (habit, self._tokenizer(model)):
                each.learn_template(max(1.0, min(template_tokens, params.template_tokens_max)), params.tokens_weight)
            return
        bytes_per_token = text_bytes / max(1.0, usage.prompt_tokens + 1 - habit.template_tokens)
        if not params.bytes_per_token_min <= bytes_per_token <= params.bytes_per_token_max:
            return
        habit.bytes_per_token = self._towards(habit.bytes_per_token, bytes_per_token, params.key_step)
        tokenizer = self._tokenizer(model)
        tokenizer.bytes_per_token = self._towards(tokenizer.bytes_per_token, bytes_per_token, params.model_step)

    def _tokenizer(self, model: str) -> _Tokenizer:
        tokenizer = self._tokenizers.get(model)
        if tokenizer is None:
            tokenizer = _Tokenizer(self._params.bytes_per_token_prior)
            _put(self._tokenizers, model, tokenizer)
        return tokenizer

    def _towards(self, known: float, seen: float, step: float) -> float:
        """A part of the way, and no further than ``step`` of what is known: that follows the median, not the
        outliers."""
        most = step * known
        move = self._params.tokens_weight * (seen - known)
        return known + (most if move > most else -most if move < -most else move)


def guessed(output_tokens: int, prompt_tokens: int, rates: Sequence[tuple[int, bool]]) -> int:
    """The tokens of an answer whose length nobody has asked for, as far as they are reserved: a guess refuses nobody
    for good, and is settled anyway. ``rates``: limits on output tokens, see ``Limits.answers``."""
    for per_minute, with_prompt in rates:
        most = -(-per_minute // GUESS_DIVISOR)
        if with_prompt and per_minute - prompt_tokens < most:
            most = max(0, per_minute - prompt_tokens)
        if most < output_tokens:
            output_tokens = most
    return output_tokens


def guessed_microusd(price: Price | None, prompt_tokens: int, output_tokens: int, budgets: Sequence[int]) -> int:
    """The same in millionths of a dollar: what is reserved for a prompt and an answer whose length nobody has asked
    for."""
    whole, prompt = microusd(price, prompt_tokens, output_tokens), microusd(price, prompt_tokens, 0)
    for budget in budgets:
        whole = min(whole, prompt + max(0, min(-(-budget // GUESS_DIVISOR), budget - prompt)))
    return whole


def worst_microusd(
    price: Price, expected: int, prompt_tokens: int, text_bytes: int, item_tokens: int, budgets: Iterable[int]
) -> int:
    """The most that a request costs if its prompt has more tokens than were guessed, in millionths of a dollar: a text
    has no more tokens than bytes. ``expected``: by the guess. A prompt that might cost more than a whole budget is not
    refused for good."""
    more = microusd(price, max(0, text_bytes + item_tokens - prompt_tokens), 0)
    return max(expected, min([expected + more, *budgets]))


def longest(
    max_tokens: int | None, choices: int, usual_tokens: int, prompt_tokens: int, rates: Sequence[tuple[int, bool]]
) -> int:
    """The tokens to which the answers of a request may run."""
    if max_tokens is not None:
        return max_tokens * choices
    return max(usual_tokens, guessed(OUTPUT_TOKENS_LONGEST * choices, prompt_tokens, rates))


def charged(usage: Usage | None, prompt_tokens: int, text_bytes: int, bytes_per_token: float) -> Usage:
    """The tokens that an answer is charged with which was delivered: as reported, or counted. None costs nothing.

    ``prompt_tokens``: as estimated; ``text_bytes``: of an answer in one piece that is text, else 0.
    """
    if usage is None or not (usage.prompt_tokens or usage.output_tokens):
        return Usage(prompt_tokens, math.ceil(max(0, text_bytes - ANSWER_FRAME_BYTES) / bytes_per_token))
    if not usage.prompt_tokens:
        return Usage(prompt_tokens, usage.output_tokens, usage.cached_tokens, usage.reported)
    return usage


def _put(table: dict[K, V], key: K, value: V) -> None:
    """Add an entry; the oldest one makes room."""
    if len(table) >= _ENTRIES_MAX:
        del table[next(iter(table))]
    table[key] = value
