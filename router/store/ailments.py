"""The troubles of a store that is away: silent, or there and unable to work. Each has words for an operator.

The signs are in the reasons that ``redis`` and ``access`` give: the names of redis-py's errors, and the server's words.
"""

from __future__ import annotations

from typing import NamedTuple


class Ailment(NamedTuple):
    kind: str  # in JSON
    signs: tuple[str, ...]
    words: str


#: The first whose sign is found is meant.
AILMENTS = (
    Ailment(
        "read_only",
        ("ReadOnlyError", "READONLY", "read only replica"),
        "answers, but is a read-only replica: a failover is under way, or the address is that of a replica",
    ),
    Ailment(
        "out_of_memory",
        ("OutOfMemoryError", "OOM ", "'maxmemory'"),
        "answers, but is out of memory: raise maxmemory, or remove what others keep there",
    ),
    Ailment("loading", ("BusyLoadingError", "LOADING"), "answers, but is still loading its data"),
    Ailment("disk", ("MISCONF",), "answers, but refuses to write because it cannot save to its disk"),
    Ailment("replicas", ("NOREPLICAS",), "answers, but refuses to write because it has too few replicas"),
    Ailment("no_primary", ("MASTERDOWN", "MasterNotFoundError", "No master found"), "has no primary at the moment"),
    Ailment("cluster_down", ("ClusterDownError", "CLUSTERDOWN"), "is a cluster that is down"),
    Ailment("busy", ("BUSY", "UNKILLABLE"), "answers, but is busy with somebody's script"),
    Ailment("full", ("max number of clients",), "answers, but takes no more connections: raise its maxclients"),
    Ailment(
        "password",
        ("AuthenticationError", "NOAUTH", "WRONGPASS", "invalid username-password", "Authentication required"),
        "refuses the user or the password of [store] redis",
    ),
    Ailment(
        "forbidden",
        ("user may not", "NOPERM", "no permissions", "ACL failure", "nknown command", "nknown Redis command"),
        "forbids what this router needs",
    ),
    Ailment(
        "tls", ("SSL", "CERTIFICATE", "certificate"), "cannot be trusted, or does not speak TLS as [store] redis says"
    ),
)
ABSENT = Ailment("absent", (), "does not answer")


def ailment_of(reason: str) -> Ailment:
    return next((t for t in AILMENTS if any(sign in reason for sign in t.signs)), ABSENT)


def told(reason: str) -> str:
    """One line: what is wrong, and the reason as it was given."""
    return f"the store {ailment_of(reason).words} ({reason})"
