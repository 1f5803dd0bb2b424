"""The measurements of docs/scale.md run, and their figures have the right signs."""

from __future__ import annotations

import pytest

from bench.growth.deciding import request_us
from bench.growth.sharing import shared
from bench.growth.watching import configuration
from router.config import parse


def test_a_decision_among_more_backends_costs_more() -> None:
    assert request_us(200, requests=50) > request_us(5, requests=50) > 0


def test_what_a_router_reads_grows_with_the_others_and_with_their_backends() -> None:
    few, many, busy = shared(2, 10, periods=24), shared(4, 10, periods=48), shared(2, 100, periods=24)
    assert (few.heard, many.heard) == (1, 3)
    assert many.got_bytes > few.got_bytes
    assert busy.sent_bytes > 2 * few.sent_bytes, "names and counts are compressed, and still more of them are more"
    assert few.server_us >= 0
    assert few.router_us > 0


@pytest.mark.parametrize("backends", [1, 7])
def test_the_configuration_has_every_backend(backends: int) -> None:
    config = parse(configuration("127.0.0.1:1", backends, "127.0.0.1:2", "127.0.0.1:3"), "x", env={})
    assert len(config.backends) == backends
