"""Which router a command asks: flag, environment, current context, default."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli import contexts
from cli.contexts import DEFAULT_URL, Chosen, Contexts, NamedRouter, chosen, load
from cli.errors import CliError, Exit

ONE, TWO = "http://one:9090", "http://two:9090"


@pytest.fixture
def env(tmp_path: Path) -> dict[str, str]:
    """Two contexts, each with a token; the first is the current one."""
    made = Contexts(tmp_path / "meridian" / "contexts.toml", current="one")
    for name, url in (("one", ONE), ("two", TWO)):
        token = tmp_path / f"{name}.token"
        token.write_text(f"token-of-{name}\n")
        token.chmod(0o600)
        made.places[name] = NamedRouter(name, url, str(token))
    made.save()
    return {"XDG_CONFIG_HOME": str(tmp_path)}


def test_the_order_of_precedence(env: dict[str, str]) -> None:
    assert chosen({}) == Chosen(DEFAULT_URL, None, "default")
    current = chosen(env)
    assert (current.url, current.token, current.why, current.context) == (ONE, "token-of-one", "current context", "one")

    env |= {"ROUTER_CONTEXT": "two"}
    assert (chosen(env).url, chosen(env).token, chosen(env).why) == (TWO, "token-of-two", "ROUTER_CONTEXT")

    env |= {"ROUTER_ADMIN_URL": "http://of-the-environment"}
    assert (chosen(env).url, chosen(env).token) == ("http://of-the-environment", None)

    flag = chosen(env, context="one")
    assert (flag.url, flag.token, flag.why) == (ONE, "token-of-one", "--context")
    assert chosen(env, context="one", url="http://flag") == Chosen("http://flag", None, "--admin-url")


def test_the_order_of_tokens(env: dict[str, str]) -> None:
    env |= {"ROUTER_ADMIN_TOKEN": "of the environment"}
    assert chosen(env).token == "of the environment"
    assert chosen(env, context="one").token == "token-of-one", "a flag wins over the environment"
    assert chosen(env, context="one", token="of the flag").token == "of the flag"
    assert chosen(env, url="http://flag").token == "of the environment"


@given(st.dictionaries(st.sampled_from(["ROUTER_ADMIN_URL", "ROUTER_ADMIN_TOKEN"]), st.just("http://env"), max_size=2))
def test_without_a_home_there_are_no_contexts(env: dict[str, str]) -> None:
    assert load(env).path is None
    assert chosen(env).url == env.get("ROUTER_ADMIN_URL", DEFAULT_URL)
    with pytest.raises(CliError, match="no context"):
        chosen(env, context="one")


def test_an_unknown_context_is_an_error_that_suggests(env: dict[str, str]) -> None:
    with pytest.raises(CliError, match='no context "on", did you mean "one"') as caught:
        chosen(env, context="on")
    assert caught.value.code is Exit.USAGE
    assert caught.value.hint == "There are: one, two."


def test_where_the_file_is(tmp_path: Path) -> None:
    assert contexts.folder({"HOME": "/home/anna"}) == Path("/home/anna/.config/meridian")
    assert contexts.folder({"HOME": "/home/anna", "XDG_CONFIG_HOME": "/etc/anna"}) == Path("/etc/anna/meridian")
    assert contexts.folder({"HOME": "/home/anna", "XDG_CONFIG_HOME": "relative"}) == Path("/home/anna/.config/meridian")
    assert contexts.folder({}) is None


NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=20)


@given(names=st.lists(NAMES, unique=True, max_size=5), data=st.data())
def test_what_is_saved_is_read_again(
    names: list[str], data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = tmp_path_factory.getbasetemp() / "meridian" / "contexts.toml"
    current = data.draw(st.sampled_from(names)) if names else None
    made = Contexts(path, current, {n: NamedRouter(n, ONE, f"/tokens/{n}") for n in names})
    made.save()
    assert path.stat().st_mode & 0o777 == 0o600
    again = load({"XDG_CONFIG_HOME": str(path.parent.parent)})
    assert vars(again) == vars(made)


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("x", "Expected"),
        ("currant = 'a'", "unknown key 'currant'"),
        ("current = 1", "current, a name"),
        ("[contexts]\na = 1", r"\[contexts.a\] has"),
        ("[contexts.a]\nadmin_url = 'nowhere'", "has no scheme"),
        ("[contexts.a]\nadmin_url = 'http://a'\ntoken = 'secret'", "unknown key 'token'"),
    ],
)
def test_a_file_that_is_wrong_is_an_error_with_its_path(tmp_path: Path, text: str, problem: str) -> None:
    path = tmp_path / "meridian" / "contexts.toml"
    path.parent.mkdir()
    path.write_text(text)
    with pytest.raises(CliError, match=problem) as caught:
        load({"XDG_CONFIG_HOME": str(tmp_path)})
    assert str(path) in caught.value.message


@pytest.mark.parametrize("url", ["x", "ftp://a", "http://", "http://a:b", "http://a:99999"])
def test_addresses_that_are_none(url: str) -> None:
    assert contexts.url_problem(url) is not None


@pytest.mark.parametrize("url", ["127.0.0.1:9110", "localhost:9090", "edge.example"])
def test_an_address_without_its_scheme_is_told_whole(url: str) -> None:
    assert f'write "http://{url}"' in (contexts.url_problem(url) or "")


def test_addresses_that_are_good() -> None:
    assert contexts.url_problem("https://edge.example:9090") is None
    assert contexts.url_problem("http://[::1]:9090") is None
