"""Certificates that end."""

from __future__ import annotations

import time
from pathlib import Path

from cli.doctor import of_certificates
from router.config import parse
from tests.support.certificates import certificate

TEXT = """
[router]
tls_cert = "{cert}"
tls_key = "{key}"
[[regions]]
name = "us"
[[regions.backends]]
name = "a"
url = "https://127.0.0.1:1"
tls_ca = "{ca}"
"""


def test_each_file_is_judged_by_its_end(tmp_path: Path) -> None:
    own, ca = certificate(tmp_path, "own", days=90), certificate(tmp_path, "ca", days=400)
    config = parse(TEXT.format(cert=own.cert, key=own.key, ca=ca.cert), "r.toml")
    now_s, day_s = time.time(), 86_400.0
    assert [s.state for s in of_certificates.look(config)] == ["ok", "ok"]
    soon = of_certificates.look(config, now_s + 80 * day_s)
    assert [(s.what, s.state) for s in soon] == [(str(own.cert), "warn"), (str(ca.cert), "ok")]
    over = of_certificates.look(config, now_s + 91 * day_s)
    assert [(s.what, s.state) for s in over] == [(str(own.cert), "fail"), (str(ca.cert), "ok")]
    assert "it ended on" in over[0].text
    ca.cert.write_text("no certificate")
    assert of_certificates.look(config)[1].state == "fail"
    ca.cert.unlink()
    assert "no such file" in of_certificates.look(config)[1].text
