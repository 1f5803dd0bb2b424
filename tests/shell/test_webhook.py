"""Alerts on their way to a receiver that checks their signatures."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import orjson
import pytest

from router.config import AlertsSection, signing_key
from router.control.webhook import ATTEMPTS_MAX, QUEUE_MAX, Alert, Webhook, signature
from tests.support.ports import free_port
from tests.support.receiver import SECRET, Receiver

ENV = "MERIDIAN_TEST_WEBHOOK"


@pytest.fixture(autouse=True)
def secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENV, SECRET)


def message(number: int) -> Alert:
    return Alert(f"m{number}", orjson.dumps({"id": f"m{number}"}), "a test")


@asynccontextmanager
async def sending(url: str | None) -> AsyncIterator[Webhook]:
    webhook = Webhook(lambda: AlertsSection(url, ENV), pause_s=0.001)
    webhook.start()
    try:
        yield webhook
    finally:
        await webhook.stop()


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(20):
        while not true():  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_messages_come_in_order_and_signed() -> None:
    with Receiver() as receiver:
        async with sending(receiver.url) as webhook:
            for number in range(5):
                webhook.send(message(number))
            await until(lambda: len(receiver.got) == 5)
        assert [document["id"] for document in receiver.got] == [f"m{n}" for n in range(5)]
        assert not receiver.bad
        assert webhook.results == {"delivered": 5}


async def test_a_plain_secret_is_taken_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENV, "hunter2hunter2")
    with Receiver(secret=b"hunter2hunter2") as receiver:
        async with sending(receiver.url) as webhook:
            webhook.send(message(1))
            await until(lambda: receiver.got or receiver.bad)
        assert not receiver.bad


async def test_a_receiver_that_fails_is_asked_again_with_the_same_id() -> None:
    with Receiver(statuses=[500, 429, 404]) as receiver:
        async with sending(receiver.url) as webhook:
            webhook.send(message(1))
            webhook.send(message(2))
            await until(lambda: len(receiver.got) == 2)
        assert receiver.tried == ["m1", "m1", "m1", "m1", "m2"]
        assert webhook.results == {"delivered": 2, "retried": 3}


async def test_redirects_are_not_followed() -> None:
    with Receiver() as elsewhere, Receiver(statuses=[302] * ATTEMPTS_MAX) as receiver:
        receiver.location = elsewhere.url
        async with sending(receiver.url) as webhook:
            webhook.send(message(1))
            await until(lambda: webhook.results["given_up"])
        assert len(receiver.tried) == ATTEMPTS_MAX
        assert not elsewhere.tried
        assert not elsewhere.bad


async def test_an_alert_is_given_up_with_a_line_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    async with sending(f"http://127.0.0.1:{free_port()}/") as webhook:
        with caplog.at_level(logging.ERROR):
            webhook.send(message(1))
            await until(lambda: webhook.results["given_up"])
    assert webhook.results == {"given_up": 1, "retried": ATTEMPTS_MAX - 1}
    assert "the alert m1 (a test) for the webhook is given up: after 10 attempts" in caplog.text


async def test_the_queue_is_bounded_and_the_end_waits_for_nobody(caplog: pytest.LogCaptureFixture) -> None:
    webhook = Webhook(lambda: AlertsSection("http://127.0.0.1:1/", ENV))
    for number in range(QUEUE_MAX + 2):
        webhook.send(message(number))
    assert webhook.results == {"dropped": 2}
    await webhook.stop()
    assert webhook.results["given_up"] == QUEUE_MAX


async def test_without_a_webhook_nothing_waits() -> None:
    async with sending(None) as webhook:
        webhook.send(message(1))
        assert repr(webhook) == "<Webhook 0 wait>"


def test_the_signature_is_that_of_standard_webhooks() -> None:
    """The example of its specification's libraries."""
    key = signing_key("whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw")
    assert key is not None
    made = signature(key, "msg_p5jXN8AQM9LWM0D4loKWxJek", 1614265330, b'{"test": 2432232314}')
    assert made == "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE="


async def test_nothing_is_signed_with_what_is_no_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(ENV, "whsec_no base64")
    with Receiver() as receiver:
        async with sending(receiver.url) as webhook:
            webhook.send(message(1))
            await until(lambda: webhook.results["given_up"])
        assert receiver.tried == []
