"""Answers that are made when somebody looks: most callers never do."""

from collections.abc import Callable, Sequence
from typing import TypeVar, overload

Item = TypeVar("Item")


class MadeLate(Sequence[Item]):
    """So many items, all of which are made with the first that is looked at."""

    def __init__(self, number: int, make: Callable[[], Sequence[Item]]) -> None:
        self._number = number
        self._make = make
        self._made: Sequence[Item] | None = None

    def __len__(self) -> int:
        return self._number

    @overload
    def __getitem__(self, place: int, /) -> Item: ...

    @overload
    def __getitem__(self, place: slice, /) -> Sequence[Item]: ...

    def __getitem__(self, place: int | slice, /) -> Item | Sequence[Item]:
        if self._made is None:
            self._made = self._make()
        return self._made[place]
