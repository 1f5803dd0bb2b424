"""What really ran: the attempts in a journal, with what each met at its backend."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Document = Mapping[str, Any]


@dataclass(slots=True)
class Served:
    """One whole answer of one backend. Times in seconds since 1970; ``first_s`` None: it came in one piece."""

    backend: str
    model: str
    sent_s: float
    first_s: float | None
    ended_s: float
    connect_s: float
    prompt_tokens: int
    cached_tokens: int
    output_tokens: int
    blocks: tuple[int, ...] = ()
    #: when it was sent: requests that had their first token, and uncached tokens of those that had not
    decoding: int = 0
    ahead_tokens: int = 0
    #: while it was written: others that were, on average, and the prompts that were computed meanwhile
    beside: float = 0.0
    stalling_tokens: int = 0
    stalling_pairs: float = 0.0
    #: all the while prompts waited: one that was there before its first token was not computed at its end
    crowded: bool = False

    @property
    def uncached_tokens(self) -> int:
        return max(1, self.prompt_tokens - self.cached_tokens)

    @property
    def pairs(self) -> float:
        """Of tokens, that attention computes."""
        return self.uncached_tokens * (2.0 * self.prompt_tokens - self.uncached_tokens) / 2.0

    @property
    def began_s(self) -> float:
        """When its first token came, or would have come about: of a whole answer nobody knows."""
        return self.sent_s if self.first_s is None else self.first_s


@dataclass(slots=True)
class Recording:
    """``served`` in the order in which they were sent. Durations and shares are those that were measured."""

    served: list[Served] = field(default_factory=list)
    requests: int = 0
    failed: int = 0
    #: refused because of a limit: no backend had to do with them
    refused: int = 0
    retried: int = 0
    ttfts_s: list[float] = field(default_factory=list)
    durations_s: list[float] = field(default_factory=list)
    #: from arrival to the first attempt, where nobody waited for a place
    entries_s: list[float] = field(default_factory=list)
    prompt_tokens: int = 0
    cached_tokens: int = 0
    caching_told: bool = False
    by_backend: dict[str, int] = field(default_factory=dict)
    policies: dict[str, int] = field(default_factory=dict)
    span_s: float = 0.0


def read_recording(records: Iterable[Document]) -> Recording:
    """Raises ValueError for records that are none."""
    out = Recording()
    starts: list[float] = []
    for record in records:
        try:
            _take(record, out, starts)
        except (KeyError, TypeError) as error:
            raise ValueError(f"no record of a request: {error!r}") from None
    out.span_s = max(starts) - min(starts) if starts else 0.0
    out.served.sort(key=lambda s: s.sent_s)
    by_backend: dict[str, list[Served]] = {}
    for served in out.served:
        by_backend.setdefault(served.backend, []).append(served)
    for members in by_backend.values():
        _meet(members)
    return out


def _take(record: Document, out: Recording, starts: list[float]) -> None:
    attempts = record.get("attempts") or ()
    if record.get("limit") is not None:
        out.refused += 1
        return
    out.requests += 1
    starts.append(float(record["arrival_s"]))
    if record.get("error") is not None or not attempts:
        out.failed += 1
        return
    out.retried += len(attempts) > 1
    if policy := record.get("policy"):
        out.policies[policy] = out.policies.get(policy, 0) + 1
    last = attempts[-1]
    if not record.get("output_tokens") or last.get("outcome") != "ok":
        return
    prompt, cached = int(record.get("prompt_tokens") or 0), record.get("cached_tokens")
    out.by_backend[last["backend"]] = out.by_backend.get(last["backend"], 0) + 1
    out.durations_s.append(float(record["duration_s"]))
    out.prompt_tokens += prompt
    out.cached_tokens += int(cached or 0)
    out.caching_told = out.caching_told or cached is not None
    if record.get("ttft_s") is not None:
        out.ttfts_s.append(float(record["ttft_s"]))
    if not record.get("wait_s"):
        out.entries_s.append(float(attempts[0].get("started_s") or 0.0))
    if len(attempts) == 1 and last.get("duration_s") is not None:
        out.served.append(_served(record, last, prompt, int(cached or 0)))


def _served(record: Document, attempt: Document, prompt: int, cached: int) -> Served:
    sent_s = float(record["arrival_s"]) + float(attempt.get("started_s") or 0.0)
    ttft_s = attempt.get("ttft_s") if record.get("ttft_s") is not None else None
    return Served(
        attempt["backend"],
        str(record.get("served_model") or record.get("model") or ""),
        sent_s,
        None if ttft_s is None else sent_s + float(ttft_s),
        sent_s + float(attempt["duration_s"]),
        float(attempt.get("connect_s") or 0.0),
        prompt,
        min(cached, prompt),
        int(record["output_tokens"]),
        tuple(record.get("prefix_blocks") or ()),
    )


def _meet(members: Sequence[Served]) -> None:
    """Find what each of one backend's requests, in the order in which they were sent, met there."""
    there: list[Served] = []
    for one in members:
        there = [other for other in there if other.ended_s > one.sent_s]
        for other in there:
            if other.began_s <= one.sent_s:
                one.decoding += 1
            else:
                one.ahead_tokens += other.uncached_tokens
            _share(one, other)
            _share(other, one)
        there.append(one)
    for one in members:
        lasted_s = one.ended_s - one.began_s
        one.beside = one.beside / lasted_s if lasted_s > 0.0 else 0.0


def _share(one: Served, other: Served) -> None:
    """``other`` was there while ``one`` was: add what that means for ``one``."""
    one.beside += max(0.0, min(one.ended_s, other.ended_s) - max(one.began_s, other.began_s))
    if other.sent_s <= one.began_s and other.began_s >= one.ended_s:
        one.crowded = True
    if one.began_s < other.began_s < one.ended_s:
        one.stalling_tokens += other.uncached_tokens
        one.stalling_pairs += other.pairs
