"""The paths of the clients' side: every spelling that SDKs and tools use is brought to one, and each has one use.

Clients differ in what they take for the base URL: with ``/v1``, without it, with it twice (because the client adds it,
too), with a slash at its end, or with the prefix of a provider. The backend is always asked by the one spelling.
"""

from __future__ import annotations

import re
from enum import Enum
from urllib.parse import unquote_to_bytes

_SLASHES = re.compile(rb"//+")
_API = rb"(?:chat/completions|completions|embeddings|responses|messages|models|moderations|audio|images)(?=/|\Z)"
#: Azure and Groq have the API below ``/openai``. Azure's paths may name a model, too: that of the body counts.
_OPENAI = re.compile(rb"/openai(?:/deployments/[^/]+)?(?=/v1(?:/|\Z)|/" + _API + rb")")
_VERSION = re.compile(rb"(?:/v1)+(?=/|\Z)")
#: Paths of the API that begin so are known without their ``/v1``, too.
_WITHOUT_VERSION = re.compile(rb"/" + _API)
_ROUTED = re.compile(
    rb"/(?:v1/[A-Za-z0-9_-]+(?:/[A-Za-z0-9_.:-]+)*|v2/(?:rerank|embed)"
    rb"|tokenize|detokenize|rerank|score|pooling|classify)"
)
_RESPONSE = re.compile(rb"/v1/responses/([^/]{1,2048})(/[a-z_]+)?")
#: What may be done with a response that a backend keeps.
_KEPT = {(b"GET", None), (b"DELETE", None), (b"GET", b"/input_items"), (b"POST", b"/cancel")}
_MODELS = b"/v1/models"
#: SageMaker asks by GET, vLLM answers to POST as well.
PING = b"/ping"


class Own(Enum):
    """What the router answers by itself."""

    ALIVE = "alive"
    READY = "ready"
    VERSION = "version"
    MODELS = "models"


#: As Kubernetes, load balancers, vLLM, llama.cpp, SageMaker and LiteLLM have them.
OWN = {
    b"/": Own.ALIVE,
    b"/healthz": Own.ALIVE,
    b"/livez": Own.ALIVE,
    b"/health/liveliness": Own.ALIVE,
    b"/health/liveness": Own.ALIVE,
    b"/readyz": Own.READY,
    b"/health": Own.READY,
    b"/v1/health": Own.READY,
    b"/health/readiness": Own.READY,
    PING: Own.READY,
    b"/version": Own.VERSION,
    _MODELS: Own.MODELS,
}


def path_of(target: bytes) -> bytes:
    """The path of a request target in its one spelling. RFC 9112 also allows the absolute form of a target."""
    if not target.startswith(b"/"):
        scheme, _, rest = target.partition(b"://")
        if scheme.lower() in (b"http", b"https"):
            _, slash, target = rest.partition(b"/")
            target = slash + target
    return _spelled(target.partition(b"?")[0])


def query_of(target: bytes) -> bytes:
    """The query of a request target with its question mark; empty if there is none."""
    _, mark, query = target.partition(b"?")
    return mark + query


def _spelled(path: bytes) -> bytes:
    path = _SLASHES.sub(b"/", path)
    if len(path) > 1:
        path = path.removesuffix(b"/")
    if (openai := _OPENAI.match(path)) is not None:
        path = path[openai.end() :]
    if (version := _VERSION.match(path)) is not None:
        path = b"/v1" + path[version.end() :]
    return b"/v1" + path if _WITHOUT_VERSION.match(path) is not None else path


def own(path: bytes) -> Own | None:
    """What the router answers to this path by itself; None: it is for a backend, or for nobody."""
    return OWN.get(path) or (Own.MODELS if path.startswith(_MODELS + b"/") else None)


def kept_id(method: bytes, path: bytes) -> str | None:
    """The id of the response that this asks about, which only the backend that keeps it can answer; else None."""
    match = _RESPONSE.fullmatch(path)
    if match is None or b".." in path or (method, match.group(2)) not in _KEPT:
        return None
    return unquote_to_bytes(match.group(1)).decode("utf-8", "replace")


def kept_methods(path: bytes) -> bytes:
    """The methods that ``kept_id`` knows for this path, for ``allow``."""
    match = _RESPONSE.fullmatch(path)
    return b", ".join(sorted(m for m, part in _KEPT if match is not None and part == match.group(2)))


def model_of(path: bytes) -> str:
    """The id in ``/v1/models/{id}``, empty for the list. SDKs escape the slash in ``org/name``, people do not."""
    return unquote_to_bytes(path[len(_MODELS) + 1 :]).decode("utf-8", "replace")


def takes_posts(path: bytes) -> bool:
    """Whether a POST to this path is for a backend."""
    return _ROUTED.fullmatch(path) is not None and b".." not in path and own(path) is None
