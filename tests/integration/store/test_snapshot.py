"""A router that starts while the store is away serves the keys of its last snapshot, and says so."""

from __future__ import annotations

import json
import logging
import stat
import urllib.error
import urllib.request
from pathlib import Path

import pytest

from router.errors import RouterError
from router.store.keys import PEPPER_ENV
from router.store.shared import SharedStore
from tests.integration.store.routers import eventually, router
from tests.support.router import RouterProcess, Site
from tests.support.valkey import Valkey, free_port


def known(store: SharedStore, secret: str) -> bool:
    key = store.keys.lookup(secret.encode())
    return key is not None and not key.revoked


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "keys.json"


@pytest.mark.parametrize("pepper", [None, "p" * 40])
async def test_keys_travel_over_an_outage_of_everything(
    valkey: Valkey, path: Path, pepper: str | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    if pepper is not None:
        monkeypatch.setenv(PEPPER_ENV, pepper)
    async with router(valkey.url, snapshot=str(path)) as store:
        (_, good), (bad_key, bad) = await store.create_key("a"), await store.create_key("b")
        await store.revoke_key(bad_key.id)
        assert store.notice is None or "file" not in store.notice
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    text = path.read_text()
    assert good not in text
    assert pepper is None or pepper not in text
    valkey.kill()
    async with router(valkey.url, snapshot=str(path), name="new") as store:
        assert store.state == "down"
        assert store.keys.loaded
        assert known(store, good)
        assert not known(store, bad)
        assert store.keys.lookup(b"mr-wrong") is None
        assert store.notice is not None
        assert "2 keys served from a file" in store.notice
        assert any("served from a file" in r.getMessage() for r in caplog.records)
        valkey.restart()  # and it has lost everything
        await eventually(lambda: store.state == "up")
        assert store.notice is None or "file" not in store.notice
        async with router(valkey.url, name="other") as other:
            assert known(other, good)
            assert not known(other, bad)


async def test_expiries_and_new_secrets_travel_too(valkey: Valkey, path: Path) -> None:
    async with router(valkey.url, snapshot=str(path)) as store:
        (key, old), (other, _) = await store.create_key("a", expires_s=1_900_000_000.0), await store.create_key("b")
        made = await store.rotate_key(key.id, 3600.0)
        assert made is not None
        rotated, new = made
        await store.rotate_key(other.id, 0.0)
    assert old not in path.read_text()
    assert new not in path.read_text()
    valkey.kill()
    async with router(valkey.url, snapshot=str(path), name="new") as store:
        assert store.state == "down"
        assert store.keys.lookup(new.encode()) == rotated
        found = store.keys.lookup(old.encode())
        assert found is not None
        assert (found.id, found.expires_s) == (key.id, 1_900_000_000.0)
        assert found.replaced_until_s == rotated.older_until_s[0]


async def test_a_secret_that_was_replaced_does_not_come_back_with_an_old_file(path: Path) -> None:
    """Router a has heard nothing of the rotation, and gives a store that lost everything what it knows."""
    with Valkey(unix=False) as valkey:
        async with router(valkey.url, snapshot=str(path)) as store:
            key, old = await store.create_key("a")
        async with router(valkey.url, name="elsewhere") as other:
            made = await other.rotate_key(key.id, 0.0)
            assert made is not None
            valkey.kill()
            await eventually(lambda: other.state == "down")
            async with router(valkey.url, snapshot=str(path)) as store:
                assert known(store, old)
                valkey.restart()
                await eventually(lambda: store.state == other.state == "up")
                await eventually(lambda: known(store, made[1]) and not known(store, old))
                assert known(other, made[1])
                assert not known(other, old)


async def test_a_revocation_is_heard_with_the_first_contact(path: Path) -> None:
    with Valkey(unix=False, persist=True) as valkey:
        async with router(valkey.url, snapshot=str(path)) as store:
            key, secret = await store.create_key("a")
        async with router(valkey.url, name="elsewhere") as other:
            await other.revoke_key(key.id)
        valkey.kill()
        async with router(valkey.url, snapshot=str(path)) as store:
            assert known(store, secret)
            valkey.restart()
            await eventually(lambda: store.state == "up")
            assert not known(store, secret)


@pytest.mark.parametrize("wrong", ["mode", "json", "format", "pepper", "nothing"])
async def test_a_file_that_cannot_be_trusted_is_not_used(
    path: Path, wrong: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    with Valkey() as valkey:
        async with router(valkey.url, snapshot=str(path)) as store:
            _, secret = await store.create_key("a")
        url = valkey.url
    if wrong == "mode":
        path.chmod(0o644)
    elif wrong == "json":
        path.write_bytes(path.read_bytes()[:-20])
    elif wrong == "format":
        path.write_text(json.dumps({"format": 99}))
    elif wrong == "pepper":
        monkeypatch.setenv(PEPPER_ENV, "another")
    else:
        path.unlink()
    async with router(url, snapshot=str(path)) as store:
        assert not store.keys.loaded
        with pytest.raises(RouterError) as caught:
            store.keys.lookup(secret.encode())
        assert caught.value.code == "store_unavailable"
    said = [r.getMessage() for r in caplog.records if "snapshot of the API keys is not used" in r.getMessage()]
    assert len(said) == (wrong != "nothing")


async def test_a_folder_that_is_not_there_is_told_once(valkey: Valkey, caplog: pytest.LogCaptureFixture) -> None:
    async with router(valkey.url, snapshot="/nowhere/keys.json") as store:
        await store.create_key("a")
        await store._snapshot.save()
        await store._snapshot.save()
        assert store.state == "up"
    assert sum("cannot be written" in r.getMessage() for r in caplog.records) == 1


def status_of(url: str, secret: str = "") -> tuple[int, str]:
    asked = urllib.request.Request(url, headers={"authorization": f"Bearer {secret}"} if secret else {})
    try:
        with urllib.request.urlopen(asked, timeout=5) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def test_a_real_router_is_ready_by_its_snapshot_and_not_without(path: Path) -> None:
    port = free_port()
    head = f'[store]\nredis = "redis://127.0.0.1:{port}/0"\n'
    kept = head + f'snapshot = "{path}"\n'
    sites = [Site("eu", "a", f"http://127.0.0.1:{free_port()}", models=["m"])]
    with Valkey(unix=False, port=port), RouterProcess(sites, head=kept, wait=None) as r:
        asked = urllib.request.Request(
            f"{r.admin}/admin/v1/keys", data=b'{"name": "a"}', headers={"content-type": "application/json"}
        )
        with urllib.request.urlopen(asked, timeout=5) as answer:
            secret = json.loads(answer.read())["key"]
        assert status_of(f"{r.url}/v1/models", secret)[0] == 200
    with RouterProcess(sites, head=head, wait=None) as r:
        assert status_of(f"{r.url}/readyz")[0] == 503
        status, text = status_of(f"{r.url}/v1/models", secret)
        assert status == 503
        assert "API keys cannot be checked yet" in text
    with RouterProcess(sites, head=kept, wait=None) as r:
        assert status_of(f"{r.url}/v1/models", secret)[0] == 200
        assert status_of(f"{r.url}/v1/models", "mr-wrong")[0] == 401
        assert "served from a file" in r.log.read_text()
