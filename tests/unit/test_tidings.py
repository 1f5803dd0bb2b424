"""Messages between routers: what goes in comes out, once, in whatever order and however often they arrive."""

from __future__ import annotations

import random
from collections.abc import Sequence

import orjson
from hypothesis import given
from hypothesis import strategies as st

from router.store.asking import Question
from router.store.tidings import BACKENDS_MAX, BLOCKS_MAX, KEPT_S, News, Outbox, Piece, Teller, Tidings

BLOCK = st.integers(0, 2**32 - 1)
NEWS = st.lists(
    st.tuples(st.sampled_from(["eu/x", "us/y", "ap/z"]), st.lists(BLOCK, min_size=1, max_size=40)), max_size=6
)
COUNTS = st.dictionaries(
    st.text(min_size=1, max_size=12), st.tuples(st.integers(1, 500), st.integers(0, 10**6)), max_size=9
)


class Clock:
    now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def told(outbox: Outbox, news: Sequence[News], counts: dict[str, tuple[int, int]] | None = None) -> bytes:
    return outbox.fresh(counts or {}, outbox.pack(news), [])


def flat(news: Sequence[News]) -> list[tuple[str, tuple[int, ...]]]:
    return sorted((backend, tuple(blocks)) for backend, blocks in news)


@given(COUNTS, NEWS)
def test_a_message_says_what_was_told(counts: dict[str, tuple[int, int]], news: list[News]) -> None:
    outbox = Outbox(Clock())
    question = Question("7", "status", {"a": "b"})
    message = Tidings.decoded(outbox.fresh(counts, outbox.pack(news), [question]))
    assert (message.era, message.serial, message.counts) == (outbox.era, 1, counts)
    assert flat([(p.backend, blocks) for p in message.pieces for blocks in p.prompts()]) == flat(news)
    assert list(message.questions) == [question]
    assert message.card is None
    assert Tidings.decoded(outbox.kept(counts, {"name": "r"}, [])).card == {"name": "r"}


@given(st.lists(NEWS, min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_news_is_learned_once_in_any_order_and_however_often(rounds: list[list[News]], rng: random.Random) -> None:
    outbox, learned = Outbox(Clock()), []
    messages = []
    for number, news in enumerate(rounds):
        messages.append(told(outbox, news, {"eu/x": (number + 1, 0)}))
        if rng.random() < 0.5:
            messages.append(outbox.kept({"eu/x": (number + 1, 0)}, {}, []))
    messages += rng.choices(messages, k=3)
    rng.shuffle(messages)
    heard = Teller(0.0)
    for at_s, raw in enumerate(messages):
        heard.take(Tidings.decoded(raw), float(at_s), lambda backend, blocks: learned.append((backend, blocks)))
    assert flat(learned) == flat([each for news in rounds for each in news])
    assert heard.counts == {"eu/x": (len(rounds), 0)}, "the last counts that were told hold, whatever came last"


def test_a_router_that_starts_again_counts_from_one() -> None:
    heard, learned = Teller(0.0), []

    def learn(backend: str, blocks: Sequence[int]) -> None:
        learned.append(tuple(blocks))

    before, after = Outbox(Clock()), Outbox(Clock())
    for number in range(3):
        heard.take(Tidings.decoded(told(before, [("eu/x", [number])], {"eu/x": (9, 9)})), 1.0, learn)
    assert heard.take(Tidings.decoded(told(after, [("eu/x", [7])])), 2.0, learn)
    assert learned == [(0,), (1,), (2,), (7,)]
    assert heard.counts == {}


def test_what_the_store_keeps_has_the_news_of_some_seconds() -> None:
    clock = Clock()
    outbox = Outbox(clock)
    told(outbox, [("eu/x", [1])])
    clock.now_s += KEPT_S / 2
    told(outbox, [("eu/x", [2])])

    def kept() -> list[int]:
        outbox.pack([])
        pieces = Tidings.decoded(outbox.kept({}, {}, [])).pieces
        return [block for piece in pieces for blocks in piece.prompts() for block in blocks]

    assert kept() == [1, 2]
    clock.now_s += KEPT_S * 0.6
    assert kept() == [2]


def test_only_what_is_new_is_worth_a_message() -> None:
    outbox, counts, question = Outbox(Clock()), {"eu/x": (1, 2)}, Question("1", "what", {})
    assert outbox.changed(counts, [], [])
    outbox.fresh(counts, [], [])
    assert not outbox.changed(dict(counts), [], [])
    assert outbox.changed(counts, outbox.pack([("eu/x", [1])]), [])
    assert outbox.changed(counts, [], [question])
    outbox.fresh(counts, [], [question])
    assert not outbox.changed(counts, [], [question])
    assert outbox.changed(counts, [], [question, Question("2", "what", {})])


def test_a_message_is_bounded() -> None:
    outbox = Outbox(Clock())
    counts = {f"eu/{n}": (n, 0) for n in range(BACKENDS_MAX + 10)}
    news = [(f"eu/{n}", list(range(BLOCKS_MAX // 4 - 1))) for n in range(6)]
    message = Tidings.decoded(told(outbox, news, counts))
    assert len(message.counts) == BACKENDS_MAX
    assert "eu/5" not in message.counts, "the least busy are left out"
    assert [piece.backend for piece in message.pieces] == ["eu/2", "eu/3", "eu/4", "eu/5"], "the newest blocks are told"


def test_hashes_cost_four_bytes_and_names_cost_little() -> None:
    rng = random.Random(1)
    blocks = [rng.getrandbits(32) for _ in range(1000)]
    outbox = Outbox(Clock())
    assert len(told(outbox, [("eu/x", blocks)])) < 4 * len(blocks) * 1.1 + 100
    counts = {f"europe-west{n % 4}/h100-{n}": (3 + n % 7, 1000 + n) for n in range(100)}
    assert len(told(outbox, [], counts)) < len(orjson.dumps(counts)) / 2


def test_messages_of_an_earlier_version_are_understood() -> None:
    raw = orjson.dumps(
        {"counts": {"eu/x": [1, 2]}, "prefixes": [tuple(Piece.of(1, "eu/x", [2, 8, 9]))], "card": {"name": "a"}}
    )
    learned: list[Sequence[int]] = []
    heard = Teller(0.0)
    for _ in range(2):
        assert heard.take(Tidings.decoded(raw), 1.0, lambda _, blocks: learned.append(blocks))
    assert (heard.counts, heard.card, learned) == ({"eu/x": (1, 2)}, {"name": "a"}, [(8, 9)])


@given(st.binary(max_size=60))
def test_what_cannot_be_read_says_nothing(raw: bytes) -> None:
    assert Tidings.decoded(raw).pieces == ()
    for text in (b'{"counts":{"x":1}}', b'{"counts":{},"prefixes":[[1]]}', b"[]"):
        assert Tidings.decoded(text) == Tidings("", 0, {})
