"""The world of a command: errors become words and exit codes there, and nowhere else."""

from __future__ import annotations

import pytest

from cli.errors import CliError, Exit, StatusError
from cli.world import connect
from tests.cli.conftest import Play


def _raises(error: BaseException) -> Exit:
    raise error


@pytest.mark.parametrize(
    ("error", "code", "says"),
    [
        (CliError("it broke", hint="Mend it.", details=["here"]), 1, "error: it broke\n  · here\nMend it.\n"),
        (CliError("no", code=Exit.UNREACHABLE), 3, "error: no\n"),
        (StatusError(404, {"message": "There is no x."}), 2, "error: there is no x.\n"),
        (StatusError(500, {"message": "HTTP trouble"}), 1, "error: HTTP trouble\n"),
        (KeyboardInterrupt(), 130, ""),
    ],
)
def test_errors_are_words_and_a_code(play: Play, error: BaseException, code: int, says: str) -> None:
    assert play.context.outcome(lambda: _raises(error)) == code
    assert (play.out, play.err) == ("", says)


def test_without_an_error_the_code_is_what_the_command_says(play: Play) -> None:
    assert play.context.outcome(lambda: None) == Exit.OK
    assert play.context.outcome(lambda: Exit.UNHEALTHY) == Exit.UNHEALTHY


def test_an_address_that_is_none_is_a_usage_error() -> None:
    with pytest.raises(CliError, match="invalid address") as caught:
        connect("ftp://x", None, admin=True)
    assert caught.value.code is Exit.USAGE
