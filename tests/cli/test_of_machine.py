"""Descriptors of this machine beside what is configured."""

from __future__ import annotations

from cli.doctor import of_machine
from router.config import parse

TEXT = "[limits]\nconnections = {}\n[[regions]]\nname = 'us'\n[[regions.backends]]\nname = 'a'\nurl = 'http://h:1'\n"


def test_enough_descriptors_and_too_few() -> None:
    config = parse(TEXT.format(1000), "r.toml")
    (found,) = of_machine.look(config, 65_536)
    assert found.state == "ok"
    (found,) = of_machine.look(config, 1024)
    assert found.state == "warn"
    needed = int(found.advice.split()[2])
    (again,) = of_machine.look(config, needed)
    assert again.state == "ok", "what is advised suffices"
