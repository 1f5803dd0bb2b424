"""``[store] redis``: every option of every form is understood or refused, and no password is ever shown."""

from __future__ import annotations

import ssl

import pytest

from router.config.redis_url import has_password, parse_redis_url, redis_problem, without_password

FORMS = {
    "server": "redis://h/0",
    "server with TLS": "rediss://h/0",
    "socket": "unix:///s",
    "sentinel": "redis+sentinel://a,b/main",
    "sentinel with TLS": "rediss+sentinel://a,b/main",
    "cluster": "redis+cluster://a,b",
    "cluster with TLS": "rediss+cluster://a,b",
}
TLS = [name for name in FORMS if "TLS" in name]
SENTINEL = [name for name in FORMS if "sentinel" in name]

#: option, its value in the URL, what redis-py is given, the forms that may have it
GOOD = [
    ("username", "u", "u", list(FORMS)),
    ("password", "p%23", "p#", list(FORMS)),
    ("db", "0", 0, list(FORMS)),
    ("client_name", "meridian", "meridian", list(FORMS)),
    ("socket_keepalive", "no", False, list(FORMS)),
    ("ssl_ca_certs", "/ca.pem", "/ca.pem", TLS),
    ("ssl_ca_path", "/certs", "/certs", [f for f in TLS if "cluster" not in f]),
    ("ssl_certfile", "/c.pem", "/c.pem", TLS),
    ("ssl_keyfile", "/k.pem", "/k.pem", TLS),
    ("ssl_password", "x", "x", [f for f in TLS if "cluster" not in f]),
    ("ssl_cert_reqs", "none", "none", TLS),
    ("ssl_check_hostname", "false", False, TLS),
    ("ssl_min_version", "TLSv1.3", ssl.TLSVersion.TLSv1_3, TLS),
    ("ssl_ciphers", "ECDHE%2BAESGCM", "ECDHE+AESGCM", TLS),
    ("sentinel_username", "s", "s", SENTINEL),
    ("sentinel_password", "s", "s", SENTINEL),
    ("sentinel_ssl_ca_certs", "/s.pem", "/s.pem", ["sentinel with TLS"]),
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("name", "text", "value", "forms"), GOOD, ids=[row[0] for row in GOOD])
def test_an_option_is_honoured_or_refused_in_every_form(
    name: str, text: str, value: object, forms: list[str], form: str
) -> None:
    url = f"{FORMS[form]}?{name}={text}"
    if form not in forms:
        problem = redis_problem(url)
        assert problem is not None
        assert name in problem
        return
    parsed = parse_redis_url(url)
    if name.startswith("sentinel_"):
        assert parsed.sentinel_options[name.removeprefix("sentinel_")] == value
        assert name.removeprefix("sentinel_") not in parsed.options
    elif form.startswith("cluster") and name == "db":
        assert "db" not in parsed.options
    else:
        assert parsed.options[name] == value
    inherited = name.startswith(("ssl_", "client_name", "socket_keepalive")) and form in SENTINEL
    assert (parsed.sentinel_options.get(name) == value) is inherited, "sentinels speak the same TLS"
    assert parsed.options.get("ssl", False) is (form in TLS)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("ssl_ca_cert=/x", 'did you mean "ssl_ca_certs"?'),
        ("clientname=x", 'did you mean "client_name"?'),
        ("socket_timeout=5", "the router sets itself"),
        ("max_connections=5", "the router sets itself"),
        ("retry_on_timeout=1", "the router sets itself"),
        ("protocol=3", "the router sets itself"),
        ("decode_responses=true", "the router sets itself"),
        ("ssl_cert_reqs=maybe", "option"),
        ("socket_keepalive=perhaps", "true or false"),
        ("db=x", "number of a database"),
        ("client_name=", "not empty"),
        ("client_name=a&client_name=b", "twice"),
        ("host=x", "unknown option"),
        ("p%40ss", "unknown option"),
    ],
)
def test_what_is_refused_in_every_form(form: str, query: str, says: str) -> None:
    problem = redis_problem(f"{FORMS[form]}?{query}")
    assert problem is not None
    assert says in problem


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("redis://h/x", "number of a database"),
        ("redis://h/1?db=2", "two databases"),
        ("redis://a,b", "several hosts"),
        ("redis://h:0", "port"),
        ("redis://h:70000", "port"),
        ("redis://:p#/@ss:%@h:1/3", "percent-encoded"),
        ("redis+sentinel://:p#x@h/main", "percent-encoded"),
        ("redis+cluster://:p?x@h", ""),
        ("redis+cluster://h/3", "has only one"),
        ("redis+cluster://h?db=3", "has only one"),
        ("redis+cluster://h,", "no host"),
        ("redis+sentinel://h:x/main", "port"),
        ("redis+sentinel://h/main/x", "number of a database"),
        ("redis+sentinel://::1/main", "brackets"),
        ("redis://h /0", "space"),
        ("unix://run/redis.sock", "unix:///"),
        ("unix:///", "no path"),
        ("unixs:///x", "that begins"),
        ("redis://[::1/0", "not a URL"),
    ],
)
def test_what_is_no_address(url: str, says: str) -> None:
    problem = redis_problem(url)
    assert problem is not None
    assert says in problem
    for secret in ("p#", "@ss", "p?x"):
        assert secret not in problem


def test_the_parts_of_an_address() -> None:
    parsed = parse_redis_url("rediss+sentinel://u:p%2Fw@a,[::1]:7,c:8/main/3?sentinel_password=s")
    assert parsed.hosts == (("a", 26379), ("::1", 7), ("c", 8))
    assert (parsed.form, parsed.primary) == ("sentinel", "main")
    assert parsed.options == {"username": "u", "password": "p/w", "db": 3, "ssl": True}
    assert parsed.sentinel_options == {"password": "s", "ssl": True}
    assert parse_redis_url("redis+sentinel://a").primary == "mymaster"
    assert parse_redis_url("redis://h").hosts == (("h", 6379),)
    assert parse_redis_url("unix://:p@/a%20b/s?db=2") == (
        "socket",
        (),
        "/a b/s",
        "",
        {"password": "p", "db": 2},
        {},
    )


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("redis://:p@h/0", "redis://:***@h/0"),
        (
            "redis+sentinel://u:p@a,b/main?sentinel_password=q&client_name=x",
            "redis+sentinel://u:***@a,b/main?sentinel_password=***&client_name=x",
        ),
        ("unix:///s?password=q", "unix:///s?password=***"),
        ("rediss://h?ssl_password=q&db=1", "rediss://h?ssl_password=***&db=1"),
        ("redis://h:x:p@[", "***"),
        ("redis://h/0?db=1", "redis://h/0?db=1"),
    ],
)
def test_no_password_is_shown(url: str, shown: str) -> None:
    assert without_password(url) == shown
    assert has_password(url) is (url != shown)
