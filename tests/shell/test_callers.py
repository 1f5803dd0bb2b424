"""Who asked is noted: by the name he gives where nobody needs a token."""

from __future__ import annotations

import pytest
from aiohttp.test_utils import make_mocked_request

from router.control.callers import ECHO_HEADER, NAME, OPERATOR_HEADER, is_echo, passed_on, who_of


@pytest.mark.parametrize(
    ("headers", "token", "who"),
    [
        ({}, None, "somebody on this machine"),
        ({OPERATOR_HEADER: "anna@laptop"}, None, "anna@laptop"),
        ({OPERATOR_HEADER: "anna@laptop"}, "ci", "ci"),
        ({OPERATOR_HEADER: " "}, None, "somebody on this machine"),
        ({OPERATOR_HEADER: "x" * 500}, None, "x" * 99 + "…"),
    ],
)
def test_the_token_names_the_caller_and_without_one_he_names_himself(
    headers: dict[str, str], token: str | None, who: str
) -> None:
    request = make_mocked_request("POST", "/", headers=headers)
    if token is not None:
        request[NAME] = token
    assert who_of(request) == who
    assert passed_on(request) == {OPERATOR_HEADER: who}


def test_a_call_that_several_workers_get_is_noted_by_one() -> None:
    assert not is_echo(make_mocked_request("POST", "/"))
    assert is_echo(make_mocked_request("POST", "/", headers={ECHO_HEADER: "1"}))
