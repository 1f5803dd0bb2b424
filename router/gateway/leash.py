"""How long an attempt is waited for, and how it is ended from outside: by time, by its client, by what others find out.

``relay`` adds what the backend says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, Protocol, TypeVar

from router import clock
from router.core.outcomes import Outcome
from router.upstream.classify import AttemptEnd
from router.wire.flow import Signal

if TYPE_CHECKING:
    from router.core.transcript import Transcript
    from router.gateway.deadlines import Deadlines
    from router.wire.inbound import Inbound
    from router.wire.outbound import Outbound

#: A silent stream of a backend that is ejected or refuses connections is ended after this long, in seconds ...
_DOUBTED_SILENCE_S = 5.0
#: ... and sooner if another backend may continue it.
_DOUBTED_MOVABLE_S = 2.0


W = TypeVar("W")
W_contra = TypeVar("W_contra", contravariant=True)


class Sender(Protocol[W_contra]):
    """Who has sent the request to the backend, for ``whose`` sake."""

    def begin(self, whose: W_contra, relay: Any, length: int | None) -> bytes:
        """The client is answered from now on: the head of its answer. ``length``: of a whole answer, else None."""

    def go_on(self, whose: W_contra, relay: Any) -> None:
        """This backend goes on from now on with the answer that another one began."""

    def end_mark(self, whose: W_contra, relay: Any, *, framed: bool) -> None:
        """The answer is whole, but the backend has not said so. ``framed``: its HTTP has ended cleanly."""

    def may_move(self, whose: W_contra) -> bool:
        """Whether another backend can continue the answer."""

    def repeats(self, whose: W_contra, relay: Any, period_bytes: int) -> bool:
        """The answer repeats a piece of this length. True: its end was written, and nothing more is to come."""


class Leash(Signal[AttemptEnd], Generic[W]):
    """The signal of the end of an attempt, and the time that it has. ``committed``: the client has a part of it.

    ``patience_s`` is how long it may take to the first token, or to the whole answer, and after the commit to the next
    event. Comments are a sign of life then, and bear ``comments_s`` without an event: engines send nothing else while
    they hold back a tool call.

    ``relay`` gives the members their values: an initializer here would cost every request a call.
    """

    __slots__ = (
        "_comments_s",
        "_deadlines",
        "_inbound",
        "_life_s",
        "_outbound",
        "_patience_s",
        "_progress_s",
        "_sender",
        "_whose",
        "committed",
        "head_s",
        "status",
        "transcript",
    )

    _comments_s: float
    _deadlines: Deadlines
    _inbound: Inbound
    _life_s: float
    _outbound: Outbound
    _patience_s: float
    _progress_s: float
    _sender: Sender[W]
    _whose: W
    committed: bool
    status: int  # of the backend, 0 before its head
    head_s: float | None  # when that came
    transcript: Transcript | None  # keeps what the client is sent, if another backend may continue it

    @property
    def spoke_s(self) -> float:
        """When the client last got something of it."""
        return max(self._progress_s, self._life_s) if self.committed else 0.0

    @property
    def due_s(self) -> float:
        """When its patience is over."""
        due_s = self._progress_s + self._patience_s
        if self._life_s > self._progress_s:
            due_s = max(due_s, min(self._life_s + self._patience_s, self._progress_s + self._comments_s))
        if self.committed and self._inbound.paused:  # the client is the slow one
            return max(due_s, self._deadlines.coarse_now_s + 1.0)
        return due_s

    def be_patient(self, now_s: float, patience_s: float, comments_s: float = 0.0) -> float:
        """Wait for as long from now on. Returns until when."""
        self._progress_s, self._patience_s, self._comments_s = now_s, patience_s, comments_s
        self._life_s = 0.0
        return now_s + patience_s

    def _shorten(self, patience_s: float) -> None:
        """Have less time from now on."""
        self._deadlines.note(self.be_patient(clock.monotonic_s(), patience_s))

    def pause(self, paused: bool) -> None:
        """The client cannot keep up (or can again): stop reading from the backend."""
        if self.is_set:
            return
        self._outbound.pause(paused)
        if not paused:
            self._progress_s = self._deadlines.coarse_now_s

    def abort(self) -> None:
        """Nobody wants the answer any more."""
        self.is_set = True
        self._outbound.abort()

    def give_up(self, detail: str) -> None:
        """The backend was found dead while this request waited for its first token: let another one answer."""
        if not self.committed and not self.is_set:
            self._outbound.abort()
            self.set(AttemptEnd(Outcome.UNREACHABLE, "upstream_unreachable", detail=detail))

    def hand_over(self, detail: str) -> bool:
        """The backend is to go away: let another one answer, or go on. False: nobody else can, and it is left alone."""
        if self.is_set or (self.committed and not self._movable()):
            return False
        self._outbound.abort()
        self.set(AttemptEnd(Outcome.MOVED, "stream_interrupted", self.status, detail))
        return True

    def doubt(self) -> None:
        """The backend is not to be trusted any more: a committed answer that falls silent now ends soon."""
        if not self.committed or self.is_set:
            return
        silence_s = _DOUBTED_MOVABLE_S if self.transcript is not None and self._movable() else _DOUBTED_SILENCE_S
        if self._patience_s > silence_s:
            self._patience_s, self._comments_s = silence_s, 0.0
            self._shorten(max(0.0, self.due_s - self._deadlines.coarse_now_s))

    def _movable(self) -> bool:
        """Whether another backend can continue what the client has."""
        self.tally()
        return self._sender.may_move(self._whose)

    def tally(self) -> None:
        """Count what was passed on since the last time, and keep it."""
        raise NotImplementedError
