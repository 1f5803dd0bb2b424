"""What does the request ask? A typed peek at the few fields we need; the bytes stay as they are.

We do not model the OpenAI schema: whatever we do not know passes through untouched and is the engine's to judge. What
the head says is in ``envelope.py``; what the body says, the ``Ask``, is read here, once per request.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import accumulate, pairwise

import msgspec

from router.config import TokensSection
from router.core.affinity import prefix_blocks
from router.core.sse import StreamKind
from router.core.types import Value
from router.errors import RouterError
from router.gateway import multipart
from router.gateway.aliases import strings_only
from router.gateway.envelope import Envelope
from router.gateway.extent import BEFORE, ELSEWHERE, PROMPTS, longest, prompts_at
from router.gateway.media import condensed, may_hold_media, media_in, price_of
from router.gateway.members import MalformedError, Span, TooDeepError, checked_text, members, strings_in
from router.gateway.paths import query_of
from router.gateway.steps import LEAP_BYTES, Body, Steps, finish

#: Bytes of prompt per prefix block, and how many blocks of a prompt are hashed at most.
PREFIX_BLOCK_BYTES = 1024
PREFIX_BLOCKS_MAX = 1024
#: No more than this is believed of ``n`` and ``max_tokens``; the engine still gets what the client wrote.
CHOICES_MAX = 1024
TOKENS_MAX = 100_000_000

#: Of a long body the members that are read, but for the prompt, together.
_SMALL_BYTES_MAX = 64 * 1024

_LIST_OF = re.compile(rb'[ \t\r\n]*\[[ \t\r\n]*(["\[])')
_TOKEN_IDS = re.compile(rb"[ \t\r\n]*\[[ \t\r\n]*\[?[ \t\r\n]*[0-9]")

_CHAT = StreamKind.CHAT


class _Body(msgspec.Struct):
    model: str | None = None
    stream: bool | None = None
    n: int | None = None
    max_tokens: int | float | None = None
    max_completion_tokens: int | float | None = None
    max_output_tokens: int | float | None = None
    n_predict: int | float | None = None
    messages: msgspec.Raw = msgspec.Raw()
    prompt: msgspec.Raw = msgspec.Raw()
    input: msgspec.Raw = msgspec.Raw()
    tools: msgspec.Raw = msgspec.Raw()
    stream_options: msgspec.Raw = msgspec.Raw()
    previous_response_id: msgspec.Raw = msgspec.Raw()
    conversation: msgspec.Raw = msgspec.Raw()
    system: msgspec.Raw = msgspec.Raw()
    instructions: msgspec.Raw = msgspec.Raw()
    query: msgspec.Raw = msgspec.Raw()
    documents: msgspec.Raw = msgspec.Raw()


_Wide = msgspec.defstruct("_Wide", [(name, msgspec.Raw, msgspec.Raw()) for name in ELSEWHERE], bases=(_Body,))


class _Reference(msgspec.Struct):
    id: str | None = None


#: Numbers in quotes and "true" are taken for what they say, as most engines do.
_decoder = msgspec.json.Decoder(_Body, strict=False)
_wide_decoder: msgspec.json.Decoder[_Body] = msgspec.json.Decoder(_Wide, strict=False)
_reference_decoder = msgspec.json.Decoder(str | _Reference | None)
_SMALL = (
    "model",
    "stream",
    "n",
    "max_tokens",
    "max_completion_tokens",
    "max_output_tokens",
    "n_predict",
    "stream_options",
    "previous_response_id",
    "conversation",
)
_MEMBERS = frozenset((*_SMALL, *BEFORE, *ELSEWHERE, *PROMPTS))
#: Python's json writes these, and reads them; the engine says whether it does.
_NOT_JSON = (b"NaN", b"Infinity")


class Kept(Value):
    """Something that a backend keeps under an id. ``param``: the member of the body that names it; None: the path."""

    id: str
    param: str | None = None


class Ask(Value, eq=False):
    """One request, understood as far as routing needs."""

    envelope: Envelope
    model: str
    stream: bool
    choices: int  # of all prompts together
    max_tokens: int | None
    prompt_bytes: int  # of its text
    blocks: tuple[int, ...]
    #: what it continues or asks about
    kept: Kept | None = None
    #: how many prompts the choices are of
    prompts: int = 1
    #: as JSON; empty if there are none
    stream_options: bytes = b""
    item_tokens: int = 0  # of what is no text: pictures at their price, token ids
    prefix_bytes: int = 0  # what the blocks were cut from
    #: where the body names its model, and its stream options; None: not looked for yet
    model_spans: Sequence[Span] | None = None
    option_spans: Sequence[Span] | None = None


def read(envelope: Envelope, data: Body, prices: TokensSection) -> Ask:
    """Peek at a body of LONG_BODY_BYTES at most. Raises RouterError: invalid_request, not_found, unsupported_encoding.

    ``prices``: what counts as how many tokens.
    """
    body = _read_json(data) if envelope.plain else None
    if body is None:
        return _read_special(envelope, data, prices)
    prompt = bytes(body.messages)
    begin = 0
    if body.prompt or body.input or body.documents or body.tools or body.system or body.instructions or body.query:
        before = b"".join((body.tools, body.system, body.instructions, body.query))
        held = [each for name in PROMPTS if (each := getattr(body, name))]
        if len(held) > 1:
            return finish(read_long(envelope, data, prices))
        prompt, begin = b"".join((before, *held)), len(before)
    if (not prompt.startswith(b"[{", begin) and prompt.startswith(b"[", begin)) or may_hold_media(prompt):
        spans = [(0, begin), (begin, len(prompt))] if begin else [(0, len(prompt))]
        return finish(_ask(envelope, body, prompt, spans, prices, spans[-1] if body.prompt else None))
    size = len(prompt)
    blocks: tuple[int, ...] = ()
    if size > PREFIX_BLOCK_BYTES:
        # the closing bracket is left off so that a longer conversation still begins with this one
        blocks = prefix_blocks(memoryview(prompt)[:-1], block_bytes=PREFIX_BLOCK_BYTES, limit=PREFIX_BLOCKS_MAX)
    elif not size:
        return finish(read_long(envelope, data, prices))
    return _made(envelope, body, size, blocks, prefix_bytes=size)


def _read_special(envelope: Envelope, data: Body, prices: TokensSection) -> Ask:
    names = prompts_at(envelope.path) if envelope.special else None
    body = None if names is None else _read_json(data, _wide_decoder)
    if names is None or body is None:
        return finish(read_long(envelope, data, prices))
    held: list[bytes] = [each for name in names if (each := getattr(body, name))]
    if not held:
        return finish(read_long(envelope, data, prices))
    spans, prompt = list(pairwise(accumulate(map(len, held), initial=0))), b"".join(held)
    return finish(_ask(envelope, body, prompt, spans, prices, spans[-1] if body.prompt else None))


def read_long(envelope: Envelope, data: Body, prices: TokensSection) -> Steps[Ask]:
    """Like ``read``, in steps, for a body of any length or kind."""
    if envelope.problem is not None:
        raise RouterError(*envelope.problem)
    if envelope.kept is not None:
        streamed = b"stream=true" in query_of(envelope.target).lower()
        return Ask(envelope, "", streamed, 1, None, 0, (), Kept(envelope.kept))
    if envelope.multipart:
        return (yield from _read_form(envelope, data, prices))
    try:
        yield from checked_text(data)
        found = yield from members(data, _MEMBERS)
    except TooDeepError:
        raise RouterError("invalid_request", "The JSON of the body is nested too deeply.") from None
    except (MalformedError, UnicodeDecodeError):
        raise RouterError("invalid_request", "The body is not valid JSON.") from None
    last = {name: spans[-1] for name, spans in found.items()}
    sizes = [last[name][1] - last[name][0] for name in _SMALL if name in last]
    if sum(sizes) > _SMALL_BYTES_MAX:
        raise RouterError("invalid_request", "A name or a number in the body is too long.")
    values = {name: bytes(data[slice(*last[name])]) for name in _SMALL if name in last}
    small = [b'"%b":%b' % (n.encode(), v) for n, v in values.items() if v[:1] == b'"' or not _has_no_json(v)]
    body = _read_json(b"{%b}" % b",".join(small)) or _Body()
    spans = [last[name] for name in prompts_at(envelope.path) or () if name in last]
    if not spans:  # a shape that we do not know: all of it may be the prompt
        spans = [(0, len(data))]
    ask = yield from _ask(envelope, body, data, spans, prices, last.get("prompt"))
    ask.model_spans, ask.option_spans = strings_only(data, found.get("model", ())), found.get("stream_options")
    return ask


def _ask(
    envelope: Envelope, body: _Body, data: Body, spans: list[Span], prices: TokensSection, several: Span | None
) -> Steps[Ask]:
    """The ask of a prompt that is long, or holds more than text. ``spans``: where the parts of the prompt stand.

    ``several``: where several prompts may stand.
    """
    limit_bytes = PREFIX_BLOCK_BYTES * PREFIX_BLOCKS_MAX + 1
    text_bytes = item_tokens = prefix_bytes = 0
    prefix: list[bytes] = []
    for span in spans:
        size = span[1] - span[0]
        if _TOKEN_IDS.match(data, span[0], min(span[1], span[0] + 64)):
            item_tokens += yield from _count_ids(data, span)
            prefix.append(bytes(data[span[0] : min(span[1], span[0] + max(0, limit_bytes - prefix_bytes))]))
            prefix_bytes += size
            continue
        media = yield from media_in(data, span)
        item_tokens += media.tokens(prices)
        text_bytes += size - media.payload_bytes
        piece, condensed_bytes = yield from condensed(data, span, media, prices, max(0, limit_bytes - prefix_bytes))
        prefix.append(piece)
        prefix_bytes += condensed_bytes
        yield min(len(piece), LEAP_BYTES)
    prompts = (yield from _count_prompts(data, several)) if several is not None else 1
    joined = b"".join(prefix)
    blocks = prefix_blocks(joined[:-1], block_bytes=PREFIX_BLOCK_BYTES, limit=PREFIX_BLOCKS_MAX)
    return _made(envelope, body, text_bytes, blocks, item_tokens, prefix_bytes, prompts)


def _count_ids(data: Body, span: Span) -> Steps[int]:
    """A prompt of token ids says how many it has."""
    return 1 + (yield from _count(data, span, b","))


def _count_prompts(data: Body, span: Span) -> Steps[int]:
    """How many prompts a body of /v1/completions holds: a text or a list of token ids is one, a list of these many."""
    first = _LIST_OF.match(data, span[0], min(span[1], span[0] + 64))
    if first is None:
        return 1
    if first.group(1) == b"[":
        return max(1, (yield from _count(data, span, b"[")) - 1)
    return max(1, (yield from strings_in(data, span)))


def _count(data: Body, span: Span, sign: bytes) -> Steps[int]:
    count = 0
    for at in range(span[0], span[1], LEAP_BYTES):
        piece = bytes(data[at : min(at + LEAP_BYTES, span[1])])
        count += piece.count(sign)
        yield len(piece)
    return count


def _made(
    envelope: Envelope,
    body: _Body,
    text_bytes: int,
    blocks: tuple[int, ...],
    item_tokens: int = 0,
    prefix_bytes: int = 0,
    prompts: int = 1,
) -> Ask:
    if not body.model:
        raise RouterError("invalid_request", "The body must name a `model`.", param="model")
    limit = body.max_tokens
    kept = None
    if body.max_completion_tokens or body.n_predict or envelope.kind is not _CHAT:
        limit = longest(envelope.path, body)
        kept = _continued(body) if envelope.kind is StreamKind.RESPONSES else None
    if limit is not None:
        limit = None if limit <= 0 else int(limit) if limit < TOKENS_MAX else TOKENS_MAX
    if prompts > CHOICES_MAX:
        prompts = CHOICES_MAX
    choices = prompts
    if body.n is not None and body.n > 1:
        choices = min(body.n * prompts, CHOICES_MAX)
    return Ask(
        envelope,
        body.model,
        body.stream is True,
        choices,
        limit,
        text_bytes,
        blocks,
        kept,
        prompts,
        bytes(body.stream_options),
        item_tokens,
        prefix_bytes,
    )


def _continued(body: _Body) -> Kept | None:
    """What a request for a response goes on from."""
    for param in ("previous_response_id", "conversation"):
        raw = getattr(body, param)
        if raw and (name := reference(raw)):
            return Kept(name, param)
    return None


def reference(raw: msgspec.Raw) -> str | None:
    """An id, or the ``id`` of an object; None if it is neither: that is for the engine to judge."""
    try:
        found = _reference_decoder.decode(raw)
    except msgspec.MsgspecError:
        return None
    return found.id if isinstance(found, _Reference) else found


def _read_json(data: Body, decoder: msgspec.json.Decoder[_Body] = _decoder) -> _Body | None:
    """None: no JSON by the letter, but by Python's, which has a NaN."""
    try:
        if not data.isascii():
            data.decode()
        return decoder.decode(data)
    except msgspec.ValidationError as error:
        message, _, place = str(error).partition(" - at ")
        param = place.strip("`").removeprefix("$").lstrip(".") or None
        raise RouterError("invalid_request", f"{message}.", param=param) from None
    except (msgspec.DecodeError, UnicodeDecodeError):
        if _has_no_json(data):
            return None
        raise RouterError("invalid_request", "The body is not valid JSON.") from None
    except RecursionError:
        raise RouterError("invalid_request", "The JSON of the body is nested too deeply.") from None


def _has_no_json(data: Body) -> bool:
    return any(word in data for word in _NOT_JSON)


def _read_form(envelope: Envelope, data: Body, prices: TokensSection) -> Steps[Ask]:
    """The ask of a form. Its files count by the piece, its prompt by its length."""
    try:
        fields = yield from multipart.parts(data, multipart.boundary_of(envelope.content_type))
    except multipart.FormError as problem:
        raise RouterError("invalid_request", f"The form of the body {problem}.") from None
    text_bytes = item_tokens = 0
    words: dict[str, str] = {}
    for part in fields:
        begin, end = part.content
        if part.is_file:
            kind = part.media_type.partition("/")[0]
            item_tokens += price_of(kind if kind in ("image", "audio", "video") else _file_kind(envelope.path), prices)
        elif part.name == "prompt":
            text_bytes += end - begin
        elif part.name in _SMALL and end - begin <= 256:
            words[part.name] = bytes(data[begin:end]).decode("utf-8", "replace").strip()
    try:
        body = msgspec.convert({k: v for k, v in words.items() if v}, _Body, strict=False)
    except msgspec.ValidationError:  # the engine says what is wrong with it
        body = _Body(words.get("model"))
    if not text_bytes and not item_tokens:  # a shape that we do not know
        text_bytes = len(data)
    ask = _made(envelope, body, text_bytes, (), item_tokens)
    ask.model_spans = [part.content for part in fields if part.name == "model" and not part.is_file]
    return ask


def _file_kind(path: bytes) -> str:
    """What a file is that does not say it, by where it is sent."""
    return "audio" if path.startswith(b"/v1/audio/") else "image" if path.startswith(b"/v1/images/") else "file"
