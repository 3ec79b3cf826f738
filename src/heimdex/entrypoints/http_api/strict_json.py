"""How the text of a request becomes values: JSON, and nothing that two readers may read differently."""

import json
from typing import Any, cast

from fastapi import Request
from fastapi.routing import APIRoute
from starlette.exceptions import HTTPException

from heimdex.domain.errors import InvalidPayload, shown
from heimdex.domain.json_text import member


class StrictRequest(Request):
    """A request whose JSON is read strictly."""

    async def json(self) -> Any:  # noqa: ANN401 - as the class that it extends has it
        if not hasattr(self, "_json"):
            try:
                self._json = read(await self.body())
            except InvalidPayload as error:
                raise Unreadable(error) from None
        return self._json


class Unreadable(HTTPException):
    """A body that is no JSON. The framework lets errors of this class through as they are."""

    def __init__(self, error: InvalidPayload) -> None:
        super().__init__(422, str(error))
        self.error = error


class StrictRoute(APIRoute):
    """A route whose requests are strict."""

    def get_route_handler(self) -> Any:  # noqa: ANN401 - as the class that it extends has it
        handle = super().get_route_handler()

        async def handle_strictly(request: Request) -> Any:  # noqa: ANN401 - as above
            return await handle(StrictRequest(request.scope, request.receive))

        return handle_strictly


def read(text: bytes) -> object:
    """Return the value of a JSON text in UTF-8.

    Raises:
        InvalidPayload: it is not JSON, or an object has a name twice, or a number is out of range.
    """
    try:
        return cast("object", json.loads(text.decode(), object_pairs_hook=_object, parse_constant=_refuse))
    except RecursionError:
        raise InvalidPayload("body", "$", "nested too deep") from None
    except UnicodeDecodeError:
        raise InvalidPayload("body", "$", "is not UTF-8") from None
    except json.JSONDecodeError as error:
        raise InvalidPayload("body", "$", f"is not JSON: {error.msg} at character {error.pos}") from None
    except ValueError as error:
        # An integer with more digits than Python reads.
        raise InvalidPayload("body", "$", f"a number is out of range ({type(error).__name__})") from None


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise InvalidPayload("body", member("$", twice), "the same name twice in one object")
    return members


def _refuse(constant: str) -> None:
    raise InvalidPayload("body", "$", f"{shown(constant)} is not JSON")
