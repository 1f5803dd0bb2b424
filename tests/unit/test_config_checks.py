"""Files that must be refused: the message names the file, the line, the key, and what is wrong."""

from __future__ import annotations

from dataclasses import dataclass

import pytest

from router.config import parse
from router.errors import ConfigError

SECRET = "sk-live-3f9a8c7e"
ALERTS = '[alerts]\nwebhook = "https://h/a"\nsecret_env = '
ENV = {
    "CUT": f"whsec_{SECRET}=",
    "HOLLOW": "whsec_",
    "WHSEC": "whsec_dGhpcyBpcyBhIGtleQ==",
    "GOOD_KEY": SECRET,
    "EMPTY": "  ",
    "NEWLINE": "a\nb",
    "BAD_REDIS": f"http://:{SECRET}@h",
}


@dataclass(frozen=True)
class Bad:
    name: str
    text: str
    line: int | None
    message: str
    place: str = ""


def backend(extra: str = "", *, url: str = "http://10.0.0.1:8000") -> str:
    return f'[[regions]]\nname = "us-east"\n[[regions.backends]]\nname = "a"\nurl = "{url}"\n{extra}'


CASES = [
    # the text itself
    Bad("syntax", "[router]\nname = = 1\n", 2, "syntax: "),
    Bad("unterminated", '[router]\nname = "x', 2, "syntax: Unterminated string"),
    Bad("half written", '[router]\nname = "x"\n[[regi', 3, "syntax: "),
    Bad("duplicate key", '[router]\nname = "a"\nname = "b"\n', 3, "syntax: "),
    Bad("duplicate table", "[router]\n[router]\n", 2, "syntax: "),
    Bad("deep", "a = " + "[" * 5000, None, "nested too deeply"),
    Bad("huge integer", f"[router]\nworkers = {'9' * 5000}\n", None, "syntax: "),
    # keys
    Bad("unknown table", "[routr]\n", 1, 'unknown key, did you mean "router"?', "[routr]"),
    Bad("unknown top key", "\nport = 1\n", 2, "unknown key", "port"),
    Bad(
        "unknown key", '[router]\nlisten = "127.0.0.1:1"\nlisen = "x"\n', 3, 'did you mean "listen"?', "[router] lisen"
    ),
    Bad("unknown key far from all", "[router]\nzzzzqqq = 1\n", 2, "unknown key", "[router] zzzzqqq"),
    Bad("unknown backend key", backend("modles = []"), 6, 'did you mean "models"?', '"us-east" backends "a": modles'),
    Bad("unknown region key", '[[regions]]\nname = "x"\nplace = 1', 3, "unknown key", '[[regions]] "x": place'),
    Bad("unknown plan key", "[plans.gold]\ntokens = 1", 2, "unknown key", "[plans.gold] tokens"),
    Bad("unknown model key", "[models.m]\ntarget = []", 2, 'did you mean "targets"?', "[models.m] target"),
    Bad("unknown target key", '[models.m]\ntargets = [\n {model="a"},\n {model="b", wieght=1}]', 4, "unknown key"),
    Bad("key with control characters", '[router]\n"a\\u001b[31m" = 1', 2, "unknown key", '"a\\u001b[31m"'),
    Bad("timeout unit in name", "[timeouts]\nconnect_s = 1", 2, 'did you mean "connect"?'),
    # kinds
    Bad("string for table", 'router = "x"', 1, "must be a table", "router"),
    Bad("table for regions", '[regions]\nname = "x"', 1, "two brackets", "[regions]"),
    Bad("number for string", "[router]\nlisten = 8080", 2, "must be a string, not 8080"),
    Bad("string for integer", '[router]\nworkers = "2"', 2, 'must be a whole number, not "2"'),
    Bad("float for integer", "[router]\nworkers = 2.5", 2, "must be a whole number"),
    Bad("bool for integer", "[router]\nworkers = true", 2, "must be a whole number, not true"),
    Bad("string for bool", '[auth]\nallow_open = "yes"', 2, "must be true or false"),
    Bad("string for number", '[timeouts]\nconnect = "1s"', 2, 'must be a number, not "1s"'),
    Bad("string for list", '[plans.default]\nresidency = "eu"', 2, "must be a list of strings"),
    Bad("list of numbers", "[models.m]\nfallbacks = [1]", 2, "must be a list of strings"),
    Bad("date for string", "[router]\nname = 2026-11-20", 2, "must be a string"),
    Bad("plan is no table", "[plans]\nrequests_per_minute = 6", 2, "[plans.NAME]"),
    Bad("backend is no table", '[[regions]]\nname = "x"\nbackends = ["y"]', 3, "must be a list of tables"),
    # ranges
    Bad("nan", "[timeouts]\ntoken_gap = nan", 2, "finite"),
    Bad("infinity", "[timeouts]\ntoken_gap = inf", 2, "finite"),
    Bad("zero timeout", "[timeouts]\nconnect = 0", 2, "must be above 0"),
    Bad("negative limit", "[plans.default]\ntokens_per_minute = -1", 2, "at least 1"),
    Bad("no workers", "[router]\nworkers = 0", 2, "at least 1"),
    Bad("body over the limit", "[limits]\nbody_bytes = 99999999999", 2, "at most"),
    Bad("probe storm", "[probes]\ninterval = 0", 2, "at least 0.02"),
    Bad("negative weight", '[models.m]\ntargets = [{model="a", weight=-1}]', 2, "at least 0"),
    Bad("location off the map", '[[regions]]\nname = "x"\nlocation = [91, 0]', 3, "latitude"),
    Bad("location of three", '[[regions]]\nname = "x"\nlocation = [1, 2, 3]', 3, "latitude"),
    # choices
    Bad("policy", '[router]\npolicy = "ttf"', 2, 'no policy "ttf", did you mean "ttft"?'),
    Bad("priority", '[plans.default]\npriority = "interactiv"', 2, 'did you mean "interactive"?'),
    Bad("engine", backend('engine = "vlm"'), 6, 'did you mean "vllm"?'),
    Bad("on_down", '[store]\non_down = "maybe"', 2, 'must be one of "share", "deny", "allow"'),
    Bad("origin with a path", '[cors]\norigins = ["https://a.example/"]', 2, "scheme://host"),
    Bad("origin without a scheme", '[cors]\norigins = ["a.example"]', 2, "scheme://host"),
    Bad("origin of a sandbox", '[cors]\norigins = ["null"]', 2, "scheme://host"),
    Bad("mode", '[auth]\nmode = "none"', 2, 'must be one of "keys", "open"'),
    # names
    Bad("region without name", '[[regions]]\njurisdiction = "us"', 1, "name is missing", "[[regions]] #1"),
    Bad("backend without url", '[[regions]]\nname = "x"\n[[regions.backends]]\nname = "a"', 3, "url is missing"),
    Bad("slash in name", '[[regions]]\nname = "us/east"', 2, "may hold only letters"),
    Bad("long name", f'[[regions]]\nname = "{"a" * 64}"', 2, "may hold only letters"),
    Bad("region twice", '[[regions]]\nname = "x"\n[[regions]]\nname = "x"', 4, "another region"),
    Bad("backend twice", backend('[[regions.backends]]\nname = "a"\nurl = "http://h"'), 7, "another backend"),
    Bad("jurisdiction in capitals", '[[regions]]\nname = "x"\njurisdiction = "EU"', 3, "lower-case"),
    Bad("model with space", backend('models = ["a b"]'), 6, "printable"),
    Bad("model twice", backend('models = ["m", "m"]'), 6, "twice"),
    Bad("region of the router", '[router]\nregion = "us-est"\n' + backend(), 2, 'did you mean "us-east"?'),
    # urls and addresses
    Bad("ftp", backend(url="ftp://h"), 5, "http:// or https://"),
    Bad("no scheme", backend(url="10.0.0.1:8000"), 5, 'write "http://10.0.0.1:8000"'),
    Bad("no host", backend(url="http://:8000"), 5, "has no host"),
    Bad("port", backend(url="http://h:99999"), 5, "port"),
    Bad("credentials", backend(url=f"http://user:{SECRET}@h"), 5, "must not hold credentials"),
    Bad("query", backend(url="http://h/?key=1"), 5, "query"),
    Bad("credentials of a wish", f'[models.m.wake]\nurl = "http://user:{SECRET}@h"\n{backend()}', 2, "in token_env"),
    Bad("credentials of an alert", f'[alerts]\nwebhook = "http://u:{SECRET}@h"\n{backend()}', 2, "in the query"),
    Bad("v1", backend(url="http://h/v1/"), 5, "leave that off"),
    Bad("newline in url", backend(url="http://h\\r\\nX: y"), 5, "control character"),
    Bad("metadata", backend(url="http://169.254.169.254/latest"), 5, "metadata"),
    Bad("metadata as a number", backend(url="http://2852039166"), 5, "metadata"),
    Bad("metadata in hex", backend(url="http://0xa9.0xfe.0xa9.0xfe"), 5, "metadata"),
    Bad("metadata mapped", backend(url="http://[::ffff:169.254.169.254]"), 5, "metadata"),
    Bad("metadata by name", backend(url="http://metadata.google.internal"), 5, "metadata"),
    Bad("metadata of v6", backend(url="http://[fd00:ec2::254]"), 5, "metadata"),
    Bad("everywhere", backend(url="http://0.0.0.0:80"), 5, "not an address that can be called"),
    Bad("listen without port", '[router]\nlisten = "127.0.0.1"', 2, "HOST:PORT"),
    Bad("listen without host", '[router]\nlisten = ":8080"', 2, '"0.0.0.0:8080"'),
    Bad("listen port", '[router]\nlisten = "127.0.0.1:80800"', 2, "0 to 65535"),
    Bad("listen bare v6", '[router]\nlisten = "::1:8080"', 2, "brackets"),
    Bad("same port", '[router]\nadmin = "127.0.0.1:8080"', 2, "same port"),
    Bad("same port everywhere", '[router]\nlisten = "0.0.0.0:9090"', None, "same port"),
    Bad("redis scheme", '[store]\nredis = "http://h"', 2, "redis://"),
    Bad("redis without host", '[store]\nredis = "redis://"', 2, "has no host"),
    # settings that exclude others
    Bad("workers without store", "[router]\nworkers = 2", 2, "shared store"),
    Bad("open to all", '[router]\nlisten = "0.0.0.0:8080"\n[auth]\nmode = "open"', 4, "anybody"),
    Bad("admin to all", '[router]\nadmin = "0.0.0.0:9090"', 2, "admin_token_env"),
    Bad("admin by name", '[router]\nadmin = "host.example:9090"', 2, "admin_token_env"),
    Bad(
        "alias hides a model",
        backend('models = ["m"]') + '\n[models.m]\ntargets = [{model = "n"}]',
        7,
        "hides the model",
    ),
    Bad("alias of an alias", '[models.a]\ntargets=[{model="b"}]\n[models.b]\ntargets=[{model="c"}]', 2, "alias itself"),
    Bad("weights of zero", '[models.m]\ntargets = [{model="a", weight=0}]', 2, "above 0"),
    Bad("target twice", '[models.m]\ntargets = [{model="a"}, {model="a"}]', 2, "names a model twice"),
    Bad("own fallback", '[models.m]\nfallbacks = ["m"]', 2, "its own fallback"),
    # secrets
    Bad("key not set", backend('key_env = "NO_SUCH_KEY"'), 6, "NO_SUCH_KEY is not set"),
    Bad("key empty", backend('key_env = "EMPTY"'), 6, "EMPTY is empty"),
    Bad("key of two lines", backend('key_env = "NEWLINE"'), 6, "no HTTP header"),
    Bad("secret in place of its name", backend(f'key_env = "{SECRET}"'), 6, "not the secret itself"),
    Bad("admin token not set", '[auth]\nadmin_token_env = "NO_SUCH"', 2, "NO_SUCH is not set"),
    Bad("signing secret cut off", f'{ALERTS}"CUT"', 3, "CUT holds no base64 after whsec_"),
    Bad("signing secret of nothing", f'{ALERTS}"HOLLOW"', 3, "HOLLOW holds no base64 after whsec_"),
    Bad("redis not set", '[store]\nredis = "env:NO_REDIS"', 2, "NO_REDIS is not set"),
    Bad("redis set wrongly", '[store]\nredis = "env:BAD_REDIS"', 2, "what the environment variable holds"),
]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_refused_with_place_and_reason(case: Bad) -> None:
    with pytest.raises(ConfigError) as caught:
        parse(case.text, "regions.toml", env=ENV)
    problems = caught.value.problems
    prefix = f"regions.toml:{case.line}: " if case.line else "regions.toml"
    fitting = [p for p in problems if p.startswith(prefix) and case.message in p and case.place in p]
    assert fitting, f"no problem begins with {prefix!r} and holds {case.message!r}, {case.place!r}: {problems}"
    assert SECRET not in str(caught.value)
    assert all(p.isprintable() for p in problems)


def test_every_problem_is_found_at_once_in_the_order_of_the_file() -> None:
    text = """
[router]
listen = 8080
polcy = "ttft"

[plans.gold]
priority = "high"

[[regions]]
name = "us-east"
  [[regions.backends]]
  name = "a"
  url = "http://10.0.0.1"
  max_inflight = 0
  [[regions.backends]]
  url = "https://10.0.0.2"
"""
    with pytest.raises(ConfigError) as caught:
        parse(text, "regions.toml", env={})
    assert [p.split(": ")[0] for p in caught.value.problems] == [f"regions.toml:{line}" for line in (3, 4, 7, 14, 15)]
    assert caught.value.problems[3] == (
        'regions.toml:14: [[regions]] "us-east" backends "a": max_inflight: must be at least 1, not 0'
    )


@pytest.mark.parametrize("name", ["WHSEC", "GOOD_KEY"])
def test_a_signing_secret_is_base64_if_it_says_so(name: str) -> None:
    assert parse(f'{ALERTS}"{name}"', "regions.toml", env=ENV).alerts.secret_env == name


def test_the_same_files_pass_without_asking_for_secrets() -> None:
    text = backend('key_env = "NO_SUCH_KEY"') + '\n[store]\nredis = "env:NO_REDIS"\n[auth]\nadmin_token_env = "X"'
    config = parse(text, "regions.toml", env={}, secrets=False)
    assert config.backends[0].key_env == "NO_SUCH_KEY"
