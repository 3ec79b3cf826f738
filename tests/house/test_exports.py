"""The names that applications use: `heimdex.__all__` is the whole of it, and nothing else of it is public."""

import inspect
from types import ModuleType

import heimdex
from heimdex.domain import errors


def _public(module: ModuleType) -> set[str]:
    """Return what a user sees of a module: no private names, and no submodules that happen to be imported."""
    return {name for name, value in vars(module).items() if not name.startswith("_") and not inspect.ismodule(value)}


def test_all_that_can_be_imported_is_named_and_the_other_way_round() -> None:
    assert _public(heimdex) == set(heimdex.__all__)


def test_the_names_are_sorted_constants_first() -> None:
    assert heimdex.__all__ == sorted(heimdex.__all__, key=lambda name: (not name.isupper(), name))


def test_no_name_is_there_twice() -> None:
    assert len(heimdex.__all__) == len(set(heimdex.__all__))


def test_every_error_is_public() -> None:
    raised = {
        name
        for name, value in vars(errors).items()
        if inspect.isclass(value) and issubclass(value, errors.HeimdexError) and not name.startswith("_")
    }

    assert raised - set(heimdex.__all__) == set()
