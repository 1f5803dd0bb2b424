"""The keys of [jwt]: who may use the router with a JWT of an issuer, instead of an API key of ours."""

from __future__ import annotations

from urllib.parse import urlsplit

from router.config.model import JwtSection, PlanOfClaim
from router.config.names import each, file_problem, name_problem
from router.config.setting import Section, Setting

#: Only those whose keys are public: with any other, whoever may check a JWT may make one.
ALGORITHMS = ("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "EdDSA")


def jwks_problem(text: str) -> str | None:
    if "://" not in text:
        return file_problem(text)
    if any(c <= " " or c >= "\x7f" for c in text):
        return "holds a character that no URL may hold"
    try:
        parts = urlsplit(text)
        port = parts.port
    except ValueError:
        return "is not a URL"
    if parts.scheme not in ("http", "https"):
        return "must be the path of a file, or begin with https:// or http://"
    if parts.username is not None or parts.password is not None:
        return "must not hold credentials: these keys are public"
    return None if parts.hostname and port != 0 else "has no host"


def text_problem(text: str) -> str | None:
    return None if 0 < len(text) <= 500 and text.isprintable() else "must be 1 to 500 printable characters"


def _algorithm_problem(text: str) -> str | None:
    if text in ALGORITHMS:
        return None
    why = ": whoever can check such a JWT can make one" if text.startswith("HS") or text.lower() == "none" else ""
    return f"is not one of {', '.join(ALGORITHMS)}{why}"


JWT_INNER: dict[str, type] = {"plan_map": PlanOfClaim}
JWT_SECTION = Section(
    "jwt",
    "JSON Web Tokens in place of API keys: whoever has one of this issuer is the tenant that it names. Needs the extra "
    "`jwt`. Without `jwks` they are not accepted.",
    JwtSection,
    (
        Setting(
            "jwks",
            "string",
            "Where the issuer's public keys are: the path of a JWKS file, or a URL, which is asked in the background.",
            problem=jwks_problem,
        ),
        Setting("issuer", "string", "What the claim `iss` must be, to the letter.", problem=text_problem),
        Setting("audience", "strings", "One of these must be in the claim `aud`.", problem=each(text_problem)),
        Setting(
            "algorithms",
            "strings",
            f"Signatures that are accepted, out of {', '.join(ALGORITHMS)}. Each fits keys of its own kind only.",
            problem=each(_algorithm_problem),
        ),
        Setting(
            "leeway",
            "number",
            "Seconds that the clocks of issuer and router may differ, for `exp`, `nbf` and `iat`.",
            low=0.0,
            high=600.0,
        ),
        Setting(
            "tenant_claim",
            "string",
            "The claim that names the tenant, who is charged; `org.id` for a claim inside another.",
            problem=text_problem,
        ),
        Setting(
            "plan_claim",
            "string",
            "The claim that names the plan, or a list such as groups. Default: none, all have `default_plan`.",
            problem=text_problem,
        ),
        Setting(
            "plan_map",
            "tables",
            "Plans for values of plan_claim; the first that fits counts. Without it the value is the name of the plan.",
            inner=(
                Setting("value", "string", "A value of plan_claim.", problem=text_problem, required=True),
                Setting("plan", "string", "The plan of who has it.", problem=name_problem, required=True),
            ),
        ),
        Setting("default_plan", "string", "The plan where the claim says none.", problem=name_problem),
        Setting("refresh", "number", "Seconds until the keys at a URL are fetched again.", low=1.0, high=86_400.0),
        Setting(
            "tls_ca",
            "string",
            "PEM file with authorities for an https:// URL. Default: those of the system.",
            problem=file_problem,
        ),
    ),
)
