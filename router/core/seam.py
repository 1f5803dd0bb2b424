"""Makes the events of a backend that continues an answer look like those of the backend that began it.

One *leg* of an answer comes from one backend. The client must not notice where one ends and the next begins: the id,
the time and the name of the model stay, the role is said once, no character is missing or comes twice, a stop string
of which one half was said before the seam still ends the answer, and the usage is that of the whole.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import orjson

from router.core.framing import events_of
from router.core.transcript import Frame, Transcript, framed, message_of, with_halves
from router.core.types import Usage

DONE_EVENT = b"data: [DONE]\n\n"
#: Stands for half a character where an event is read.
_NOT_READ = "\ufffd"
_ROLE = re.compile(rb'"role"\s*:\s*"[^"]*"\s*,\s*|,\s*"role"\s*:\s*"[^"]*"')
_USAGES = (("prompt_tokens", "completion_tokens"), ("input_tokens", "output_tokens"))


class Seam:
    """Hand ``take`` the whole events of one leg, and send what it returns.

    transcript   what the client has received before
    said         tokens of it that the backend was given; the others come again
    again        white space at its end that comes again
    stops        strings that end the answer; ``shows_stop``: they are a part of it
    shows_usage  the client asked for a usage; ``prompt_tokens``: of the request, as far as is known

    over   the answer has ended at a stop string, and the backend may be left alone
    """

    __slots__ = (
        "_after",
        "_again",
        "_before",
        "_common",
        "_frame",
        "_held",
        "_open",
        "_prompt_tokens",
        "_sample",
        "_shows_stop",
        "_shows_usage",
        "_stops",
        "_tail",
        "events",
        "over",
        "said",
    )

    def __init__(
        self,
        transcript: Transcript,
        text: str,
        *,
        said: int,
        again: str,
        stops: Sequence[str],
        shows_stop: bool,
        shows_usage: bool,
        prompt_tokens: int,
    ) -> None:
        self._frame = None if transcript.frame is None else _without_role(transcript.frame)
        self._common = transcript.common
        self._sample = transcript.sample or {}
        self._again = again
        longest = max(map(len, stops), default=1)
        self._stops = stops
        self._tail = text[max(0, len(text) - longest + 1) :]
        self._shows_stop = shows_stop
        self._shows_usage = shows_usage
        self._prompt_tokens = prompt_tokens
        self._held = ""  # said by the backend, and perhaps the rest of a stop string
        self._open = not again and not self._tail  # the seam is passed
        self._before, self._after = b"\0", b"\0"  # the frame of this leg
        self.said = said
        self.events = 0  # that this leg has added
        self.over = False

    def take(self, data: bytes) -> bytes:
        """The events as the client is to see them."""
        return b"".join([self._event(event) for event in events_of(data) if not self.over])

    def usage(self, leg: Usage) -> Usage:
        """Of the whole answer, when this is the usage of the leg: its prompt had the answer so far in it."""
        if not leg.reported:
            return Usage(output_tokens=self.said + leg.output_tokens)
        prompt = max(0, leg.prompt_tokens - self.said)
        cached = None if leg.cached_tokens is None else min(leg.cached_tokens, prompt)
        return Usage(prompt, self.said + leg.output_tokens, cached, True)

    def _event(self, event: bytes) -> bytes:
        frame = self._frame
        if self._open and frame is not None and event.startswith(self._before) and event.endswith(self._after):
            inside = event[len(self._before) : -len(self._after)]
            if b'"' not in inside:  # an ordinary event; one with escapes is read
                self.events += 1
                return b"%b%b%b" % (frame.before, inside, frame.after)
        message = message_of(event)
        if not message:  # a comment, the end mark, or nothing that can be read
            return event
        choices = message.get("choices")
        choice = choices[0] if isinstance(choices, list) and choices else None
        if not isinstance(choice, dict):
            return self._dressed(message)
        if not _says_more(choice):
            return self._token(event, message, choice)
        text = self._join(said_in(choice), last=True)
        if self.over:
            return self._stopped(text)
        _say(choice, text)
        return self._dressed(message)

    def _token(self, event: bytes, message: dict[str, Any], choice: dict[str, Any]) -> bytes:
        """An event with text and nothing else."""
        text, found = said_in(choice), framed(event)
        if found is not None and self._frame is not None and _NOT_READ in text:
            text = with_halves(found[1]) or text
        if not text:
            if _is_role(choice) or not self._open:
                return b""
            joined = ""  # half a character
        elif self._open:
            joined = text
            if found is not None:
                self._before, self._after = found[0]
        else:
            joined = self._join(text, last=False)
            if self.over:
                return self._stopped(joined)
        self.events += 1
        if text and not joined:
            return b""
        if self._frame is not None:
            return self._frame.around(joined)
        _say(choice, joined)
        return self._dressed(message)

    def _join(self, text: str, *, last: bool) -> str:
        """As much of ``text`` as may go on now. ``last``: nothing follows that could complete a stop string."""
        if self._open:
            return text
        if self._again and text:
            common = _common_length(self._again, text)
            text = text[common:]
            self._again = self._again[common:] if not text else ""
        held, self._held = self._held + text, ""
        tail = self._tail
        if tail and held:
            stop_at = self._stop(tail, held)
            if stop_at is not None:
                self.over = True
                return held[:stop_at]
            if not last and self._may_stop(tail, held):
                self._held = held
                return ""
            self._tail = ""  # none that began before the seam can be completed any more
        self._open = not self._again and not self._tail
        return held

    def _stop(self, tail: str, held: str) -> int | None:
        """How much of ``held`` belongs to the answer, if a stop string across the seam ends it; else None."""
        both, seam = tail + held, len(tail)
        found = [
            (at, stop)
            for stop in self._stops
            if (at := both.find(stop, max(0, seam - len(stop) + 1), seam - 1 + len(stop))) >= 0
        ]
        if not found:
            return None
        at, stop = min(found)
        return at + len(stop) - seam if self._shows_stop else 0

    def _may_stop(self, tail: str, held: str) -> bool:
        """Whether a stop string that began before the seam may yet be completed."""
        both = tail + held
        return any(stop.startswith(both[at:]) for at in range(len(tail)) for stop in self._stops)

    def _stopped(self, text: str) -> bytes:
        """The end of an answer that a stop string across the seam ends."""
        usage = Usage(self._prompt_tokens, self.said + self.events + 1) if self._shows_usage else None
        end = ending(self._sample, "stop", usage)
        return end if not text or self._frame is None else self._frame.around(text) + end

    def _dressed(self, message: dict[str, Any]) -> bytes:
        """An event with the members that all events of the answer have in common."""
        if usage := message.get("usage"):
            message["usage"] = self._whole_usage(usage)
        for name in message.keys() & self._common.keys():
            message[name] = self._common[name]
        return event_of(message)

    def _whole_usage(self, usage: dict[str, Any]) -> dict[str, Any]:
        for prompt, output in _USAGES:
            if isinstance(usage.get(prompt), int) and isinstance(usage.get(output), int):
                usage[prompt] = max(0, usage[prompt] - self.said)
                usage[output] += self.said
        return usage


def ending(sample: dict[str, Any], reason: str, usage: Usage | None) -> bytes:
    """The end of an answer that the router writes itself. ``sample``: an event with text; ``usage``: if it is shown."""
    message = orjson.loads(orjson.dumps(sample))
    message.pop("usage", None)
    choice = message["choices"][0]
    choice["finish_reason"] = reason
    if "delta" in choice:
        choice["delta"] = {}
    else:
        choice["text"] = ""
    return event_of(message) + behind_finish(message, usage)


def behind_finish(sample: dict[str, Any], usage: Usage | None) -> bytes:
    """What comes behind the finish reason. ``sample``: an event of the answer; ``usage``: if it is shown."""
    if usage is None:
        return DONE_EVENT
    tokens = {"prompt_tokens": usage.prompt_tokens, "completion_tokens": usage.output_tokens}
    tokens["total_tokens"] = usage.prompt_tokens + usage.output_tokens
    return event_of({**sample, "choices": [], "usage": tokens}) + DONE_EVENT


def event_of(message: dict[str, Any]) -> bytes:
    return b"data: %b\n\n" % orjson.dumps(message)


def said_in(choice: dict[str, Any]) -> str:
    """The text in a choice."""
    delta = choice.get("delta")
    text = delta.get("content") if isinstance(delta, dict) else choice.get("text")
    return text if isinstance(text, str) else ""


def _say(choice: dict[str, Any], text: str) -> None:
    """Put another text in its place, and do not say the role again."""
    delta = choice.get("delta")
    if not isinstance(delta, dict):
        choice["text"] = text
        return
    delta.pop("role", None)
    if "content" in delta or text:
        delta["content"] = text


def _says_more(choice: dict[str, Any]) -> bool:
    """Whether a choice has more than a text in it: an end, a tool call, reasoning."""
    if choice.get("finish_reason"):
        return True
    delta = choice.get("delta")
    return isinstance(delta, dict) and any(value for name, value in delta.items() if name not in ("role", "content"))


def _is_role(choice: dict[str, Any]) -> bool:
    delta = choice.get("delta")
    return isinstance(delta, dict) and "role" in delta


def _without_role(frame: Frame) -> Frame:
    """Engines may say the role with the first text, or with each."""
    return Frame(*(_ROLE.sub(b"", part) for part in frame))


def _common_length(one: str, other: str) -> int:
    length = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        length += 1
    return length
