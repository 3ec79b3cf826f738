"""Chance that repeats: one seed, and for each purpose draws of its own, so that a new purpose changes no other's."""

from random import Random

NO_CHANCE = -1
"""The seed of runs in which nothing is left to chance: the middle of every range is drawn."""

NO_HASTE = -2
"""As NO_CHANCE, but what takes a while takes long."""


def chance(seed: int, *purpose: str) -> Random:
    """Return draws that depend on the seed and the purpose alone, in every process."""
    return _SAME.get(seed) or Random(f"{seed}/{'/'.join(purpose)}")  # noqa: S311 - it shall repeat


class _Same(Random):
    """Draws the same place of every range, so that what is to happen at one time happens in the order asked for."""

    def __init__(self, place: float) -> None:
        super().__init__(0)
        self.place = place

    def random(self) -> float:
        return self.place


_SAME = {NO_CHANCE: _Same(0.5), NO_HASTE: _Same(0.9)}
