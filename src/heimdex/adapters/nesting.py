"""Notices a unit of work that is opened inside another one of the same thread and the same asyncio task."""

import asyncio
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import TypeAlias

from heimdex.domain.errors import NestedUnitOfWork

_Owner: TypeAlias = tuple[int, int | None]

# A context may be copied into another thread or task, so that the mere presence of a value proves nothing: the value
# names the owner, and a flag that its owner clears says whether that unit of work is still open.
_open: ContextVar[tuple[_Owner, list[bool]] | None] = ContextVar("heimdex_open_unit_of_work", default=None)


def _owner() -> _Owner:
    try:
        task = asyncio.current_task()
    except RuntimeError:
        task = None
    return threading.get_ident(), None if task is None else id(task)


def enter() -> Callable[[], None]:
    """Say that a unit of work begins here; returns what says that it has ended.

    Raises:
        NestedUnitOfWork: one is open in this thread and task.
    """
    owner = _owner()
    current = _open.get()
    if current is not None and current[0] == owner and current[1]:
        raise NestedUnitOfWork
    still_open = [True]
    _open.set((owner, still_open))
    return still_open.clear
