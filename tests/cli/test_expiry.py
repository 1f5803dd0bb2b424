"""When a certificate ends, read from its DER."""

from __future__ import annotations

import ssl
import subprocess
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.doctor.expiry import ends_s, not_after_s
from tests.support.certificates import certificate


@pytest.mark.parametrize("days", [1, 30, 9000, 36000])  # the last two end after 2049 or near it: another form of time
def test_the_end_is_what_openssl_says(tmp_path: Path, days: int) -> None:
    made = certificate(tmp_path, "one", days=days)
    command = ["openssl", "x509", "-in", str(made.cert), "-noout", "-enddate"]
    told = subprocess.run(command, check=True, capture_output=True, text=True, timeout=30).stdout
    assert ends_s(str(made.cert)) == ssl.cert_time_to_seconds(told.strip().removeprefix("notAfter="))
    assert ends_s(str(made.cert)) == pytest.approx(time.time() + days * 86_400, abs=3600)


def test_of_a_chain_the_first_to_end_counts(tmp_path: Path) -> None:
    long, short = certificate(tmp_path, "long", days=90), certificate(tmp_path, "short", days=3)
    chain = tmp_path / "chain.pem"
    chain.write_text(long.cert.read_text() + short.cert.read_text())
    assert ends_s(str(chain)) == ends_s(str(short.cert))


@given(st.binary(max_size=300))
def test_what_is_no_certificate_is_an_error_and_never_another_exception(raw: bytes) -> None:
    with pytest.raises(ValueError):
        not_after_s(raw)


def test_a_certificate_that_is_cut_off_anywhere_is_an_error(tmp_path: Path) -> None:
    der = ssl.PEM_cert_to_DER_cert(certificate(tmp_path, "one").cert.read_text())
    for end in range(len(der)):
        with pytest.raises(ValueError):
            not_after_s(der[:end])


def test_a_file_without_a_certificate(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("nothing")
    with pytest.raises(ValueError, match="no certificate"):
        ends_s(str(tmp_path / "empty"))
