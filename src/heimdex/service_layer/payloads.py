"""What a job function takes and returns, as documents: plain dicts, attrs classes, dataclasses and pydantic models.

A document is checked before it is stored, and rebuilt before it runs. Errors name the path, never the value.
"""

from collections.abc import Callable, Mapping
from typing import Protocol, cast, get_origin, runtime_checkable

from attrs import frozen
from cattrs import StructureHandlerNotFoundError

from heimdex.domain.errors import InvalidInput, InvalidPayload
from heimdex.service_layer.structuring import Hook, first_problem, is_class_of_fields, strict_converter

_FIELD = "payload"
_REMEDY = "annotate it with dict, an attrs class, a dataclass or a pydantic model"

_converter = strict_converter()


@runtime_checkable
class _Model(Protocol):
    """A pydantic model as far as we use it, so that pydantic need not be installed."""

    @classmethod
    def model_validate(cls, document: object) -> object: ...

    def model_dump(self, *, mode: str) -> object: ...


class PayloadForm(Protocol):
    """How one kind of payload becomes a document and comes back.

    `only_reads` says that `rebuild` changes nothing. `hint` is the class as it was annotated; None is any object.
    """

    only_reads: bool
    hint: object

    def document(self, payload: object) -> object:
        """Return what is stored of a payload; anything but an instance of the class is returned as it is.

        Raises:
            InvalidPayload: the instance cannot be converted.
        """

    def rebuild(self, document: object) -> object:
        """Return the payload that a job function gets.

        Raises:
            InvalidPayload: the document does not fit.
        """


class _PlainForm(PayloadForm):
    only_reads = True
    hint = None

    def document(self, payload: object) -> object:
        return payload

    def rebuild(self, document: object) -> object:
        if not isinstance(document, dict):
            raise InvalidPayload(_FIELD, "$", f"expected an object, found {type(document).__name__}")
        return document


@frozen
class _ClassForm(PayloadForm):
    hint: object
    kind: type
    structure: Hook
    unstructure: Callable[[object], object]
    only_reads: bool = True

    def document(self, payload: object) -> object:
        if not isinstance(payload, self.kind):
            return payload
        # A subclass may have fields of its own.
        unstructure = self.unstructure if type(payload) is self.kind else _converter.unstructure
        try:
            return unstructure(payload)
        except Exception as error:  # noqa: BLE001 - a class may raise what it likes
            raise _without_document(error) from None

    def rebuild(self, document: object) -> object:
        try:
            return self.structure(document, self.kind)
        except Exception as error:  # noqa: BLE001 - as above
            # From None: the text of the cause may hold the value.
            raise InvalidPayload(_FIELD, *first_problem(error)) from None


@frozen
class _ModelForm(PayloadForm):
    hint: object
    kind: type[_Model]
    # A validator "before" gets the document itself.
    only_reads: bool = False

    def document(self, payload: object) -> object:
        if not isinstance(payload, self.kind):
            return payload
        try:
            return payload.model_dump(mode="json")
        except Exception as error:  # noqa: BLE001 - a class may raise what it likes
            raise _without_document(error) from None

    def rebuild(self, document: object) -> object:
        try:
            return self.kind.model_validate(document)
        except Exception as error:  # noqa: BLE001 - as above
            raise InvalidPayload(_FIELD, *_first_of_model(error)) from None


def payload_form(hint: object) -> PayloadForm:
    """Return the form of the payload that a job function's first parameter is annotated with.

    Raises:
        InvalidInput: it is annotated with something that has no document.
    """
    kind = cast("object", get_origin(hint)) or hint
    if kind is object or kind is Mapping or (isinstance(kind, type) and issubclass(kind, dict)):
        return _PlainForm()
    if isinstance(kind, type) and is_class_of_fields(kind):
        return _ClassForm(hint, kind, _hook(hint), _converter.get_unstructure_hook(kind))
    if isinstance(kind, type) and issubclass(kind, _Model):
        return _ModelForm(hint, kind)
    raise InvalidInput(_FIELD, hint, _REMEDY)


def result_document(result: object) -> object:
    """Return what is stored of what a job function returned."""
    if isinstance(result, _Model):
        return result.model_dump(mode="json")
    return cast("object", _converter.unstructure(result))


def _hook(hint: object) -> Hook:
    try:
        return cast("Hook", _converter.get_structure_hook(cast("type", hint)))
    except (StructureHandlerNotFoundError, NameError) as error:
        raise InvalidInput(_FIELD, hint, f"give its fields types that JSON can hold ({error})") from error


def _without_document(error: Exception) -> InvalidPayload:
    return InvalidPayload(_FIELD, "$", f"this instance cannot be converted to JSON ({type(error).__name__})")


def _first_of_model(error: Exception) -> tuple[str, str]:
    """Return path and problem of a pydantic error's first line."""
    errors = getattr(error, "errors", None)
    if not callable(errors):
        return "$", f"does not fit ({type(error).__name__})"
    first = cast("Mapping[str, object]", cast("list[object]", errors(include_input=False, include_url=False))[0])
    steps = cast("tuple[object, ...]", first["loc"])
    path = "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)
    return f"${path}", str(first["msg"])
