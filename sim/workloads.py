"""Made-up traffic for worlds: conversations that grow turn by turn, over shared instructions, from several places."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass
from math import pi, sin

from sim.traces import Arrival, Trace

_BLOCK_TOKENS = 64


@dataclass(frozen=True, slots=True)
class Chats:
    """What the conversations are like. Lengths in tokens, medians of log-normal distributions."""

    instructions: int = 20  # different system prompts
    instruction_tokens: int = 768
    turn_tokens: float = 120.0
    answer_tokens: float = 160.0
    spread: float = 0.7  # sigma of the logarithms
    turns: float = 4.0  # mean of a geometric distribution
    think_s: float = 20.0  # mean pause between an answer's end, guessed, and the next turn
    day_s: float = 0.0  # length of a simulated day; 0: no day and night
    swing: float = 0.6  # how far the rate follows the day


def conversations(
    rates_per_s: Mapping[str, float],
    duration_s: float,
    *,
    seed: int,
    chats: Chats | None = None,
    tenants: int = 8,
) -> Trace:
    """Requests for ``duration_s`` at about these rates per region. The same seed gives the same trace."""
    chats = chats or Chats()
    arrivals: list[Arrival] = []
    for number, (region, rate_per_s) in enumerate(sorted(rates_per_s.items())):
        rng = random.Random(f"{seed} {region}")
        phase = 2 * pi * number / max(1, len(rates_per_s))
        at_s = 0.0
        # A conversation is several requests, so conversations begin that much less often.
        peak_per_s = rate_per_s / chats.turns * (1 + (chats.swing if chats.day_s else 0.0))
        while peak_per_s > 0 and (at_s := at_s + rng.expovariate(peak_per_s)) < duration_s:
            if chats.day_s:
                level = 1 + chats.swing * sin(2 * pi * at_s / chats.day_s + phase)
                if rng.random() * (1 + chats.swing) > level:
                    continue
            tenant = f"tenant-{rng.randrange(tenants)}"
            arrivals += _conversation(chats, rng, region, tenant, at_s, duration_s)
    arrivals.sort(key=lambda a: a.at_s)
    return Trace("conversations", tuple(arrivals), _BLOCK_TOKENS, source=f"made up, seed {seed}")


def _conversation(
    chats: Chats, rng: random.Random, region: str, tenant: str, at_s: float, end_s: float
) -> list[Arrival]:
    instruction = rng.randrange(chats.instructions)
    session = f"{region} {rng.getrandbits(48):x}"
    out: list[Arrival] = []
    tokens = chats.instruction_tokens
    while at_s < end_s:
        tokens += _length(chats.turn_tokens, chats.spread, rng)
        answer = _length(chats.answer_tokens, chats.spread, rng)
        whole, after = tokens // _BLOCK_TOKENS, (tokens + answer) // _BLOCK_TOKENS
        blocks = tuple(_block(chats, instruction, session, i) for i in range(after))
        out.append(
            Arrival(at_s, tokens, answer, blocks[:whole], blocks[whole:], session=session, region=region, tenant=tenant)
        )
        tokens += answer
        if rng.random() < 1 / chats.turns:
            break
        at_s += answer * 0.02 + rng.expovariate(1 / chats.think_s)
    return out


def _block(chats: Chats, instruction: int, session: str, index: int) -> int:
    shared = (index + 1) * _BLOCK_TOKENS <= chats.instruction_tokens
    return hash((instruction, index)) if shared else int(session.rsplit(" ", 1)[1], 16) * 4096 + index


def _length(median: float, spread: float, rng: random.Random) -> int:
    return max(1, round(median * rng.lognormvariate(0.0, spread)))
