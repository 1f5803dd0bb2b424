"""Nothing about a backend's machine reaches a client, and what is about the request stays."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.upstream.cleanse import HIDDEN, clean, clean_text

SECRETS = [
    "/usr/lib/python3.12/site-packages/sglang/srt/entrypoints/http_server.py",
    "/home/ubuntu/models/llama",
    "/models/random/tiny",
    "/etc/passwd",
    "~/models/llama",
    "C:\\Users\\me\\llama.cpp\\server.cpp",
    "file:///opt/models/x.gguf",
    "ipc:///tmp/abc-def",
    "tcp://127.0.0.1:5555",
    "http://vllm-0.vllm.default.svc.cluster.local:8000/v1/chat/completions",
    "http://engine:8000/v1",
    "redis://:secret@redis:6379/0",
    "https://user:pw@api.example.com/x",
    "worker-3.pool.internal:5557",
    "ip-10-0-0-3.ec2.internal",
    "localhost:8000",
    "10.0.0.5",
    "192.168.1.7:8000",
    "[fe80::1]:8000",
    "fd00:ec2::254",
    "0x7f12345678ab",
]
KEPT = [
    "POST /v1/chat/completions",
    "see https://platform.openai.com/docs/guides/error-codes",
    "/body/messages/0/content must be a string",
    "/messages/0/content must be a string",
    "image/png and/or application/json",
    "meta-llama/Llama-3.1-8B-Instruct",
    "at 12:34:56 on 2026-10-14",
    "temperature must be non-negative, got -1.0. (parameter=temperature, value=-1.0)",
    "ratio 1:2:3, map<string::string>",
    "[json.exception.type_error.302] type must be number, but is string",
    "version 1.2.3",
]


@pytest.mark.parametrize("secret", SECRETS)
@pytest.mark.parametrize("frame", ["%s", "cannot open %s: no such file", "error in '%s'", "(%s)", "path=%s,", '"%s"'])
def test_hidden(secret: str, frame: str) -> None:
    text = clean_text(frame % secret)
    assert secret not in text
    assert HIDDEN in text or not secret.startswith("/")
    for word in ("ubuntu", "secret", "site-packages", "passwd", "vllm-0", "internal", "10.0", "168"):
        assert word not in text


@pytest.mark.parametrize("text", KEPT)
def test_kept(text: str) -> None:
    assert clean_text(text) == text


TRACEBACKS = {
    'Traceback (most recent call last):\n  File "/a/b.py", line 3, in f\n    foo(secret)\nValueError: n must be 1': "ValueError: n must be 1",
    'n must be 1\n\n  File "/models/x/http_server.py", line 1870, in chat\n    POST /v1/chat {secret}': "n must be 1",
    "TypeError: n must be 1\n    at Object.chat (/app/server.js:10:5)\n    at async run (/app/run.js:1:2)": "TypeError: n must be 1",
    "n must be 1\ngoroutine 1 [running]:\n": "n must be 1",
    "<Engine object at 0x7f1234567890> failed": "<Engine object> failed",
}  # fmt: skip


@pytest.mark.parametrize(("text", "left"), TRACEBACKS.items())
def test_tracebacks(text: str, left: str) -> None:
    assert clean_text(text) == left


def test_every_text_of_a_document_is_cleaned() -> None:
    document = {"a": ["/usr/lib/x", {"b": "at 10.0.0.1"}], "n": 3, "deep": [[[[[["/etc/passwd"]]]]]]}
    assert clean(document) == {"a": [HIDDEN, {"b": f"at {HIDDEN}"}], "n": 3, "deep": [[[[[None]]]]]}


@given(st.text(alphabet="a1:/.\\-[]% \n\"'@<", max_size=200) | st.text(max_size=200))
def test_any_text_is_cleaned_and_cleaning_again_changes_nothing(text: str) -> None:
    once = clean_text(text)
    assert clean_text(once) == once
    assert len(once) <= 4000


@given(st.ip_addresses().filter(lambda ip: int(ip) > 1), st.sampled_from(["%s", "at %s:", "(%s)", "host=%s "]))
def test_no_address_gets_through(ip: object, frame: str) -> None:
    assert str(ip) not in clean_text(frame % ip)
