"""What in a prompt is no text: pictures, sounds, films and files. They cost tokens by the item, and never by length.

Found by the words that the APIs have for them (OpenAI's chat and responses, Anthropic's messages, vLLM's extensions)
and by their data URLs. The search is linear and goes in steps; Base64 itself is leapt over.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from xxhash import xxh3_128_hexdigest

from router.config.model import TokensSection
from router.gateway.members import Span, string_end
from router.gateway.steps import LEAP_BYTES, STEP_BYTES, Body, Steps

#: Part types of the APIs, and what they are priced as.
KINDS = {
    b"image_url": "image",
    b"input_image": "image",
    b"image": "image",
    b"image_embeds": "image",
    b"image_generation_call": "image",
    b"video_url": "video",
    b"input_video": "video",
    b"video": "video",
    b"audio_url": "audio",
    b"input_audio": "audio",
    b"audio": "audio",
    b"input_file": "file",
    b"file": "file",
    b"document": "file",
}
#: Base64 stands below these keys also without a data URL.
_BARE = rb"data|file_data|b64_json|image_embeds|image|audio|result"
#: RFC 2397 knows no case, and data without Base64. Nothing here is tried twice.
_URL = (
    rb'(?i:data):(?P<media>[A-Za-z]{0,20}+)(?:[^"\\,;]|\\/){0,100}+'
    rb'(?:;(?!(?i:base64),)[^"\\,;]{1,60}+){0,4}+(?:;(?i:base64),|(?P<plain>,))'
)
_MARK = re.compile(
    rb'"(?:' + _URL + rb'|type"[ \t\r\n]{0,8}:[ \t\r\n]{0,8}"(?P<type>' + b"|".join(KINDS) + rb')"'
    rb"|(?:" + _BARE + rb')"[ \t\r\n]{0,8}:[ \t\r\n]{0,8}(?P<bare>"))'
)
#: A mark is shorter than this; it may stand where one step ends and the next begins.
_MARK_BYTES_MAX = 512
_STEP_MARKS = 64
#: No request has as many items: what comes behind so many marks is taken for text.
MARKS_MAX = 10_000
_BASE64 = re.compile(rb"[A-Za-z0-9+/=_\\-]+")
#: A string that is as long and looks like Base64 at both ends is.
_BARE_BYTES_MIN = 256
_LOOK_BYTES = 128
_BACKSLASH = 92

#: In the prefix an item stands with as many bytes as text of as many tokens has.
STAND_IN_BYTES_PER_TOKEN = 4
#: What is hashed of an item: all of a small one; of a larger one as much from its beginning, middle and end.
_SAMPLE_BYTES = 16 * 1024
_DIGEST_BYTES = 32


@dataclass(slots=True)
class Payload:
    """The Base64 of an item. ``kind`` is None if only the part around it says what it is."""

    span: Span
    kind: str | None


@dataclass(slots=True)
class Media:
    """What a stretch of JSON holds besides text."""

    payloads: list[Payload] = field(default_factory=list)
    typed: dict[str, int] = field(default_factory=dict)  # parts by kind, with and without a payload

    def __bool__(self) -> bool:
        return bool(self.payloads or self.typed)

    @property
    def payload_bytes(self) -> int:
        return sum(end - begin for begin, end in (payload.span for payload in self.payloads))

    def kind_of(self, payload: Payload) -> str:
        """``file`` if nothing says what it is."""
        return payload.kind or (next(iter(self.typed)) if len(self.typed) == 1 else "file")

    def items(self) -> dict[str, int]:
        """How many of each kind. Every part counts once; payloads outside of any part count, too."""
        counts = dict(self.typed)
        loose = max(0, len(self.payloads) - sum(counts.values()))
        for payload in self.payloads[len(self.payloads) - loose :]:
            kind = self.kind_of(payload)
            counts[kind] = counts.get(kind, 0) + 1
        return counts

    def tokens(self, prices: TokensSection) -> int:
        """What they are taken to cost."""
        return sum(count * price_of(kind, prices) for kind, count in self.items().items())


def may_hold_media(prompt: bytes) -> bool:
    """Quickly: whether a search would find something. Parts of a message stand in a list of their own, and elsewhere
    the words for them have a ``_``; most prompts have neither."""
    return (
        prompt.find(b"[", 1) >= 0
        or b"_" in prompt
        or prompt.startswith((b'"data:', b'"DATA:', b'["data:', b'["DATA:', b"{"))
    ) and _MARK.search(prompt) is not None


def media_in(body: Body, span: Span) -> Steps[Media]:
    """Raises MalformedError if the body ends in a string."""
    at, end = span
    found = Media()
    count, yielded = 0, at
    while at < end and count < MARKS_MAX:
        stop = min(at + STEP_BYTES, end)
        match = _MARK.search(body, at, stop)
        if match is None:
            at = stop if stop == end else max(at + 1, stop - _MARK_BYTES_MAX)
            count -= 1
        elif match.lastgroup == "type":
            kind = KINDS[match.group("type")]
            found.typed[kind] = found.typed.get(kind, 0) + 1
            at = match.end()
        elif match.lastgroup == "bare":
            at = match.end() - 1  # a data URL may begin with this very quote
            if body[match.end() : match.end() + 5].lower() != b"data:":
                begin = match.end()
                at = 1 + (yield from string_end(body, begin))
                if _looks_like_base64(body, begin, at - 1):
                    found.payloads.append(Payload((begin, at - 1), None))
        elif _is_escaped(body, match.start()):
            at = match.end()  # somebody quotes one: that is text
        else:
            begin, at = match.start() + 1, match.end()
            media = match.group("media").decode().lower()
            kind = media if media in ("image", "audio", "video") else "file"
            if kind != "file" or match.group("plain") is None:  # else it is a text that begins with this word
                close = yield from string_end(body, at)
                found.payloads.append(Payload((begin, close), kind))
                at = close + 1
        count += 1
        if at - yielded >= STEP_BYTES or count % _STEP_MARKS == 0:
            yield min(at - yielded, LEAP_BYTES)
            yielded = at
    return found


def price_of(kind: str, prices: TokensSection) -> int:
    """Prompt tokens of one item."""
    price: int = getattr(prices, kind)
    return price


def condensed(
    body: Body, span: Span, media: Media, prices: TokensSection, limit_bytes: int
) -> Steps[tuple[bytes, int]]:
    """The prompt with a stand-in for each payload, cut at ``limit_bytes``, and how long it is uncut.

    Equal items have equal stand-ins, so a conversation goes on as it began also where it holds pictures.
    """
    out: list[bytes] = []
    view = memoryview(body)
    at, end = span
    size = 0
    for number, payload in enumerate(media.payloads, 1):
        begin, close = payload.span
        if size < limit_bytes:
            out.append(bytes(view[at : min(begin, at + limit_bytes - size)]))
        size += begin - at
        repeats = max(1, price_of(media.kind_of(payload), prices) * STAND_IN_BYTES_PER_TOKEN // _DIGEST_BYTES)
        if size < limit_bytes:
            out.append((_digest(view[begin:close]) * repeats)[: limit_bytes - size])
        size += repeats * _DIGEST_BYTES
        at = close
        if number % _STEP_MARKS == 0:
            yield STEP_BYTES
    if size < limit_bytes:
        out.append(bytes(view[at : min(end, at + limit_bytes - size)]))
    return b"".join(out), size + end - at


def _digest(payload: memoryview) -> bytes:
    size = len(payload)
    if size > 3 * _SAMPLE_BYTES:
        middle = (size - _SAMPLE_BYTES) // 2
        places = (0, middle, size - _SAMPLE_BYTES)
        sample = b"".join([*(payload[at : at + _SAMPLE_BYTES] for at in places), b"%d" % size])
    else:
        sample = bytes(payload)
    return xxh3_128_hexdigest(sample).encode()


def _looks_like_base64(body: Body, begin: int, end: int) -> bool:
    return (
        end - begin >= _BARE_BYTES_MIN
        and _BASE64.fullmatch(body, begin, begin + _LOOK_BYTES) is not None
        and _BASE64.fullmatch(body, end - _LOOK_BYTES, end) is not None
    )


def _is_escaped(body: Body, quote: int) -> bool:
    """Whether the quote stands inside of a string."""
    begin = max(0, quote - 64)
    piece = bytes(body[begin:quote])
    return (len(piece) - len(piece.rstrip(b"\\"))) % 2 == 1
