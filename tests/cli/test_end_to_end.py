"""The whole way: the program, a real router it started, and simulated engines behind that."""

from __future__ import annotations

import json
import re
import select
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

from tests.support.cli import environment, router
from tests.support.site import Site, serving


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    with serving(tmp_path_factory.mktemp("site")) as site:
        yield site


def test_status(site: Site) -> None:
    document = site.ask("status")
    assert (document["router"]["name"], document["router"]["ready"]) == ("test", True)
    assert "6 of 6 backends usable" in site("status").out


def test_regions(site: Site) -> None:
    document = site.ask("regions", "list")
    assert [r["name"] for r in document["data"]] == ["us-east", "eu-central", "ap-northeast"]
    assert "● ok" in site("regions", "list").out
    assert "us-east/b" in site("regions", "show", "us-east").out
    assert (
        "one of" in site("regions", "show", "us-east/a").out or "in flight" in site("regions", "show", "us-east/a").out
    )


def test_chat_then_everything_about_it(site: Site) -> None:
    done = site("chat", "Why is the sky blue?", "--max-tokens", "12")
    answer, _, route, why = done.out.splitlines()
    assert len(answer.split()) > 5
    assert re.match(r"▶ us-east/[ab] · first token \d+ ms · 12 tokens in .* tokens/s", route)
    assert re.search(r"predicted .* ms · cost .* ms = .*eu-central \+\d+ ms, rtt", why)

    document = site.ask("chat", "And the sea?", "--max-tokens", "8", "--residency", "eu")
    assert document["region"] == "eu-central"
    assert document["output_tokens"] == 8
    request_id = document["request_id"]

    listed = site.ask("traffic", "list", "--backend", "eu-central")["data"]
    assert [r["request_id"] for r in listed] == [request_id]
    assert request_id in site("traffic", "list").out
    shown = site("traffic", "show", request_id).out
    assert "outside the allowed jurisdictions" in shown
    assert "only in eu" in shown
    assert site.ask("traffic", "show", request_id)["decision"]["policy"] == "ttft"
    assert site.ask("explain", request_id)["decision"]["candidates"]
    assert "outside the allowed jurisdictions" in site("explain", request_id).out
    assert site.ask("traffic", "stats", "--window", "5m")["requests"] >= 2
    assert "eu-central" in site("traffic", "stats").out


def test_bench(site: Site) -> None:
    document = site.ask("bench", "-n", "6", "--max-tokens", "3")
    assert (document["requests"], document["failed"], document["model"]) == (6, 0, "llama-3.1-8b")
    assert sum(document["regions"].values()) == 6
    assert 0 < document["ttft_s"]["p50"] < document["e2e_s"]["p50"]
    assert "first token" in site("bench", "-n", "2", "--rate", "50", "--max-tokens", "2").out
    assert "There are: llama-3.1-8b." in site("bench", "-n", "2", "--model", "nobody", code=2).err
    site("bench", "--url", "http://127.0.0.1:1", code=3)


def test_a_prompt_that_is_not_sent(site: Site) -> None:
    requests = len(site.ask("traffic", "list", "-n", "1000")["data"])
    document = site.ask("explain", "--model", "llama-3.1-8b", "--prompt", "hi", "--region", "ap-northeast")
    assert document["decision"]["backend"].startswith("ap-northeast/")
    assert "no_backend" not in site("explain", "--model", "llama-3.1-8b").out
    far = site("explain", "--model", "llama-3.1-8b", "--prompt", "hi", "--from", "ap-northeast").out
    assert far.startswith("ap-northeast/")
    assert "less rtt" in far
    assert "there is no region" in site("explain", "--model", "llama-3.1-8b", "--from", "nowhere", code=2).err
    assert 'there is no model "nobody"' in site("explain", "--model", "nobody", code=2).err
    assert len(site.ask("traffic", "list", "-n", "1000")["data"]) == requests


def test_tail_sees_what_comes(site: Site) -> None:
    command = [sys.executable, "-m", "cli", "traffic", "tail", "--json", "--backend", "ap-northeast"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, env=environment(site.env), text=True) as tail:
        assert tail.stdout is not None
        try:
            # The tail connects some time after it starts: ask until it has seen one.
            timer = time.monotonic() + 60
            seen = ""
            while not seen and time.monotonic() < timer:
                site("chat", "hi", "--region", "ap-northeast", "--max-tokens", "2")
                if select.select([tail.stdout], [], [], 0.3)[0]:
                    seen = tail.stdout.readline()
            assert json.loads(seen)["region"] == "ap-northeast"
            tail.send_signal(signal.SIGINT)
            assert tail.wait(30) == 0, "Ctrl-C is how a tail ends"
        finally:
            tail.kill()


def test_why_was_it_slow(site: Site) -> None:
    """In a terminal of 80 columns, with what the router really recorded."""
    site("chat", "hi", "--max-tokens", "5")
    narrow = {"COLUMNS": "80", "TERM": "dumb"}
    for command in (("traffic", "show", "last"), ("explain", "last")):
        shown = site(*command, **narrow).out
        lines = shown.splitlines()
        assert lines[0].startswith(("Nothing was slow", "First token after"))
        assert "…" not in shown
        assert max(map(len, lines)) <= 80
        for word in ("auth and limits", "first token", "last byte", "▶"):
            assert word in shown, word
    newest = site.ask("traffic", "list", "-n", "1")["data"][0]["request_id"]
    assert site.ask("traffic", "show", "last")["request_id"] == newest
    found = site.ask("traffic", "list", "--sort", "ttft", "--slower-than", "0.0001", "-n", "3")
    ttfts = [r["ttft_s"] for r in found["data"]]
    assert ttfts == sorted(ttfts, reverse=True)
    assert found["matching"] >= len(ttfts) > 0
    assert "there is no model" in site("traffic", "list", "--model", "nope", code=2).err
    assert 'did you mean "us-east"?' in site("traffic", "list", "--region", "us-eats", code=2).err
    site("traffic", "list", "--status", "9xx", code=2)
    assert site.ask("traffic", "list", "--slower-than", "1h")["data"] == []


def test_drain_and_resume(site: Site) -> None:
    refused = site("regions", "drain", "us-east", code=2)
    assert "no other usable backend is in the jurisdiction us" in refused.err
    assert "gets no new requests" in site("regions", "drain", "us-east", "--force").out
    assert "● draining" in site("regions", "list").out
    assert site.ask("chat", "hi", "--max-tokens", "2")["region"] != "us-east"
    assert "gets requests again" in site("regions", "resume", "us-east").out
    regions = {site.ask("chat", "hi", "--max-tokens", "2")["region"] for _ in range(5)}
    assert "us-east" in regions, "on a busy machine a first token may be measured slow once"
    assert site("regions", "drain", "nowhere", code=2).err.startswith('error: there is no region "nowhere"')


def test_the_last_region_is_not_drained_without_a_word(site: Site) -> None:
    for name in ("us-east", "eu-central"):
        site("regions", "drain", name, "--reason", "a test", "--for", "10m", "--force")
    refused = site("regions", "drain", "ap-northeast", code=2)
    assert "no other usable backend serves" in refused.err
    assert site.ask("regions", "show", "ap-northeast")["state"] == "ok"
    shown = site("regions", "show", "us-east/a").out
    assert "a test" in shown
    assert "until" in shown
    assert "✓" in site("regions", "drain", "ap-northeast", "--force", "--wait").out
    site("status", code=4)
    for name in ("us-east", "eu-central", "ap-northeast"):
        site("regions", "resume", name)


def test_probe(site: Site) -> None:
    assert "● HTTP 200" in site("regions", "probe", "eu-central/a").out
    site.fleet.backend("eu-central/b").kill()
    try:
        assert "no answer" in site("regions", "probe", "eu-central", code=4).out
    finally:
        site.fleet.backend("eu-central/b").restart()


def test_a_key_from_its_first_to_its_last_day(site: Site) -> None:
    made = site.ask("keys", "create", "guest", "--plan", "tiny", "--tenant", "acme")
    assert {"id", "name", "plan", "key"} <= set(made)
    mine = {"ROUTER_API_KEY": made["key"]}
    site("chat", "hi", "--max-tokens", "2", **mine)
    refused = site("chat", "hi", "--max-tokens", "2", code=1, **mine)
    assert "requests per minute" in refused.err
    assert "acme" in site("keys", "list").out
    assert site.ask("quota", "show", "guest")["data"][0]["limits"][0]["used"] > 0.9
    assert "requests a minute" in site("quota", "show", made["id"]).out
    site("quota", "reset", "guest")
    site("chat", "hi", "--max-tokens", "2", **mine)
    assert site.ask("keys", "set", "guest", "--plan", "default")["plan"] == "default"
    for _ in range(2):  # the tiny plan has one request a minute
        site("chat", "hi", "--max-tokens", "2", **mine)
    assert "plan default" in site("keys", "set", "guest", "--tenant", "umbrella").out
    site("keys", "set", "guest", code=2)
    site("keys", "set", "guest", "--plan", "nothing", code=2)
    asked = site("keys", "revoke", made["id"], code=2)
    assert "is in use" in asked.err
    assert "--force" in asked.err
    site("keys", "revoke", made["id"], "--force")
    gone = site("chat", "hi", code=2, **mine)
    assert "router keys create" in gone.err
    assert "guest" not in site("keys", "list").out
    assert (
        'there is no plan "nothing". There are: default, tiny.'
        in site("keys", "create", "x", "--plan", "nothing", code=2).err
    )


def test_chaos(site: Site) -> None:
    assert "no faults are active" in site("chaos", "list").out
    begun = site.ask("chaos", "start", "eu-central", "--refuse", "--for", "5m", "--force")["data"]
    assert [(e["target"], e["fault"], e["backends"]) for e in begun] == [
        ("eu-central", "refuse", ["eu-central/a", "eu-central/b"])
    ]
    assert "could not be reached" in site("chat", "hi", "--region", "eu-central", "--max-tokens", "2", code=1).err
    shown = site.ask("traffic", "list", "-n", "1")["data"][0]["request_id"]
    assert "on purpose: refuse" in site("traffic", "show", shown).out
    assert "attempts at eu-central are refused" in site("chaos", "list").out
    begun = site("chaos", "start", "us-east/a", "--delay-ms", "50", "--share", "20%").out
    assert "20% of the attempts at us-east/a begin 0.05 s later" in begun
    assert "in force at all routers" in begun
    assert [e["target"] for e in site.ask("chaos", "stop", "eu-central")["data"]] == ["us-east/a"]
    assert "no faults are active" in site("chaos", "clear").out
    site("chaos", "start", "us-east", "--refuse", "--share", "200%", code=2)
    site("chaos", "start", "--refuse", code=2)
    site("chaos", "start", "us-east", code=2)
    site("chaos", "start", "us-east", "--refuse", "--cut-after", "3", code=2)
    site("chaos", "start", "us-east", "--refuse", "--for", "2h", code=2)
    site("chaos", "start", "nowhere", "--refuse", code=2)


def test_the_file_and_what_runs(site: Site) -> None:
    file = site.folder / "regions.toml"
    before = file.read_text()
    generation = site.ask("config", "show")["generation"]
    assert f"the router runs what {file} says" in site("config", "diff").out
    done = site("regions", "set", "eu-central/a", "max_inflight=17")
    assert f"runs it, generation {generation + 1}" in done.out
    assert site.ask("regions", "show", "eu-central/a")["max_inflight"] == 17
    assert "max_inflight = 17" in site("config", "show").out
    site("regions", "set", "eu-central/a", "max_inflight=")
    assert file.read_text() == before
    assert "nothing has changed" in site("config", "reload").out
    file.write_text(before.replace('engine = "vllm"', 'engine = "vlm"', 1))
    try:
        refused = site("config", "reload", code=2)
        assert 'did you mean "vllm"' in refused.err
        told = site("status")
        assert "refused at" in told.out
        assert "regions.toml:" in told.out
        assert 'did you mean "vllm"' in site("config", "show").err
    finally:
        file.write_text(before)
    site("config", "reload")


def test_the_admin_address_may_be_a_flag(site: Site) -> None:
    url = site.env["ROUTER_ADMIN_URL"]
    assert router("status", "--admin-url", url, cwd=site.folder).code == 0
    assert router("--admin-url", url, "status", cwd=site.folder).code == 0
