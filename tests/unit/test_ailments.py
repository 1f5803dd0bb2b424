"""A store that is away and one that is there and cannot work are told apart, whatever the words of the server."""

from __future__ import annotations

import pytest
from redis import exceptions

from router.store.ailments import AILMENTS, ailment_of, told

#: what reasons look like (``redis._why``, ``access.why``) -> the trouble
REASONS = {
    "ReadOnlyError: You can't write against a read only replica.": "read_only",
    "OutOfMemoryError: command not allowed when used memory > 'maxmemory'.": "out_of_memory",
    "BusyLoadingError: Redis is loading the dataset in memory": "loading",
    "ResponseError: MISCONF Redis is configured to save RDB snapshots": "disk",
    "ResponseError: NOREPLICAS Not enough good replicas to write.": "replicas",
    "MasterDownError: MASTERDOWN Link with MASTER is down": "no_primary",
    "MasterNotFoundError: No master found for 'main'": "no_primary",
    "ClusterDownError: CLUSTERDOWN The cluster is down": "cluster_down",
    "ResponseError: BUSY Redis is busy running a script.": "busy",
    "ConnectionError: max number of clients reached": "full",
    "AuthenticationError: invalid username-password pair or user is disabled.": "password",
    "its user may not do what quotas need (keys mr:*): User r has no permissions to run the 'zadd' command": "forbidden",
    "refused: unknown command 'EVAL'": "forbidden",
    "ConnectionError: Error 1 connecting to h:1. [SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed": "tls",
    "no answer in time": "absent",
    "ConnectionError: Error 111 connecting to 127.0.0.1:1. Connection refused.": "absent",
    "TimeoutError": "absent",
    "not connected yet": "absent",
}


@pytest.mark.parametrize(("reason", "kind"), REASONS.items(), ids=REASONS)
def test_each_reason_has_its_trouble(reason: str, kind: str) -> None:
    assert ailment_of(reason).kind == kind
    assert reason in told(reason)


def test_every_trouble_is_tried_and_every_error_that_is_named_exists() -> None:
    assert {t.kind for t in AILMENTS} == set(REASONS.values()) - {"absent"}
    for trouble in AILMENTS:
        for sign in trouble.signs:
            if sign.endswith("Error"):
                assert hasattr(exceptions, sign) or sign == "MasterNotFoundError"
