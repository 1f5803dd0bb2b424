"""Which answers repeat themselves: every exact loop, soon, and nothing that only looks alike."""

from __future__ import annotations

import base64
import json
import random
from collections.abc import Iterator
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.core.loop_guard import (
    COPIES,
    KEPT_BYTES,
    PERIOD_BYTES_MAX,
    STEP_BYTES,
    VARIED,
    WINDOW_BYTES,
    WINDOW_PLAIN_BYTES,
    LoopGuard,
    period_of,
)
from router.core.transcript import Transcript, escaped
from tests.support.effort import examples
from tests.tidy.tree import ROOT

CHUNK_BYTES = 4


def events(text: str, size: int = CHUNK_BYTES, member: str = "content") -> Iterator[bytes]:
    """A stream in the shape of vLLM's that says this text."""
    for at in range(0, len(text), size):
        delta = {member: text[at : at + size]}
        choice = {"index": 0, "delta": delta, "logprobs": None, "finish_reason": None}
        message = {
            "id": "chatcmpl-1",
            "object": "chat.completion.chunk",
            "created": 5,
            "model": "m",
            "choices": [choice],
        }
        yield b"data: " + json.dumps(message).encode() + b"\n\n"


def noticed(text: str, *, batch: int = 32, size: int = CHUNK_BYTES, member: str = "content") -> tuple[int, int] | None:
    """The length of the piece, and after how many bytes of the text it was noticed."""
    guard, pending, passed = LoopGuard(), [], 0
    for n, event in enumerate(events(text, size, member), 1):
        pending.append(event)
        if len(pending) == batch:
            guard.add(b"".join(pending))
            passed, pending = n * size, []
            if guard.period_bytes:
                return guard.period_bytes, passed
    return None


def say(guard: LoopGuard, inside: bytes) -> None:
    """One event with this text, which stands in JSON."""
    guard.add(b'data: {"choices":[{"index":0,"delta":{"content":"%b"}}]}\n\n' % inside)


LOOPS = {
    "word": "The ",
    "sentence": "I am sorry, but I cannot help with that. ",
    "list": "- item one\n- item two\n- item three\n\n",
    "code": 'def f(x):\n    """Do it."""\n    return x + 1\n\n\n',
    "chinese": "我不知道该怎么回答这个问题。",
    "emoji": "🙂🙃",
    "json": '{"name": "a\\"b", "tags": ["x", "y"]},\n',
    "zeros": "0, ",
    "inner runs": "x" + "-" * 300 + "y" + "-" * 300 + "z\n",
    "blank": " ",
    "long": " ".join(f"word{n * n % 997}" for n in range(450)) + "\n",
}


@pytest.mark.parametrize("piece", LOOPS.values(), ids=LOOPS)
@pytest.mark.parametrize("batch", [1, 32])
def test_a_loop_is_noticed_soon_after_its_third_copy_and_its_window(piece: str, batch: int) -> None:
    prefix = "Here is the answer, which begins well enough.\n\n"
    size = len(piece.encode())
    window = WINDOW_BYTES if len(set(piece.encode())) >= VARIED else WINDOW_PLAIN_BYTES
    due = max(COPIES * size, window) + 3 * STEP_BYTES
    copies = -(-due // size) + 40
    found = noticed(prefix + piece * copies, batch=batch)
    assert found is not None
    period, after = found
    assert size % period == 0 or period % size == 0
    assert after <= len(prefix) + due * len(piece) / size + batch * CHUNK_BYTES


#: The second halves of characters, line breaks, quotes and backslashes, in every spelling that servers have.
CHARACTERS = st.text(st.sampled_from('a é─"\\/\n\t\u00e9你🤖😀'), min_size=1, max_size=60)


def told(text: str, ascii_only: bool, size: int, kept: bool) -> int:
    """The length of the piece that is noticed; ``kept``: a transcript has the text."""
    guard, transcript, batch = LoopGuard(), Transcript("vllm") if kept else None, list[bytes]()
    halves = text.encode("utf-16-le", "surrogatepass")  # a server may part a character
    for at in range(0, len(halves), 2 * size):
        piece = halves[at : at + 2 * size].decode("utf-16-le", "surrogatepass") if ascii_only else ""
        piece = piece or text[at // 2 : at // 2 + size]
        inside = json.dumps(piece, ensure_ascii=ascii_only).encode()[1:-1]
        batch.append(b'data: {"choices":[{"index":0,"delta":{"content":"%b"},"finish_reason":null}]}\n\n' % inside)
        if len(batch) == 32:
            events = b"".join(batch)
            batch.clear()
            if transcript is not None:
                transcript.add(events)
            guard.add(events, transcript)
            if guard.period_bytes:  # the answer ends here
                break
    return guard.period_bytes


@pytest.mark.parametrize("kept", [False, True])
@pytest.mark.parametrize("text", ["🤖" * 700, "─" * 1000, "déjà vu, été. " * 150, "\n" * 3500, '"\t' * 1700])
def test_an_escape_is_one_character_and_stops_nothing_sooner(text: str, kept: bool) -> None:
    """Escapes are up to six times as long as UTF-8, and mean the same."""
    assert not told(text, False, 4, kept)
    assert not told(text, True, 4, kept)


@examples(0.3)
@given(CHARACTERS, st.integers(1, 7), st.booleans(), st.booleans())
def test_a_loop_is_noticed_in_every_spelling(piece: str, size: int, ascii_only: bool, kept: bool) -> None:
    text = "Well. " + piece * (3 * WINDOW_PLAIN_BYTES // len(piece.encode()) + 3 * len(piece))
    text += piece * (32 * size // len(piece) + 1) * 60 if kept else ""
    found = told(text, ascii_only, size, kept)
    assert found
    assert found % len(piece.encode()) == 0 or len(piece.encode()) % found == 0


def test_a_long_loop_is_noticed_in_escapes_too() -> None:
    piece = "".join(chr(0x4E00 + n * n * 7 % 5000) for n in range(800))
    for kept in (False, True):
        assert told(piece * 12, True, 2, kept) == told(piece * 12, False, 2, kept) == len(piece.encode())


@pytest.mark.parametrize("member", ["content", "text", "reasoning_content", "reasoning"])
def test_what_is_thought_counts_as_what_is_said(member: str) -> None:
    assert noticed("Wait, let me think again. " * 300, member=member) is not None


@given(
    st.binary(min_size=1, max_size=2500),
    st.binary(max_size=2000),
    st.integers(0, 400),
)
def test_every_exact_loop_is_noticed(piece: bytes, prefix: bytes, extra: int) -> None:
    window = max(COPIES * len(piece), WINDOW_BYTES if len(set(piece)) >= VARIED else WINDOW_PLAIN_BYTES)
    text = prefix + piece * (-(-window // len(piece)) + 1) + piece[: extra % len(piece)]
    found = period_of(text[-KEPT_BYTES:])
    assert found
    assert text[-found:] == text[-2 * found : -found]


@examples(3)
@given(st.integers(1, 700), st.sampled_from([2, 3, 30]), st.randoms(use_true_random=False))
def test_also_those_with_repetitions_inside(length: int, alphabet: int, rng: random.Random) -> None:
    """Pieces made of few characters, in runs: the hard case for a search."""
    piece = b"".join(bytes([97 + rng.randrange(alphabet)]) * rng.randrange(1, 40) for _ in range(length // 8 + 1))
    piece = piece[:PERIOD_BYTES_MAX]
    guard, found_at, said = LoopGuard(), None, 0
    for _ in count():
        say(guard, piece)
        said += len(piece)
        if guard.period_bytes:
            found_at = said
            break
        assert said < 60_000
    assert found_at <= max(COPIES * len(piece), WINDOW_PLAIN_BYTES) + 4 * max(STEP_BYTES, len(piece))


def table(rows: int) -> str:
    lines = [f"| {n} | {n * 37 % 101} |  | {'yes' if n % 3 else 'no'} | |" for n in range(rows)]
    return "| n | value | | ok | |\n|---|---|---|---|---|\n" + "\n".join(lines)


def corpus() -> Iterator[tuple[str, str]]:
    rng = random.Random(7)
    yield "count to 400", ", ".join(map(str, range(1, 401)))
    yield "count to 5000 in lines", "\n".join(map(str, range(5001)))
    yield (
        "count down in words",
        "\n".join(f"{n} bottles of beer on the wall, {n} bottles of beer." for n in range(99, 0, -1)),
    )
    yield "base64 of noise", base64.b64encode(rng.randbytes(20_000)).decode()
    yield "base64 with zeros", base64.b64encode(b"".join(rng.randbytes(40) + bytes(1500) for _ in range(12))).decode()
    yield "hex dump", "\n".join(f"{n * 16:08x}  {rng.randbytes(16).hex(' ')}" for n in range(600))
    yield "hex dump of zeros", "\n".join(f"{n * 16:08x}  {bytes(16).hex(' ')}" for n in range(600))
    yield "table", table(400)
    yield "empty table", "\n".join(f"| {n} |" + "   |" * 12 for n in range(300))
    yield "rules", ("-" * 120 + "\n") * 8 + "\n".join(f"{n}\n" + "-" * 80 for n in range(60))
    records = [{"id": n, "name": f"user{n}", "active": True, "tags": [], "score": 0} for n in range(400)]
    yield "json records", json.dumps(records)
    yield "json records, indented", json.dumps(records, indent=4)
    yield "json lines", "\n".join(json.dumps(record) for record in records)
    yield "sql", "\n".join(f"INSERT INTO t (a, b, c) VALUES ({n}, 'x', NULL);" for n in range(400))
    yield "csv", "\n".join(f"2026-{1 + n // 28:02d}-{1 + n % 28:02d},0,0,0,0,0" for n in range(336))
    yield "identity matrix", "\n".join(" ".join("1" if i == j else "0" for j in range(60)) for i in range(60))
    yield "multiplication table", "\n".join(" ".join(f"{i * j:4d}" for j in range(1, 25)) for i in range(1, 60))
    yield "fibonacci", "\n".join(map(str, _fibonacci(300)))
    yield (
        "chorus three times",
        ("\n".join(f"Line {n} of the chorus, la la la" for n in range(12)) + "\n\n") * 2 + "The end.",
    )
    yield "a small zero array", "int a[256] = {" + "0, " * 256 + "};\n"
    yield "binary", "\n".join(f"{n:012b}" for n in range(1000))
    for path in sorted((*ROOT.glob("router/**/*.py"), *ROOT.glob("docs/*.md"), *ROOT.glob("deploy/**/*.json")))[::4]:
        yield path.name, path.read_text()


def _fibonacci(length: int) -> Iterator[int]:
    a, b = 0, 1
    for _ in range(length):
        yield a
        a, b = b, a + b


def test_nothing_else_is_taken_for_a_loop() -> None:
    for name, text in corpus():
        guard = LoopGuard()
        inside = escaped(text)
        for at in range(0, len(inside), 130):
            say(guard, inside[at : at + 130])
            assert not guard.period_bytes, f"{name}: {inside[max(0, at - 200) : at + 130]!r}"


@given(
    st.lists(st.tuples(st.text("abcdefg ", min_size=3, max_size=20), st.integers(0, 3)), min_size=1, max_size=6),
    st.integers(10, 400),
    st.integers(0, 10**6),
)
def test_records_whose_values_differ_are_no_loop(form: list[tuple[str, int]], number: int, first: int) -> None:
    """Only one value differs, and counts up."""
    lines = [json.dumps({"n": first + n, **{f"{k}{v}": v for k, v in form}}) for n in range(number)]
    guard = LoopGuard()
    for line in lines:
        say(guard, escaped(line + ",\n"))
        assert not guard.period_bytes


def test_a_loop_that_ends_in_time_is_none() -> None:
    short = "All work and no play makes Jack a dull boy. "
    text = short * (WINDOW_BYTES // len(short) - 2) + "And so on. " + "".join(f"Page {n}. " for n in range(2000))
    assert noticed(text) is None


def test_events_of_every_shape_say_the_same() -> None:
    """With frames that change from event to event, with pairs of members, and with events that say nothing."""
    guard = LoopGuard()
    for n in range(3000):
        choice = {"index": 0, "delta": {"role": "assistant", "content": "again ", "reasoning_content": ""}}
        event = b"data: " + json.dumps({"id": n, "choices": [choice]}).encode() + b"\n\n"
        guard.add(event + b": ping\n\n" + b'data: {"choices":[],"usage":{"total_tokens":5}}\n\n')
        if guard.period_bytes:
            break
    assert guard.period_bytes == len("again ")


@given(st.binary(max_size=300), st.integers(1, 40))
def test_no_bytes_are_a_fault_and_memory_is_bounded(data: bytes, times: int) -> None:
    guard = LoopGuard()
    for _ in range(times):
        guard.add(data)
        guard.add(b"data: " + data + b"\n\n")
        say(guard, data.hex().encode() * 30)
        assert len(guard._text) <= KEPT_BYTES
        assert guard._fresh < STEP_BYTES
