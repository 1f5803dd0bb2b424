"""Words about unknown names: which one may have been meant, and which there are."""

from __future__ import annotations

from collections.abc import Iterable

#: Most names that are listed.
NAMED_MAX = 12


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """``, did you mean "x"?`` when one of ``known`` is close."""
    import difflib  # only here: it takes longer to import than all else that a command needs for a name

    close = difflib.get_close_matches(name[:80], list(known), n=1, cutoff=0.6)
    return f', did you mean "{close[0]}"?' if close else ""


def there_are(known: Iterable[str], most: int = NAMED_MAX) -> str:
    """``There are: a, b.``, the first of them by name."""
    names = sorted(set(known))
    if not names:
        return "There are none."
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return f"There are: {', '.join(names[:most])}{more}."


def no_such(what: str, name: str, known: Iterable[str], *, most: int = NAMED_MAX) -> str:
    """``There is no region "us-eats", did you mean "us-east"? There are: eu-central, us-east.``"""
    names = sorted(set(known))
    return f'There is no {what} "{name[:80]}"{did_you_mean(name, names) or "."} {there_are(names, most)}'
