"""Who asked is noted: by the name he gives where nobody needs a token."""

from __future__ import annotations

import pytest
from aiohttp.test_utils import make_mocked_request

from router.control.callers import ECHO_HEADER, NAME, OPERATOR_HEADER, by_of, is_echo, passed_on, who_of


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
    named = {} if token is None else {"X-Router-Operator-Known": token}
    assert passed_on(request) == {OPERATOR_HEADER: who, "Accept": "*/*"} | named


def test_a_call_that_several_workers_get_is_noted_by_one() -> None:
    assert not is_echo(make_mocked_request("POST", "/"))
    assert is_echo(make_mocked_request("POST", "/", headers={ECHO_HEADER: "1"}))


@pytest.mark.parametrize(
    ("headers", "token", "by"),
    [
        ({}, "ci", "ci"),
        ({OPERATOR_HEADER: "anna@laptop"}, "ci", "ci"),
        ({"X-Router-Operator-Known": "ci"}, None, "ci"),  # a worker has it from the process in front
        ({OPERATOR_HEADER: "anna@laptop"}, None, "the cloud"),
        ({}, None, "the cloud"),
    ],
)
def test_nobody_acts_in_the_name_of_another(headers: dict[str, str], token: str | None, by: str) -> None:
    request = make_mocked_request("POST", "/", headers=headers)
    if token is not None:
        request[NAME] = token
    assert by_of(request, "the cloud", "an operator") == by
    assert by_of(make_mocked_request("POST", "/"), "", "an operator") == "an operator"
