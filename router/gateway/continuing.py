"""Continues answers that broke off: what is kept of them, whether they can be continued, and with what.

``core/transcript`` keeps what the client has received, ``core/continuable`` knows what is in the way, ``rest`` makes
the request for the rest, ``core/seam`` joins its answer to the beginning, and ``core/course`` chooses who gives it.
"""

from __future__ import annotations

from router import clock
from router.core.continuable import OF_STOPS
from router.core.prices import Leg
from router.core.seam import Seam, behind_finish, ending
from router.core.sse import StreamKind
from router.core.traits import TRAITS, Continues
from router.core.transcript import Transcript
from router.core.types import Rng, Usage
from router.errors import RouterError
from router.gateway.exchange import Exchange
from router.gateway.ingress import Ask
from router.gateway.rest import Rest, rest_of
from router.gateway.settings import InForce
from router.gateway.steps import LONG_BODY_BYTES, Steps, Turns, finish
from router.gateway.token_count import count_tokens
from router.gateway.upstream_body import shows_usage
from router.upstream.classify import AttemptEnd
from router.upstream.pool import Pool
from router.wire.outbound import Outbound

_NEVER = float("inf")
#: Of a character, and so the most tokens that it has.
UTF8_BYTES_MAX = 4


class Continuing:
    """See above. Reasons why an answer is not continued are noted in its record."""

    def __init__(self, force: InForce, turns: Turns, rng: Rng) -> None:
        self._force = force
        self._turns = turns
        self._rng = rng

    def reason_at_once(self, ask: Ask) -> str | None:
        """Why nothing need be kept of the answer to this request. None: it may be continued."""
        if not ask.stream or ask.envelope.kind is not StreamKind.CHAT:
            return "route"
        if ask.choices != 1:
            return "several_choices"
        return None if self._force.settings.config.continuation.enabled else "off"

    def open(self, x: Exchange, engine: str) -> Transcript | None:
        """An answer begins. None: nothing need be kept of it."""
        if x.ask is not None and self.reason_at_once(x.ask) is None:
            x.transcript = Transcript(engine)
        return x.transcript

    async def prepare(self, x: Exchange, end: AttemptEnd) -> Continues:
        """A leg of the answer, or an attempt to continue it, has failed. Makes the request for the rest. Returns the
        least that a backend must be able to; NO: nobody can go on, and the reason is in the record."""
        found = "refused" if end.refused else await self._make(x)
        if isinstance(found, str):
            x.rest, x.record.not_continued = None, found
            return Continues.NO
        x.rest = found
        if x.relay is not None and x.relay.committed:
            x.legs.append(Leg(x.relay.pool.spec.name, x.record.served_model or "", found.said))
        if x.need is not None:  # the prompt has become longer, and the time for the first token was kept
            x.need.prompt_tokens = x.record.prompt_tokens + found.said
            x.need.deadline_s = _NEVER
        return found.least

    async def count(self, x: Exchange, pool: Pool, outbound: Outbound) -> bool:
        """Ask the engine how many tokens of the limit are used up. Returns whether none is left."""
        rest, transcript = x.rest, x.transcript
        if rest is None or transcript is None or transcript.counted == len(rest.text):
            return False
        count = await count_tokens(pool, outbound, x.record.served_model or "", rest.text)
        if count is None:  # the next engine is asked
            return False
        transcript.counted = len(rest.text)
        # Engines keep the end of a text that might be the beginning of a stop string: its tokens have had events, which
        # brought the text before them, and will come again.
        kept_most = max((len(stop) - 1 for stop in rest.stops), default=0) * UTF8_BYTES_MAX
        if transcript.events - kept_most <= count <= len(rest.text.encode()) and count != transcript.events:
            transcript.recount(count)
            found = await self._make(x)
            if isinstance(found, Rest):
                x.rest = found
                return found.over
        return False

    async def _make(self, x: Exchange) -> Rest | str:
        steps = self._rest(x)
        return await self._turns.read(steps) if len(x.request.body) > LONG_BODY_BYTES else finish(steps)

    def _rest(self, x: Exchange) -> Steps[Rest | str]:
        ask, transcript = x.ask, x.transcript
        if ask is None or transcript is None:
            return (ask and self.reason_at_once(ask)) or "odd_answer"
        transcript.forget_unsaid()
        return (yield from rest_of(x.request.body, transcript, TRAITS[transcript.engine]))

    def may_move(self, x: Exchange) -> bool:
        """Whether another backend can continue an answer whose backend still lives. Its body is read at once."""
        course, lease, transcript = x.course, x.lease, x.transcript
        if course is None or lease is None or transcript is None or transcript.finished:
            return False
        found = finish(self._rest(x))
        if isinstance(found, str) or found.over:
            return False
        return course.may_move(lease.backend, found.least, clock.monotonic_s(), self._rng)

    def close(self, x: Exchange) -> None:
        """Nothing was missing but the end of the answer: write it."""
        ask, transcript = x.ask, x.transcript
        assert ask is not None
        assert transcript is not None
        x.usage = usage = Usage(x.record.prompt_tokens, transcript.events)
        end = ending(transcript.sample or {}, "length", usage if shows_usage(ask) else None)
        x.answer.write(end)
        x.answer.end()

    def end(self, x: Exchange, usage: Usage) -> None:
        """Nothing was missing but what comes behind the finish reason: write it."""
        ask, transcript = x.ask, x.transcript
        assert ask is not None
        assert transcript is not None
        missing = shows_usage(ask) and not usage.reported
        shown = Usage(x.record.prompt_tokens, usage.output_tokens) if missing else None
        x.answer.write(behind_finish(transcript.sample or {}, shown))

    def reason_for(self, x: Exchange, error: RouterError) -> str | None:
        """Why an answer that had begun ends with this error; None if it was not a stream."""
        if not x.answer.events:
            return None
        stop = x.course.stop if x.course is not None else None
        found = x.record.not_continued or (OF_STOPS.get(stop) if stop is not None else None)
        return found or ("shutting_down" if error.code == "shutting_down" else "no_backend")

    def seam(self, x: Exchange, ask: Ask) -> Seam | None:
        """Between what the client has and the leg that is about to begin. None: this is the first leg."""
        rest, transcript = x.rest, x.transcript
        if rest is None or transcript is None:
            return None
        if x.legs:  # the tokens of the last one may have been counted since
            x.legs[-1] = x.legs[-1]._replace(output_tokens=rest.said)
        return Seam(
            transcript,
            rest.text,
            said=rest.said,
            again=rest.again,
            stops=rest.stops,
            shows_stop=rest.shows_stop,
            shows_usage=shows_usage(ask),
            prompt_tokens=x.record.prompt_tokens,
        )
