"""An issuer of JWTs: keys of its own, and a real HTTP server that publishes them."""

from __future__ import annotations

import base64
import hmac
import itertools
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from jwt.algorithms import ECAlgorithm, OKPAlgorithm, RSAAlgorithm

ISSUER, AUDIENCE = "https://issuer.test", "meridian"
_serial = itertools.count(1)


class SigningKey:
    """A new pair of keys for one algorithm. ``document``: the public one, as a JWKS has it."""

    def __init__(self, algorithm: str, kid: str | None = None) -> None:
        self.algorithm = algorithm
        self.kid = kid or f"k{next(_serial)}"
        self.private: Any
        if algorithm == "ES256":
            self.private = ec.generate_private_key(ec.SECP256R1())
            made = ECAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        elif algorithm == "EdDSA":
            self.private = ed25519.Ed25519PrivateKey.generate()
            made = OKPAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
        else:
            self.private = rsa.generate_private_key(65537, 2048)
            made = RSAAlgorithm.to_jwk(self.private.public_key(), as_dict=True)
            del made["key_ops"]
        self.document: dict[str, Any] = {**made, "kid": self.kid, "use": "sig"}

    @property
    def pem(self) -> bytes:
        """The public key as text, which everybody knows."""
        made: bytes = self.private.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
        return made

    def sign(self, claims: dict[str, Any], **head: Any) -> str:
        payload = json.dumps(claims).encode()  # claims that the library would not sign are to be tried, too
        return jwt.PyJWS().encode(payload, self.private, algorithm=self.algorithm, headers={"kid": self.kid, **head})


def claims(**changes: Any) -> dict[str, Any]:
    """Good ones. A claim that is None is left out."""
    now_s = int(time.time())
    made = {"iss": ISSUER, "aud": AUDIENCE, "sub": "acme", "iat": now_s, "exp": now_s + 600} | changes
    return {name: value for name, value in made.items() if value is not None}


def handmade(head: dict[str, Any], body: dict[str, Any], signature: bytes = b"") -> str:
    """A JWT that no library would make."""
    parts = [json.dumps(head).encode(), json.dumps(body).encode(), signature]
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def signed_with_public_key(key: SigningKey, body: dict[str, Any], **head: Any) -> str:
    """HS256, with the text of a public key as the secret: what a careless check takes for the issuer's own."""
    unsigned = handmade({"alg": "HS256", "typ": "JWT", "kid": key.kid, **head}, body).rstrip(".")
    signature = hmac.digest(key.pem, unsigned.encode(), "sha256")
    return f"{unsigned}.{base64.urlsafe_b64encode(signature).rstrip(b'=').decode()}"


class Issuer:
    """``with Issuer() as issuer``: ``url`` has its keys, as ``keys`` are now. ``asked``: how often it was."""

    def __init__(self, algorithm: str = "ES256") -> None:
        self.keys = [SigningKey(algorithm)]
        self.asked = 0
        self.status = 200
        self.answers_after_s = 0.0
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._server.server_address[1]}/jwks.json"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def document(self) -> bytes:
        return json.dumps({"keys": [key.document for key in self.keys]}).encode()

    def rotate(self, algorithm: str = "ES256") -> SigningKey:
        """Only a new key is published from now on."""
        self.keys = [SigningKey(algorithm)]
        return self.keys[0]

    def sign(self, head: dict[str, Any] | None = None, **changes: Any) -> str:
        return self.keys[-1].sign(claims(**changes), **(head or {}))

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        issuer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                issuer.asked += 1
                time.sleep(issuer.answers_after_s)
                body = issuer.document()
                self.send_response(issuer.status)
                self.send_header("content-type", "application/json")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        return Handler
