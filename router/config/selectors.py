"""Label selectors as Kubernetes writes them: ``model=a,region!=b,tier in (x, y),!old``. Pure."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

_NOT_IN_A_LABEL = re.compile(r"[^A-Za-z0-9_.-]+")
_NAME = r"[A-Za-z0-9][A-Za-z0-9._/-]*"
_SET = re.compile(rf"({_NAME})\s+(in|notin)\s+\(([^()]*)\)")
_EQUAL = re.compile(rf"({_NAME})\s*(==|=|!=)\s*([^,()=!]*)")
_EXISTS = re.compile(rf"(!?)\s*({_NAME})")

Labels = Mapping[str, str]
Requirement = Callable[[Labels], bool]


class SelectorError(ValueError):
    """A selector that cannot be read. The text says where."""


def label_value(text: str) -> str:
    """``text`` as the value of a label can be: a model's name may have a slash, a label's value may not."""
    return _NOT_IN_A_LABEL.sub("_", text)[:63].strip("_.-")


def parse(selector: str) -> Requirement:
    """Whether labels fit. A value fits as it is, and as a label can hold it. Raises SelectorError."""
    requirements: list[Requirement] = []
    at = 0
    while at < len(selector):
        if selector[at] in ", ":
            at += 1
            continue
        for pattern, make in _FORMS:
            found = pattern.match(selector, at)
            if found is not None and _ends(selector, found.end()):
                requirements.append(make(*found.groups()))
                at = found.end()
                break
        else:
            raise SelectorError(f"unable to parse the selector at {selector[at : at + 40]!r}")
    return lambda labels: all(fits(labels) for fits in requirements)


def _ends(selector: str, at: int) -> bool:
    return selector[at:].lstrip()[:1] in ("", ",")


def _in(name: str, word: str, values: str) -> Requirement:
    wanted = {value.strip() for value in values.split(",")}
    if word == "in":
        return lambda labels: name in labels and not wanted.isdisjoint(_spellings(labels[name]))
    return lambda labels: name not in labels or wanted.isdisjoint(_spellings(labels[name]))


def _equal(name: str, sign: str, value: str) -> Requirement:
    return _in(name, "notin" if sign == "!=" else "in", value)


def _exists(absent: str, name: str) -> Requirement:
    return lambda labels: (name in labels) is not bool(absent)


def _spellings(value: str) -> set[str]:
    return {value, label_value(value)}


_FORMS: tuple[tuple[re.Pattern[str], Callable[..., Requirement]], ...] = (
    (_SET, _in),
    (_EQUAL, _equal),
    (_EXISTS, _exists),
)
