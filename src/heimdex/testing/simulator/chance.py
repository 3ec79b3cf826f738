"""Chance that repeats: one seed, and for each purpose draws of its own, so that a new purpose changes no other's."""

from random import Random


def chance(seed: int, *purpose: str) -> Random:
    """Return draws that depend on the seed and the purpose alone, in every process."""
    return Random(f"{seed}/{'/'.join(purpose)}")  # noqa: S311 - it shall repeat
