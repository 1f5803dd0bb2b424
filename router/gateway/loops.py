"""Does what the plan says about a stream that repeats itself: nothing, a note, or an end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from router.core.loop_guard import LoopGuard
from router.core.seam import ending
from router.core.sse import StreamKind
from router.core.types import Usage
from router.gateway.upstream_body import shows_usage

if TYPE_CHECKING:
    from router.gateway.exchange import Exchange
    from router.gateway.relay import Relay

#: As vLLM says it when it does the same.
FINISH_REASON = "repetition"


class Loops:
    """Guards streams of chats and completions with one choice."""

    def guard_of(self, x: Exchange) -> LoopGuard | None:
        """For an answer that begins. None: its plan does not ask, or it cannot be told."""
        key, ask = x.key, x.ask
        if key is None or key.plan.loop_guard == "off":
            return None
        if x.transcript is None and (
            ask is None or not ask.stream or ask.choices != 1 or ask.envelope.kind is not StreamKind.CHAT
        ):
            return None
        return LoopGuard()

    def noticed(self, x: Exchange, relay: Relay[Exchange], period_bytes: int) -> bool:
        """It repeats a piece of this length. True: its end was written."""
        record, key, ask, guard = x.record, x.key, x.ask, x.guard
        usage = relay.usage or Usage()
        if relay.seam is not None:
            usage = relay.seam.usage(usage)
        stops = key is not None and key.plan.loop_guard == "stop"
        record.repetition = "stopped" if stops else "observed"
        record.repetition_bytes, record.repetition_tokens = period_bytes, usage.output_tokens
        x.guard = None
        if not stops or ask is None or guard is None or guard.sample is None:
            return False
        shown = Usage(usage.prompt_tokens or record.prompt_tokens, usage.output_tokens) if shows_usage(ask) else None
        x.answer.write(ending(_plain(guard.sample), FINISH_REASON, shown))
        return True


def _plain(sample: dict[str, Any]) -> dict[str, Any]:
    """An event with nothing in it that belongs to its own token."""
    (choice, *_) = sample["choices"]
    said: dict[str, Any] = {"text": ""} if "text" in choice else {"delta": {}}
    return {**sample, "choices": [{"index": 0, **said, "logprobs": None, "finish_reason": None}]}
