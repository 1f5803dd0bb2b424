"""The doctor at a real Valkey: what it finds wrong there, and that it changes nothing."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from cli.doctor import of_store
from cli.doctor.symptoms import Symptom
from router.config import parse
from tests.integration.store.test_access import rights
from tests.support.valkey import Valkey

REGION = "[[regions]]\nname = 'us'\n[[regions.backends]]\nname = 'a'\nurl = 'http://127.0.0.1:1'\n"


def look(redis: str, more: str = "") -> dict[str, Symptom]:
    """The last line about each thing."""
    return {s.what: s for s in of_store.look(parse(f'[store]\nredis = "{redis}"\n{more}{REGION}', "r.toml"))}


def test_a_store_that_is_well() -> None:
    with Valkey(unix=False, persist=True) as valkey:
        found = look(valkey.url)
        assert {s.state for s in found.values()} == {"ok"}, found
        assert found["maxmemory-policy"].text == "noeviction"
        assert "Valkey" in found[valkey.url].text
        keys = re.findall(r"^[m{]\S+", valkey.command("KEYS", "*").decode(), re.MULTILINE)
        assert [key for key in keys if "{check}" not in key and key != "{mr}:version"] == []


def test_what_a_store_forgets() -> None:
    with Valkey(args=("--maxmemory", "20mb", "--maxmemory-policy", "allkeys-lru")) as valkey:
        found = look(valkey.url)
        assert (found["maxmemory-policy"].state, found["persistence"].state) == ("fail", "warn")
        assert "CONFIG SET maxmemory-policy noeviction" in found["maxmemory-policy"].advice


@pytest.mark.parametrize("missing", ["+eval", "+hset", "+xadd", "+subscribe", "~mr:*"])
def test_a_right_that_is_missing_is_named(missing: str) -> None:
    with Valkey(unix=False) as valkey:
        words = [word for word in rights() if word != missing]
        if missing == "+eval":
            words.remove("+evalsha")
        assert valkey.command("ACL", "SETUSER", "meridian", "reset", *words) == b"+OK\r\n"
        found = look(f"redis://meridian:secret@127.0.0.1:{valkey.port}/0")
        assert found["rights"].state == "fail", found


def test_the_rights_of_the_runbook_suffice_for_the_doctor() -> None:
    with Valkey(unix=False) as valkey:
        assert valkey.command("ACL", "SETUSER", "meridian", "reset", *rights()) == b"+OK\r\n"
        found = look(f"redis://meridian:secret@127.0.0.1:{valkey.port}/0")
        assert (found["rights"].state, found["store"].state) == ("ok", "ok")
        assert "secret" not in repr(found)


def test_a_wrong_password_and_nobody_there() -> None:
    with Valkey(unix=False) as valkey:
        valkey.command("CONFIG", "SET", "requirepass", "right")
        (found,) = look(f"redis://:wrong@127.0.0.1:{valkey.port}/0").values()
        assert (found.state, "password" in found.text) == ("fail", True)
        assert "wrong" not in found.what
    (found,) = look("redis://127.0.0.1:1/0").values()
    assert (found.state, "does not answer" in found.text) == ("fail", True)


def test_a_replica(tmp_path: Path) -> None:
    with Valkey(unix=False) as primary, Valkey(args=("--replicaof", "127.0.0.1", str(primary.port))) as replica:
        found = look(replica.url)
        assert any(s.state == "fail" and "replica" in s.text for s in found.values()), found


def test_stores_without_a_server() -> None:
    (found,) = of_store.look(parse('[auth]\nmode = "open"\n' + REGION, "r.toml"))
    assert (found.state, found.what) == ("ok", "memory")
    (found,) = of_store.look(parse(REGION, "r.toml"))
    assert found.state == "warn"
    (found,) = look("embedded").values()
    assert found.state == "ok"
