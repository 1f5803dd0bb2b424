"""The messages of KEDA's external scaler, byte for byte as protobuf writes them."""

from __future__ import annotations

import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.control import keda_messages as messages
from router.control.keda_messages import ScaledObject
from router.protobuf import MessageError

#: ScaledObjectRef{name: "vllm", namespace: "prod", scalerMetadata: {"model": "llama"}}
REF = b"\x0a\x04vllm\x12\x04prod\x1a\x0e\x0a\x05model\x12\x05llama"
ASKS = ScaledObject("vllm", "prod", {"model": "llama"})


def test_who_asks() -> None:
    assert messages.read_scaled_object(REF) == ASKS
    assert messages.scaled_object(ASKS) == REF
    assert messages.read_scaled_object(b"") == ScaledObject()


def test_a_request_for_metrics() -> None:
    data = b"\x0a\x1c" + REF + b"\x12\x06needed"
    assert len(REF) == 0x1C
    assert messages.read_metrics_request(data) == (ASKS, "needed")
    assert messages.metrics_request(ASKS, "needed") == data


def test_answers() -> None:
    assert (messages.is_active(True), messages.is_active(False)) == (b"\x08\x01", b"")
    value = b"\x0a\x06needed\x10\x05\x19" + struct.pack("<d", 5.0)
    assert messages.metric_value("needed", 5) == b"\x0a" + bytes([len(value)]) + value
    spec = b"\x0a\x06needed\x10\x01\x19" + struct.pack("<d", 1.0)
    assert messages.metric_spec("needed", 1.0) == b"\x0a" + bytes([len(spec)]) + spec
    assert messages.metric_value("needed", 0) == b"\x0a\x08\x0a\x06needed", "zero is the default, and has no bytes"


def test_unknown_fields_are_skipped() -> None:
    more = b"\x20\xac\x02" + b"\x29" + bytes(8) + b"\x35" + bytes(4) + b"\x3a\x01x"
    assert messages.read_scaled_object(more + REF + more) == ASKS


@pytest.mark.parametrize("data", [b"\x0a", b"\x0a\x05vl", b"\xff" * 12, b"\x0b", b"\x0a\x01\xff", b"\x29\x00"])
def test_broken_messages(data: bytes) -> None:
    with pytest.raises(MessageError):
        messages.read_scaled_object(data)


@given(st.binary(max_size=80))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    try:
        messages.read_metrics_request(data)
    except MessageError:
        pass


@given(
    st.text(max_size=200), st.text(max_size=20), st.dictionaries(st.text(min_size=1, max_size=9), st.text(), max_size=5)
)
def test_what_is_written_is_read(name: str, namespace: str, metadata: dict[str, str]) -> None:
    asks = ScaledObject(name, namespace, metadata)
    assert messages.read_scaled_object(messages.scaled_object(asks)) == asks
