"""Which groups a request belongs to."""

from __future__ import annotations

from router.config import AllSection, Config, ModelAlias, ModelTarget, Tenant
from router.store.groups import Groups

CONFIG = Config(
    tenants={
        "acme": Tenant("acme", requests_per_minute=5),
        "free": Tenant("free"),
        "default": Tenant("default", budget_usd_day=1.0),
    },
    models={
        "chat": ModelAlias("chat", (ModelTarget("m"),), tokens_per_minute=100),
        "m": ModelAlias("m", output_tokens_per_minute=40),
        "plain": ModelAlias("plain"),
    },
    all=AllSection(concurrent=7),
)


def ids(groups: Groups, tenant: str, asked: str, model: str) -> list[str]:
    return [group.id for group in groups.company(tenant, asked, model).groups]


def test_only_what_has_limits_is_a_group() -> None:
    groups = Groups(CONFIG)
    assert groups.any
    assert ids(groups, "acme", "chat", "m") == ["tenant:acme", "model:chat", "model:m", "all"]
    assert ids(groups, "free", "plain", "plain") == ["all"]
    assert ids(groups, "other", "m", "m") == ["tenant:other", "model:m", "all"]
    assert not Groups(Config()).any
    assert not Groups(Config(tenants={"free": Tenant("free")})).any
    assert Groups(Config(tenants={"default": Tenant("default", concurrent=1)})).any


def test_a_company_knows_what_counts() -> None:
    groups = Groups(CONFIG)
    acme = groups.company("acme", "chat", "m")
    assert (acme.money, acme.counts_output) == (False, True)
    assert acme.answers == ((100, True), (40, False))
    assert acme.model == "model:m", "another one may answer"
    assert groups.company("other", "m", "m").money
    assert groups.company("other", "m", "m").model is None, "it was asked for by this name"
    assert not groups.company("free", "plain", "plain").counts_output


def test_names_that_others_choose_are_not_kept_for_ever() -> None:
    groups = Groups(CONFIG)
    for number in range(10_000):
        groups.company("acme", f"x{number}", f"x{number}")
    assert len(groups._known) <= 4096
    assert groups.company("acme", "m", "m") is groups.company("acme", "m", "m")


def test_a_group_is_found_by_its_account() -> None:
    groups = Groups(CONFIG)
    for group in groups.every({"acme", "zeta"}):
        assert groups.find(group.id) == group
    for account in ("tenant:free", "model:plain", "model:none", "key_1", "", "all:x"):
        assert groups.find(account) is None


def test_all_groups_are_listed() -> None:
    every = [group.id for group in Groups(CONFIG).every({"acme", "zeta", "free"})]
    assert every == ["tenant:acme", "tenant:zeta", "model:chat", "model:m", "all"]
    assert [group.id for group in Groups(Config()).every({"acme"})] == []
    assert "tenant:default" in [group.id for group in Groups(CONFIG).every({"default"})]
