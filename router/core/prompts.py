"""The prompts sent to one backend that it has not computed yet, as far as we can tell."""

from __future__ import annotations

from router.core.cost import work_s
from router.core.types import Lease

_DONE_MAX = 0.9


class Prompts:
    """Counts of uncached prompt tokens and of their pairs: all that were sent, and those of them that are computed.

    Both only grow. The difference is the work ahead of the next request.
    """

    __slots__ = (
        "computed_pairs",
        "computed_tokens",
        "done_pairs",
        "done_tokens",
        "outrun",
        "outrun_at_s",
        "outrun_from_s",
        "pending",
        "sent_pairs",
        "sent_tokens",
        "unseen",
    )

    def __init__(self) -> None:
        #: leases whose first token has not come, oldest first
        self.pending: dict[Lease, None] = {}
        #: the same for answers in one piece, whose first token nobody sees
        self.unseen: dict[Lease, None] = {}
        #: late ones that other backends answered meanwhile, without a token from here since the first of them was due
        self.outrun = 0
        self.outrun_from_s = self.outrun_at_s = float("-inf")
        self.sent_tokens = self.computed_tokens = 0
        #: what attention computes for these
        self.sent_pairs = self.computed_pairs = 0
        #: computed ones, and what the oldest prompt is estimated to have done
        self.done_tokens: float = 0
        self.done_pairs: float = 0

    def __len__(self) -> int:
        return len(self.pending) + len(self.unseen)

    @property
    def tokens(self) -> int:
        """Uncached tokens in flight that are not computed."""
        return self.sent_tokens - self.computed_tokens

    @property
    def pairs(self) -> int:
        return self.sent_pairs - self.computed_pairs

    def add(self, lease: Lease) -> None:
        """A prompt was sent."""
        self.sent_tokens += lease.uncached_tokens
        self.sent_pairs += lease.pairs
        if lease.request.stream:
            self.pending[lease] = None
        else:
            self.unseen[lease] = None

    def remove(self, lease: Lease) -> bool:
        """The prompt is computed, or nobody waits for it any more. Returns whether its first token can be seen."""
        waiting = self.pending if lease.request.stream else self.unseen
        if lease not in waiting:
            return False
        del waiting[lease]
        self.computed_tokens = self.done_tokens = self.computed_tokens + lease.uncached_tokens
        self.computed_pairs = self.done_pairs = self.computed_pairs + lease.pairs
        return lease.request.stream

    def give_up(self, lease: Lease, now_s: float, last_token_s: float) -> None:
        """Another backend has answered the request of ``lease``. That it was late here must not be forgotten."""
        due_s = lease.started_s + (lease.predicted_ttft_s or 0.0)
        if not self.outrun or last_token_s > self.outrun_from_s:
            if now_s <= due_s or not lease.request.stream:
                return
            self.outrun, self.outrun_from_s = 0, due_s
        self.outrun += 1
        self.outrun_at_s = now_s

    def see_progress(self, now_s: float, *, rtt_s: float, last_token_s: float, speed: float, queued: bool) -> None:
        """Estimate what the oldest prompt has done by now: that is not ahead of anybody any more.

        ``queued``: all places of the engine are taken, so it may not have begun.
        """
        self.done_tokens, self.done_pairs = self.computed_tokens, self.computed_pairs
        lease = next(iter(self.pending), None)
        if lease is None or lease.ahead is None or queued:
            return
        takes_s = work_s(lease.ahead.rates, lease.prompt_tokens, lease.uncached_tokens)
        since_s = max(lease.started_s + rtt_s / 2, last_token_s)
        if takes_s > 0.0 and now_s > since_s:
            # Never all of it: as long as its first token has not come, something is left.
            done = min((now_s - since_s) * speed / takes_s, _DONE_MAX)
            self.done_tokens += done * lease.uncached_tokens
            self.done_pairs += done * lease.pairs

    def assume_computed(self, now_s: float) -> None:
        """An answer in one piece shows no first token; its prompt counts as computed when that was predicted."""
        if self.unseen:
            for lease in [u for u in self.unseen if now_s >= u.started_s + (u.predicted_ttft_s or 0.0)]:
                self.remove(lease)

    def late_s(self, now_s: float, last_token_s: float) -> float:
        """How long the oldest first token is overdue while nothing else came: a lower bound of how slow it is here.

        It is known long before the sample is, and it is all that a frozen engine ever tells.
        """
        late_s = 0.0
        if self.outrun and last_token_s <= self.outrun_from_s:
            late_s = self.outrun_at_s - self.outrun_from_s
        for lease in self.pending:
            due_s = lease.started_s + (lease.predicted_ttft_s or 0.0)
            return max(late_s, now_s - max(due_s, last_token_s))
        return late_s

    def overdue(self, due_s: float, last_token_s: float) -> int:
        """First tokens that should have come before ``due_s``."""
        outrun = self.outrun if self.outrun_from_s < due_s and last_token_s <= self.outrun_from_s else 0
        return outrun + sum(1 for lease in self.pending if lease.started_s + (lease.predicted_ttft_s or 0.0) < due_s)

    def sent_after(self, at_s: float) -> int:
        return sum(1 for lease in (*self.pending, *self.unseen) if lease.started_s > at_s)
