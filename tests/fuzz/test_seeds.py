"""The inputs that fuzzing found interesting, and the corpora of HTTP, through the same functions."""

from __future__ import annotations

import hashlib
import random
from pathlib import Path

import pytest

from tests.fuzz.__main__ import NAMES
from tests.fuzz.targets import QUICK, TARGETS
from tests.support import corpus

SEEDS = Path(__file__).parents[1] / "data" / "fuzz"
REQUESTS = [corpus.raw(case[3]) for cases in corpus.table("requests.toml").values() for case in cases]
ANSWERS = [corpus.raw(case[3]) for name in ("passed", "broken") for case in corpus.table("answers.toml")[name]]


def test_every_target_has_seeds() -> None:
    assert set(NAMES) == set(TARGETS) == {path.name for path in SEEDS.iterdir() if path.is_dir()}


@pytest.mark.parametrize("name", NAMES)
def test_seeds(name: str) -> None:
    paths = sorted((SEEDS / name).iterdir())
    assert paths
    for path in paths:
        data = path.read_bytes()
        assert path.name == hashlib.sha256(data).hexdigest()[:12], "a seed is named after its bytes"
        TARGETS[name](data)
        QUICK[name](data)


@pytest.mark.parametrize("name", ["inbound", "answer"])
def test_the_corpora_and_what_is_near_them(name: str) -> None:
    """Each message, and copies of it with a few bytes changed, doubled or left out."""
    rng = random.Random(7)
    for data in REQUESTS if name == "inbound" else ANSWERS:
        data = data[:6000]
        TARGETS[name](data)
        for _ in range(25):
            changed = bytearray(data)
            for _ in range(rng.randrange(1, 4)):
                at = rng.randrange(len(changed)) if changed else 0
                match rng.randrange(3):
                    case 0:
                        changed[at : at + 1] = rng.choice([b"\r", b"\n", b"\0", b" ", b":", b"0", b",", b"\xff"])
                    case 1:
                        changed[at:at] = changed[at : at + rng.randrange(1, 20)]
                    case _:
                        del changed[at : at + rng.randrange(1, 4)]
            TARGETS[name](bytes(changed))
            QUICK[name](bytes(changed))
