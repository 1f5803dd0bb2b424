"""Why a request was slow, in one sentence, from what its record tells."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from cli import units
from cli.decision_view import chosen

Json = Mapping[str, Any]

#: Less than this is not worth an explanation, in seconds ...
_WORTH_S = 0.1
#: ... nor less than this share of what was predicted.
_WORTH_SHARE = 0.25
#: Outcomes of attempts that had begun to answer and did not break the stream.
_NOT_A_BREAK = frozenset({"superseded", "client_gone"})
#: Tokens a second below which an answer counts as slow.
_SLOW_TOKENS = 15.0


def sentence(record: Json) -> str:
    """In plain text: where the time went that nobody expected."""
    if record["cause"] == "refused":
        held_s = record.get("held_s") or 0.0
        held = f", held for {units.seconds(held_s)} while nothing of its model ran" if held_s >= _WORTH_S else ""
        return f"Refused after {units.seconds(record['duration_s'])}: no backend was asked{held}."
    attempts = record["attempts"]
    if not attempts:
        return f"It ended after {units.seconds(record['duration_s'])}, before a backend was asked."
    cut = " ".join(_breaks(attempts))
    if record["cause"] != "ok":
        return " ".join(filter(None, (cut, _failed(record))))
    last = attempts[-1]
    if record["ttft_s"] is None:
        return _whole(record, last)
    return " ".join(filter(None, (cut, _streamed(record))))


def _breaks(attempts: Sequence[Json]) -> Iterator[str]:
    """A sentence for each leg that broke and was continued: where, after how many tokens, and who went on."""
    for number, attempt in enumerate(attempts):
        later = [a for a in attempts[number + 1 :] if a["kind"] == "continue"]
        begun = attempt.get("said_tokens") is not None or (attempt["ttft_s"] is not None and attempt["outcome"] != "ok")
        if not begun or not later or attempt["outcome"] in _NOT_A_BREAK:
            continue
        tokens = attempt.get("said_tokens")
        after = f" after {units.plural(tokens, 'token')}" if tokens is not None else ""
        told = f" ({attempt['detail']})" if attempt["detail"] else ""
        verb = "was handed over by" if attempt["outcome"] == "moved" else "was cut at"
        next_one = next((a for a in later if a["ttft_s"] is not None), None)
        text = f"The stream {verb} {attempt['backend']}{after}{told}"
        if next_one is None:
            yield f"{text}."
            continue
        ended_s = attempt["started_s"] + (attempt["duration_s"] or 0.0)
        pause_s = max(0.0, next_one["started_s"] + next_one["ttft_s"] - ended_s)
        yield f"{text} and went on at {next_one['backend']} {units.seconds(pause_s)} later."


def _streamed(record: Json) -> str:
    """Of a stream that came to its end: where the time before its first token went."""
    last = next(a for a in record["attempts"] if a["ttft_s"] is not None)
    lost = _lost(record)
    excess_s = lost[0][0] if lost else 0.0
    first = f"first token after {units.seconds(record['ttft_s'])}"
    expected_s = last["predicted_ttft_s"]
    if lost and excess_s >= _WORTH_S and excess_s >= _WORTH_SHARE * (expected_s or 0.0):
        words = lost[0][1]
        others = [f"{units.seconds(s)} {short}" for s, _, short in lost[1:] if s >= _WORTH_S]
        also = f" (and {' and '.join(others)})" if others else ""
        return f"{_capital(first)}: {words}{also}."
    predicted = f" (predicted {units.seconds(expected_s)})" if expected_s is not None else ""
    return f"Nothing was slow before the answer: {first}{predicted}{_pace(record)}."


def _lost(record: Json) -> list[tuple[float, str, str]]:
    """Time that nobody expected, the most first: how much, in a sentence, and in two or three words."""
    attempts, found = record["attempts"], []
    first_token = next((i for i, a in enumerate(attempts) if a["ttft_s"] is not None), len(attempts) - 1)
    server = attempts[first_token]
    for attempt in attempts[:first_token]:
        took_s, where = attempt["duration_s"] or 0.0, attempt["backend"]
        words = f"{units.seconds(took_s)} went to an attempt at {where} that failed ({attempt['outcome']})"
        found.append((took_s, words, f"in a failed attempt at {where}"))
    held_s, admitted_s = record.get("held_s") or 0.0, record.get("admitted_s") or 0.0
    words = f"{units.seconds(held_s)} of that it was held, as nothing of its model ran and a backend had to be woken"
    found.append((held_s, words, "until a backend was woken"))
    wait_s = record["wait_s"] - held_s
    words = f"{units.seconds(wait_s)} of that it waited in the router, as every backend it may use was full"
    found.append((wait_s, words, "waiting for a place"))
    words = f"{units.seconds(admitted_s)} of that passed before its key and limits were checked and its body was read"
    found.append((admitted_s, words, "before it was admitted"))
    ttft_s, expected_s, where = server["ttft_s"], server["predicted_ttft_s"], server["backend"]
    if ttft_s is not None and expected_s is not None:
        connect_s = server.get("connect_s") or 0.0
        late_s = ttft_s - expected_s - connect_s
        words = f"{units.seconds(late_s)} longer than predicted, inside {where}{_choice(record, late_s)}"
        found.append((late_s, words, f"longer than predicted at {where}"))
        words = f"{units.seconds(connect_s)} of that went into opening a connection to {where}"
        found.append((connect_s, words, f"connecting to {where}"))
    return sorted((part for part in found if part[0] > 0), key=lambda part: -part[0])


def _choice(record: Json, late_s: float) -> str:
    """Whether another backend would have been better, as far as was known."""
    decision = record.get("decision") or {"candidates": []}
    winner = chosen(decision)
    if winner is None or winner["cost_s"] is None:
        return ""
    tried = {attempt["backend"] for attempt in record["attempts"]}
    gaps = [
        (c["cost_s"] - winner["cost_s"], c["backend"])
        for c in decision["candidates"]
        if c["cost_s"] is not None and not c["chosen"] and c["backend"] not in tried
    ]
    if not gaps:
        return "; no other backend could have taken it"
    gap_s, other = min(gaps)
    if gap_s < late_s:
        way = "slower" if gap_s >= 0 else "faster"
        return f"; in hindsight {other} was the better choice, predicted {units.seconds(abs(gap_s))} {way}"
    return f"; nothing was wrong with the choice: {other} was predicted {units.seconds(gap_s)} slower"


def _failed(record: Json) -> str:
    attempts = record["attempts"]
    tried = units.plural(len(attempts), "attempt")
    last = attempts[-1]
    told = f": {last['detail']}" if last["detail"] else ""
    begun = ", in the middle of the answer" if record["ttft_s"] is not None or record["output_tokens"] else ""
    ending = f"{record['cause']} at {last['backend']}{told}"
    failed = f"It failed after {units.seconds(record['duration_s'])} and {tried}{begun}: {ending}"
    if (word := record.get("not_continued")) is None:
        return f"{failed}."
    from router.core.continuable import REASONS

    return f"{failed.rstrip('.')}. No other backend continued it: {REASONS.get(word, word)}."


def _whole(record: Json, last: Json) -> str:
    """Not streamed: there is no first token, and nothing was predicted for the whole."""
    took = units.seconds(record["duration_s"])
    there_s = last["duration_s"] or 0.0
    before_s = record["duration_s"] - there_s
    tokens = units.plural(record["output_tokens"], "token")
    text = f"Not streamed: {took} in all, {units.seconds(there_s)} of that at {last['backend']} for {tokens}"
    lost = [part for part in _lost(record) if part[0] >= _WORTH_S]
    if before_s >= _WORTH_S and lost:
        return f"{text}; {lost[0][1]}."
    return f"{text}."


def _pace(record: Json) -> str:
    """How fast the answer came."""
    tokens, span_s = record["output_tokens"], record["duration_s"] - record["ttft_s"]
    if tokens < 2 or span_s <= 0:
        return ""
    rate = (tokens - 1) / span_s
    slow = ", which is slow" if rate < _SLOW_TOKENS else ""
    return f", then {units.plural(tokens, 'token')} at {units.rate(rate)} a second{slow}"


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]
