"""Clouds and their words for a machine that is to go away."""

from __future__ import annotations

import pytest

from router.discovery.spot_words import SOON_S, Word, read_notice, wall_of

WALL_S = 1_790_000_000.0  # 2026-09-21T14:13:20Z


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        (404, "", Word.STAYS),
        (204, "", Word.STAYS),
        (200, "", Word.STAYS),
        (200, "FALSE", Word.STAYS),
        (200, "NONE\n", Word.STAYS),
        (200, '{"DocumentIncarnation": 2, "Events": []}', Word.STAYS),
        (200, '{"Events": [{"EventType": "Freeze", "NotBefore": "Mon, 21 Sep 2026 14:15:20 GMT"}]}', Word.STAYS),
        (200, "TRUE", SOON_S),
        (200, "TERMINATE_ON_HOST_MAINTENANCE", SOON_S),
        (200, '{"action": "terminate", "time": "2026-09-21T14:15:20Z"}', 120.0),
        (200, '{"action": "stop", "time": "2026-09-21T14:13:00Z"}', 0.0),
        (200, '{"action": "hibernate"}', SOON_S),
        (200, '{"Events": [{"EventType": "Preempt", "NotBefore": "Mon, 21 Sep 2026 14:13:50 GMT"}]}', 30.0),
        (200, '{"Events": [{"EventType": "Preempt", "NotBefore": ""}]}', SOON_S),
        (200, "2026-09-21T14:15:20Z", 120.0),
        (200, "1790000060", 60.0),
        (200, '{"in_s": 90}', 90.0),
        (200, "<html>welcome</html>", Word.UNKNOWN),
        (200, '{"status": "fine"}', Word.UNKNOWN),
        (200, "[1]", Word.UNKNOWN),
        (200, '{"in_s": true}', Word.UNKNOWN),
        (401, "no token", Word.UNKNOWN),
        (500, "", Word.UNKNOWN),
        (302, "TRUE", Word.UNKNOWN),
    ],
)
def test_words(status: int, body: str, expected: float | Word) -> None:
    assert read_notice(status, body.encode(), WALL_S) == expected


def test_times_need_a_zone() -> None:
    assert wall_of("2026-09-21T14:13:20+00:00") == WALL_S
    assert wall_of("2026-09-21T16:13:20+02:00") == WALL_S
    assert wall_of("2026-09-21T14:13:20") is None
    assert wall_of("soon") is None
    assert wall_of("30") is None
