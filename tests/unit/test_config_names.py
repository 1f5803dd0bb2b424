"""Nothing fails open: a name that leads nowhere is refused, or told, and never becomes a permissive default."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from router.config import EXAMPLE, alarms, load, parse, warnings
from router.config.schema import BACKEND_KEYS, REGION_KEYS, SECTIONS
from router.config.setting import Setting
from router.errors import ConfigError

ONE = '[[regions]]\nname = "a"\njurisdiction = "us"\nbackends = [{{name = "x", url = "http://10.0.0.1", {0}}}]\n'
FLEET = ONE.format('models = ["m"]')

JWT = '[jwt]\nissuer = "i"\naudience = ["a"]\njwks = "https://i.example/jwks"\n'
#: Every key that holds text: a file in which it names what is not there, and words of the problem that refuses it.
REFUSED: dict[str, tuple[str, str]] = {
    "router.name": ('[router]\nname = "a b"\n' + FLEET, "may hold only"),
    "router.region": ('[router]\nregion = "b"\n' + FLEET, "none of [[regions]]"),
    "router.listen": ('[router]\nlisten = "nowhere"\n' + FLEET, "HOST:PORT"),
    "router.admin": ('[router]\nadmin = "nowhere"\n' + FLEET, "HOST:PORT"),
    "router.policy": ('[router]\npolicy = "best"\n' + FLEET, "no policy"),
    "router.tls_cert": ('[router]\ntls_cert = "/none.pem"\n' + FLEET, "tls_key"),
    "router.tls_key": ('[router]\ntls_key = "/none.pem"\n' + FLEET, "tls_cert"),
    "router.tls_client_ca": ('[router]\ntls_client_ca = "/none.pem"\n' + FLEET, "needs tls_cert"),
    "store.redis": ('[store]\nredis = "env:NONE"\n' + FLEET, "NONE is not set"),
    "store.on_down": ('[store]\non_down = "none"\n' + FLEET, "must be one of"),
    "autoscaling.listen": ('[autoscaling]\nlisten = "0.0.0.0:6443"\n' + FLEET, "needs tls_cert and tls_key"),
    "autoscaling.tls_cert": ('[autoscaling]\ntls_cert = "/none.pem"\n' + FLEET, "needs tls_key beside it"),
    "autoscaling.tls_key": ('[autoscaling]\ntls_key = "/none.pem"\n' + FLEET, "needs tls_cert beside it"),
    "autoscaling.tls_client_ca": ('[autoscaling]\ntls_client_ca = "/none.pem"\n' + FLEET, "no such file"),
    "autoscaling.keda": ('[autoscaling]\nkeda = "nowhere"\n' + FLEET, "HOST:PORT"),
    "models.wake.url": ('[models.m.wake]\nurl = "nowhere"\n' + FLEET, "must begin with http"),
    "models.wake.token_env": ('[models.m.wake]\ntoken_env = "NONE"\n' + FLEET, "NONE is not set"),
    "models.wake.scale": ('[models.m.wake]\nscale = "vllm"\n' + FLEET, "NAMESPACE/deployments/NAME"),
    "models.degrade": ('[models.m]\ndegrade = ["n"]\n' + FLEET, "needs target_ttft_s"),
    "models.wake.api": ('[models.m.wake]\napi = "nowhere"\n' + FLEET, "must begin with http"),
    "alerts.webhook": ('[alerts]\nwebhook = "nowhere"\n' + FLEET, "must begin with http"),
    "alerts.secret_env": ('[alerts]\nsecret_env = "NONE"\n' + FLEET, "NONE is not set"),
    "auth.mode": ('[auth]\nmode = "none"\n' + FLEET, "must be one of"),
    "auth.admin_token_env": ('[auth]\nadmin_token_env = "EMPTY"\n' + FLEET, "EMPTY is empty"),
    "auth.operators": ('[auth]\noperators = "operators/"\n' + FLEET, "must be the path of a file"),
    "jwt.jwks": (JWT.replace("https://i.example/jwks", "ftp://i.example/jwks") + FLEET, "must be the path of a file"),
    "jwt.issuer": (JWT.replace('issuer = "i"', 'issuer = ""') + FLEET, "printable characters"),
    "jwt.audience": (JWT.replace('["a"]', "[]") + FLEET, "needs audience beside it"),
    "jwt.algorithms": (JWT + 'algorithms = ["HS256"]\n' + FLEET, "can make one"),
    "jwt.tenant_claim": (JWT + 'tenant_claim = ""\n' + FLEET, "printable characters"),
    "jwt.plan_claim": (JWT + 'plan_claim = ""\n' + FLEET, "printable characters"),
    "jwt.plan_map.value": (
        JWT + 'plan_claim = "p"\nplan_map = [{value = "", plan = "default"}]\n' + FLEET,
        "printable",
    ),
    "jwt.plan_map.plan": (JWT + 'plan_claim = "p"\nplan_map = [{value = "v", plan = "none"}]\n' + FLEET, "no plan"),
    "jwt.default_plan": (JWT + 'default_plan = "none"\n' + FLEET, "no plan"),
    "jwt.tls_ca": (JWT + 'tls_ca = "/none.pem"\n' + FLEET, "no such file"),
    "tracing.endpoint": ('[tracing]\nendpoint = "collector:4318"\n' + FLEET, "must be an http"),
    "tracing.headers_env": ('[tracing]\nheaders_env = "NONE"\n' + FLEET, "NONE is not set"),
    "tracing.compression": ('[tracing]\ncompression = "zstd"\n' + FLEET, "must be one of"),
    "tracing.tls_ca": ('[tracing]\ntls_ca = "/none.pem"\n' + FLEET, "no such file"),
    "plans.loop_guard": ('[plans.p]\nloop_guard = "maybe"\n' + FLEET, "must be one of"),
    "cors.origins": ('[cors]\norigins = ["chat.example.com"]\n' + FLEET, "must be"),
    "plans.priority": ('[plans.p]\npriority = "none"\n' + FLEET, "must be one of"),
    "plans.residency": ('[plans.p]\nresidency = ["eu", "uk"]\n' + FLEET, 'no region has the jurisdiction "eu"'),
    "models.targets.model": ('[models.m]\ntargets = [{model = "n"}]\n' + FLEET, "hides the model"),
    "store.snapshot": ('[store]\nsnapshot = "regions.toml"\n' + FLEET, "is the path of this file"),
    "journal.path": ('[journal]\npath = "regions.toml"\n' + FLEET, "is the path of this file"),
    "journal.diary": ('[journal]\ndiary = "diary/"\n' + FLEET, "must be the path of a file"),
    "models.price_usd_per_mtok.from": ('[models.m.price_usd_per_mtok]\nfrom = "May"\n' + FLEET, "must be a date"),
    "prices.default.from": ('[prices.default]\nfrom = "2026-02-30"\n' + FLEET, "must be a date"),
    "backends.price_usd_per_mtok.from": (ONE.format('price_usd_per_mtok = { from = "1.1." }'), "must be a date"),
    "backends.name": (FLEET.replace('"x"', '"x/y"'), "may hold only"),
    "backends.url": (FLEET.replace("10.0.0.1", "127.0.0.1:9090"), "own address"),
    "backends.engine": (ONE.format('engine = "none"'), "must be one of"),
    "backends.continues": (ONE.format('continues = "maybe"'), "must be one of"),
    "backends.probation": (ONE.format('probation = "none"'), "must be one of"),
    "backends.notice_url": (ONE.format('notice_url = "10.0.0.1/n"'), "must be an http"),
    "backends.gpu_metrics": (ONE.format('gpu_metrics = "10.0.0.1:9400"'), "must be an http"),
    "regions.gpu_metrics": (FLEET.replace("backends", 'gpu_metrics = "n:9400"\nbackends'), "must be an http"),
    "backends.models": (ONE.format('models = ["m", "m"]'), "twice"),
    "backends.key_env": (ONE.format('key_env = "NONE"'), "NONE is not set"),
    **{
        f"backends.{key}": (ONE.replace("http:", "https:").format(f'{key} = "/none.pem"'), words)
        for key, words in (("tls_ca", "no such file"), ("tls_cert", "tls_key"), ("tls_key", "tls_cert"))
    },
    "backends.tls_server_name": (ONE.format('tls_server_name = "a b"'), "host name"),
    "regions.name": (FLEET.replace('"a"', '""'), "may hold only"),
    "regions.tls_ca": (FLEET.replace("backends", 'tls_ca = "/none.pem"\nbackends'), "no such file"),
    "regions.tls_cert": (FLEET.replace("backends", 'tls_cert = "/none.pem"\nbackends'), "tls_key"),
    "regions.tls_key": (FLEET.replace("backends", 'tls_key = "/none.pem"\nbackends'), "tls_cert"),
    "regions.tls_server_name": (FLEET.replace("backends", 'tls_server_name = "a b"\nbackends'), "host name"),
    "regions.continues": (FLEET.replace("backends", 'continues = "maybe"\nbackends'), "must be one of"),
    "regions.probation": (FLEET.replace("backends", 'probation = "none"\nbackends'), "must be one of"),
    "regions.jurisdiction": (FLEET.replace('"us"', '""'), "lower-case"),
}
#: The same for what is allowed and told by check, start and reload.
TOLD: dict[str, tuple[str, str]] = {
    "plans.residency": ('[plans.p]\nresidency = ["us", "uk"]\n' + FLEET, 'the jurisdiction "uk"'),
    "plans.models": ('[plans.p]\nmodels = ["n"]\n' + FLEET, '[plans.p] models: no backend serves "n"'),
    "models.targets.model": ('[models.c]\ntargets = [{model = "n"}]\n' + FLEET, 'no backend serves "n"'),
    "models.degrade": ('[models.m]\ntarget_ttft_s = 1\ndegrade = ["n"]\n' + FLEET, 'no backend serves "n"'),
    "models.fallbacks": ('[models.m]\nfallbacks = ["n"]\n' + FLEET, 'no backend serves "n"'),
    "models": ("[models.c]\n" + FLEET, 'no backend serves "c"'),
    "plans": ("[plans.p]\nconcurrent = 1\n" + FLEET, "[plans.default] is missing"),
    "plans.budget_usd_month": (
        "[plans.p]\nbudget_usd_month = 1\n[models.c.price_usd_per_mtok]\ninput = 1\n" + FLEET,
        "having no price today: m",
    ),
    "backends.cost_usd_hour": ('[router]\npolicy = "cheapest"\n' + FLEET, "takes it for free"),
    "backends.url": (FLEET.replace("10.0.0.1", "h/v1beta/openai"), "asked for /v1beta/openai/v1/chat/completions"),
    "backends.key_env": (ONE.replace("10.0.0.1", "api.example.com").format('key_env = "KEY"'), "readable on the way"),
}
ENV = {"EMPTY": " ", "KEY": "k"}


def text_keys() -> set[str]:
    def names(prefix: str, keys: tuple[Setting, ...]) -> set[str]:
        found = {f"{prefix}.{key.name}" for key in keys if key.kind in ("string", "strings")}
        for key in keys:
            found |= names(f"{prefix}.{key.name}", key.inner) if key.name != "backends" else set()
        return found

    sections = [names(section.name, section.keys) for section in SECTIONS]
    return set().union(*sections, names("backends", BACKEND_KEYS), names("regions", REGION_KEYS))


def test_every_key_that_holds_text_is_judged() -> None:
    assert text_keys() <= set(REFUSED) | set(TOLD), "a new key: what if it names what is not there?"


@pytest.mark.parametrize("key", REFUSED)
def test_a_name_that_leads_nowhere_is_refused(key: str) -> None:
    text, words = REFUSED[key]
    with pytest.raises(ConfigError) as caught:
        parse(text, "regions.toml", env=ENV, whole=True)
    assert any(words in problem for problem in caught.value.problems), caught.value.problems


@pytest.mark.parametrize("key", TOLD)
def test_a_name_that_leads_nowhere_is_told(key: str) -> None:
    text, words = TOLD[key]
    found = warnings(parse(text, "regions.toml", env=ENV, whole=True))
    assert any(words in warning for warning in found), found


def test_a_plan_that_nobody_can_serve_keeps_no_router_from_starting() -> None:
    text, _ = REFUSED["plans.residency"]
    with pytest.raises(ConfigError, match="no region has the jurisdiction"):
        parse(text, "regions.toml", env=ENV, whole=True)
    config = parse(text, "regions.toml", env=ENV, whole=True, start=True)
    assert config.plans["p"].residency == ("eu", "uk"), "it stays as narrow as it is written"
    (alarm,) = alarms(config)
    assert "plan p is refused" in alarm
    assert "eu, uk" in alarm


def test_a_start_forgives_nothing_else() -> None:
    for key, (text, _) in REFUSED.items():
        if key != "plans.residency":
            with pytest.raises(ConfigError):
                parse(text, "regions.toml", env=ENV, whole=True, start=True)


@pytest.mark.parametrize("path", ["/v1beta/openai", "/api/paas/v4", "/openai/v2", "/V3", "/compatible-mode/v1/x"])
def test_an_address_with_a_version_in_its_path_is_told_of(path: str) -> None:
    found = warnings(parse(FLEET.replace("10.0.0.1", f"api.example.com{path}"), "x", env={}))
    assert [w for w in found if f"{path}/v1/chat/completions" in w]


@pytest.mark.parametrize("path", ["/openai", "/vllm", "/v", "/team/v", "/versions"])
def test_other_prefixes_are_not(path: str) -> None:
    assert not warnings(parse(FLEET.replace("10.0.0.1", f"api.example.com{path}"), "x", env={}))


@pytest.mark.parametrize("ending", ["/v1", "/v1/", "/v1/chat/completions", "/openai/responses", "/v1/models/"])
def test_the_address_of_one_route_is_refused(ending: str) -> None:
    with pytest.raises(ConfigError, match="leave that off"):
        parse(FLEET.replace("10.0.0.1", f"api.example.com{ending}"), "x", env={})


@pytest.mark.parametrize(
    ("listen", "url", "own"),
    [
        ("127.0.0.1:8000", "http://localhost:8000", True),
        ("127.0.0.1:8000", "http://[::1]:8000", True),
        ("0.0.0.0:80", "http://127.0.0.1", True),
        ("10.0.0.1:8000", "http://10.0.0.1:8000", True),
        ("10.0.0.1:8000", "http://127.0.0.1:8000", False),
        ("127.0.0.1:8000", "http://127.0.0.1:8001", False),
        ("0.0.0.0:8000", "http://10.0.0.7:8000", False),
    ],
)
def test_a_router_is_not_its_own_backend(listen: str, url: str, own: bool) -> None:
    text = f'[router]\nlisten = "{listen}"\n' + FLEET.replace("http://10.0.0.1", url)
    if own:
        with pytest.raises(ConfigError, match="own address"):
            parse(text, "x", env={})
    else:
        parse(text, "x", env={})


def test_a_body_that_may_never_come_in_is_refused() -> None:
    with pytest.raises(ConfigError, match="a body of that size would never"):
        parse("[limits]\nbody_bytes = 2_000_000\nbuffered_bytes = 1_048_576\n" + FLEET, "x", env={})


@given(st.integers(0, EXAMPLE.index('  url    = "http://127.0.0.1:8000"')))
def test_no_file_that_is_cut_before_its_first_backend_is_right(size: int) -> None:
    with pytest.raises(ConfigError):
        parse(EXAMPLE[:size], "regions.toml", env={}, whole=True)


@pytest.mark.parametrize("text", ["regions = []\n", '[[regions]]\nname = "a"\nbackends = []\n'])
def test_no_backends_may_be_meant(tmp_path: Path, text: str) -> None:
    path = tmp_path / "regions.toml"
    path.write_text(text)
    assert load(path).backends == ()
