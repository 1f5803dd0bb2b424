"""[tracing] in the file: what is taken, what is refused."""

from __future__ import annotations

import pytest

from router.config import TracingSection, diff, fingerprint, parse
from router.errors import ConfigError

FLEET = '[[regions]]\nname = "a"\nbackends = [{name = "x", url = "http://10.0.0.1", models = ["m"]}]\n'


def test_the_keys_are_read() -> None:
    text = (
        '[tracing]\nendpoint = "http://collector:4318"\nheaders_env = "H"\ncompression = "gzip"\nsample = 0.1\n'
        "slow_s = 2.5\n"
    )
    config = parse(text + FLEET, "t", env={"H": "a=b"})
    assert config.tracing == TracingSection("http://collector:4318", "H", "gzip", 0.1, 2.5)
    assert parse(FLEET, "t").tracing.collector is None


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('endpoint = "collector:4318"', "must be an http:// or https:// address"),
        ('endpoint = "http://user:secret@collector:4318"', "put them into headers_env"),
        ('endpoint = "http://collector:4318?key=1"', "must not hold a query"),
        ("sample = 1.5", "must be"),
        ("sample = -0.1", "must be"),
        ("slow_s = -1", "must be"),
        ('compression = "zstd"', "must be one of"),
        ("slow_ms = 5", "unknown key"),
    ],
)
def test_what_cannot_work_is_refused(line: str, words: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(f"[tracing]\n{line}\n{FLEET}", "t")
    (problem,) = caught.value.problems
    assert words in problem
    assert "secret" not in problem


def test_it_may_differ_from_router_to_router_and_is_reloaded() -> None:
    plain, traced = parse(FLEET, "t"), parse('[tracing]\nendpoint = "http://c:4318"\n' + FLEET, "t")
    assert fingerprint(plain) == fingerprint(traced)
    assert diff(plain, traced) == ['tracing.endpoint: not set -> "http://c:4318"']
