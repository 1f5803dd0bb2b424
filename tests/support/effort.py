"""How many examples the generated tests try: one knob for all of them.

Run pytest with ``--hypothesis-profile=ci`` or ``thorough`` (``make thorough``) for more than the few of ``quick``.
"""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings

#: profile -> examples of each generated test
PROFILES = {"quick": 15, "ci": 50, "thorough": 1000}


def register() -> None:
    for name, count in PROFILES.items():
        settings.register_profile(
            name, max_examples=count, deadline=None, suppress_health_check=[HealthCheck.too_slow], print_blob=True
        )


def quick() -> bool:
    """Is this the profile that tries few examples?"""
    return settings().max_examples < PROFILES["ci"]


def examples(share: float, **more: Any) -> settings:
    """Settings of a test that needs ``share`` times as many examples as others: more if it is cheap and important."""
    return settings(max_examples=round(settings().max_examples * share), **more)
