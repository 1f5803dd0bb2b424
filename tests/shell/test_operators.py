"""The file of operators: made once, for one user, checked, read again when it changes."""

from __future__ import annotations

import hashlib
import logging
import os
import stat
from pathlib import Path

import pytest

from router.control.operators import FIRST, ROLES, Operator, Operators
from router.errors import ConfigError

TOKEN = "a-token-that-is-long-enough"
ADMIN = f'[operators.root]\nrole = "admin"\ntoken = "{TOKEN}"\n'


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "operators.toml"


def written(path: Path, text: str, mode: int = 0o600) -> str:
    path.write_text(text)
    path.chmod(mode)
    return str(path)


def token_in(path: Path) -> bytes:
    (line,) = [line for line in path.read_text().splitlines() if line.startswith("token = ")]
    return line.split('"')[1].encode()


def test_the_first_start_makes_a_file_for_this_user_alone_and_later_ones_keep_it(
    path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    made = Operators(path=str(path))
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    token = token_in(path)
    assert len(token) > 30
    found = made.find(token)
    assert found is not None
    assert (found.name, found.role) == (FIRST, "admin")
    assert token.decode() not in caplog.text
    text = path.read_text()
    assert Operators(path=str(path)).find(token) == found
    assert path.read_text() == text


def test_the_single_token_goes_on_to_work_as_admin(path: Path) -> None:
    both = Operators(TOKEN, str(path))
    found = both.find(TOKEN.encode())
    assert found is not None
    assert (found.name, found.role) == (FIRST, "admin")
    assert "token = " not in path.read_text(), "no second token comes about unasked"
    alone = Operators(TOKEN)
    assert alone.needed
    assert alone.find(TOKEN.encode()) is not None
    assert alone.find(b"") is None
    assert not Operators().needed


@pytest.mark.parametrize("mode", [0o640, 0o644, 0o604, 0o660])
def test_a_file_that_others_can_read_is_refused(path: Path, mode: int) -> None:
    with pytest.raises(ConfigError, match="others can read it") as caught:
        Operators(path=written(path, ADMIN, mode))
    assert f"chmod 600 {path}" in str(caught.value)


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("x = [", "Invalid"),
        ("[users.a]\n", "tables .operators.NAME. only"),
        ("operators = 3\n", "tables"),
        ('[operators."a b"]\nrole = "read"\n', "letters"),
        ('[operators.a]\nrole = "root"\ntoken = "0123456789abcdef"\n', "role is one of read, operate, admin"),
        ('[operators.a]\nrole = "read"\n', "needs token or token_sha256"),
        ('[operators.a]\nrole = "read"\ntoken = "short"\n', "fewer than 16"),
        ('[operators.a]\nrole = "read"\ntoken_sha256 = "abc"\n', "64 hexadecimal digits"),
        ('[operators.a]\nrole = "read"\ntokn = "0123456789abcdef"\n', 'did you mean "token"'),
        ('[operators.a]\nrole = "read"\ntoken = 7\n', "strings"),
        (ADMIN + f'[operators.b]\nrole = "read"\ntoken = "{TOKEN}"\n', "token of another operator"),
    ],
)
def test_what_is_wrong_is_said(path: Path, text: str, why: str) -> None:
    with pytest.raises(ConfigError, match=why):
        Operators(path=written(path, text))


def test_a_digest_will_do(path: Path) -> None:
    digest = hashlib.sha256(TOKEN.encode()).hexdigest()
    found = Operators(path=written(path, f'[operators.ci]\nrole = "operate"\ntoken_sha256 = "{digest}"\n'))
    assert found.find(TOKEN.encode()) == Operator("ci", "operate", bytes.fromhex(digest))


def test_a_change_is_in_force_at_once_and_a_mistake_is_not(path: Path, caplog: pytest.LogCaptureFixture) -> None:
    operators = Operators(path=written(path, ADMIN))
    with caplog.at_level(logging.ERROR):
        written(path, "nonsense [")
        assert operators.find(TOKEN.encode()) is not None
        written(path, ADMIN, 0o644)
        assert operators.find(TOKEN.encode()) is not None
    assert len(caplog.records) == 2
    other = "another-token-long-enough"
    written(path, ADMIN.replace(TOKEN, other))
    assert operators.find(TOKEN.encode()) is None
    assert operators.find(other.encode()) is not None
    path.unlink()
    assert operators.find(other.encode()) is not None, "a file that is gone takes nobody's right away"


def test_operators_are_added_and_removed(path: Path) -> None:
    operators = Operators(path=str(path))
    token = operators.add("anna.b", "operate")
    found = operators.find(token.encode())
    assert found is not None
    assert (found.name, found.role) == ("anna.b", "operate")
    assert Operators(path=str(path)).find(token.encode()) == found
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    for name, role in (("anna.b", "read"), ("a b", "read"), ("bob", "root")):
        with pytest.raises(ValueError, match=r"name|role"):
            operators.add(name, role)
    with pytest.raises(ValueError, match="role admin would be left"):
        operators.remove(FIRST)
    assert operators.remove("anna.b")
    assert not operators.remove("anna.b")
    assert operators.find(token.encode()) is None
    with pytest.raises(ValueError, match=r"set \[auth\] operators"):
        Operators(TOKEN).add("anna", "read")


def test_text_written_by_hand_survives_a_rewrite(path: Path) -> None:
    odd = 'quotes " and \\ and ü, long enough'
    operators = Operators(path=written(path, f"[operators.root]\nrole = 'admin'\ntoken = '{odd}'\n"))
    operators.add("bob", "read")
    assert Operators(path=str(path)).find(odd.encode()) is not None


def test_a_folder_that_cannot_be_written_is_said_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file or directory"):
        Operators(path=str(tmp_path / "nowhere" / "operators.toml"))
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("has", ROLES)
@pytest.mark.parametrize("needs", ROLES)
def test_a_role_may_what_those_below_it_may(has: str, needs: str) -> None:
    assert Operator("x", has, b"").may(needs) is (ROLES.index(has) >= ROLES.index(needs))


@pytest.mark.parametrize("wrong", ['[operators."hand"]\nrole = "read"\ntoken = "short"\n', "[operators\n", None])
def test_a_file_that_somebody_has_spoilt_is_not_written_over(path: Path, wrong: str | None) -> None:
    operators = Operators(path=written(path, ADMIN))
    if wrong is None:
        path.unlink()
    else:
        written(path, ADMIN + wrong)
    with pytest.raises(ValueError, match="left as it is"):
        operators.add("alice", "read")
    with pytest.raises(ValueError, match="left as it is"):
        operators.remove("root")
    assert path.exists() is (wrong is not None)
    assert wrong is None or path.read_text() == ADMIN + wrong
