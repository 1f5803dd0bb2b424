"""The doctor about the file."""

from __future__ import annotations

from pathlib import Path

from cli.doctor import of_file

GOOD = '[[regions]]\nname = "us"\n[[regions.backends]]\nname = "a"\nurl = "http://127.0.0.1:1"\n'


def states(path: Path, env: dict[str, str] | None = None) -> list[tuple[str, str]]:
    _, found = of_file.read(str(path), env or {})
    return [(s.state, s.text) for s in found]


def test_a_good_file_is_one(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(GOOD)
    path.chmod(0o644)
    config, found = of_file.read(str(path), {})
    assert config is not None
    assert [s.state for s in found] == ["ok", "ok"]
    assert "1 backend" in found[0].text


def test_no_file_is_a_failure_that_helps(tmp_path: Path) -> None:
    config, (found,) = of_file.read(str(tmp_path / "none"), {})
    assert config is None
    assert (found.state, "config init" in found.advice) == ("fail", True)


def test_every_problem_is_a_line_and_the_rest_is_looked_at_all_the_same(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(GOOD + 'key_env = "NOT_SET_ANYWHERE"\n')
    config, found = of_file.read(str(path), {})
    assert found[0].state == "fail"
    assert "NOT_SET_ANYWHERE" in found[0].text
    assert config is not None, "without the secret the backends can still be asked"
    path.write_text("[rooter]\n")
    assert of_file.read(str(path), {})[0] is None


def test_warnings_are_told(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(GOOD + '[[regions.backends]]\nname = "b"\nurl = "http://127.0.0.1:1"\n')
    assert [s for s, text in states(path) if "same url" in text] == ["warn"]


def test_who_may_read_and_write_it(tmp_path: Path) -> None:
    path = tmp_path / "r.toml"
    path.write_text(GOOD)
    path.chmod(0o646)
    assert ("fail", "anybody on this machine can change it (mode 0646)") in states(path)
    path.write_text('[store]\nredis = "redis://:secret@127.0.0.1:1"\n' + GOOD)
    path.chmod(0o644)
    assert any(state == "warn" and "read the password" in text for state, text in states(path))
    path.chmod(0o600)
    assert not any("read the password" in text for _, text in states(path))
    path.write_text('[store]\nredis = "env:REDIS_URL"\n' + GOOD)
    path.chmod(0o644)
    env = {"REDIS_URL": "redis://:secret@127.0.0.1:1"}
    assert not any("read the password" in text for _, text in states(path, env)), "the password is not in the file"
