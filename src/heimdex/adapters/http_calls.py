"""Requests to the HTTP API of another process, and what goes wrong on the way: a client's errors never leave here."""

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TypeAlias, TypeVar, cast

import httpx

from heimdex.adapters.http_problems import error_of
from heimdex.domain.errors import CommitOutcomeUnknown, DatabaseUnavailable, HeimdexError, InvalidInput
from heimdex.service_layer.documents import text_of

Answer = TypeVar("Answer")

Document: TypeAlias = Mapping[str, object]

_SECONDS = 30.0
# A stream says something four times in this while, if only that it is there.
_SILENT_SECONDS = 60.0
_DATA = "data: "
_JSON = {"Content-Type": "application/json"}


class HttpCalls:
    """Calls one API with one token. `read` makes the answer of a document, and may fail in whatever way."""

    def __init__(self, url: str, token: str | None) -> None:
        headers = {} if token is None else {"Authorization": f"Bearer {_checked(token)}"}
        self._http = httpx.Client(base_url=_address(url), headers=headers, timeout=_SECONDS)

    def get(self, path: str, read: Callable[[Document], Answer], query: Mapping[str, str] | None = None) -> Answer:
        with _translated():
            return _answer(self._http.get(path, params=query), read)

    def post(self, path: str, body: Document | None, read: Callable[[Document], Answer]) -> Answer:
        content = None if body is None else text_of(body)
        with _translated():
            try:
                response = self._http.post(path, content=content, headers=None if body is None else _JSON)
            except (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout):
                raise
            except httpx.TransportError as error:
                raise CommitOutcomeUnknown(f"the connection to the API was lost ({type(error).__name__})") from error
            return _answer(response, read)

    def stream(self, path: str, read: Callable[[Document], Answer], headers: Mapping[str, str]) -> Iterator[Answer]:
        """Yield what the data of server-sent events holds, until the API ends the stream."""
        with _translated(), self._http.stream("GET", path, headers=headers, timeout=_SILENT_SECONDS) as response:
            if response.is_error:
                response.read()
                raise error_of(response)
            for line in response.iter_lines():
                if line.startswith(_DATA):
                    yield _read(response, line.removeprefix(_DATA), read)

    def close(self) -> None:
        self._http.close()


@contextmanager
def _translated() -> Iterator[None]:
    try:
        yield
    except httpx.HTTPError as error:
        raise DatabaseUnavailable(f"the API cannot be reached ({type(error).__name__})") from error
    except UnicodeEncodeError as error:
        raise InvalidInput("request", error.object, "give text that has a UTF-8 form (no lone surrogates)") from None


def _answer(response: httpx.Response, read: Callable[[Document], Answer]) -> Answer:
    if response.is_error:
        raise error_of(response)
    return _read(response, response.text, read)


def _read(response: httpx.Response, text: str, read: Callable[[Document], Answer]) -> Answer:
    try:
        return read(cast("Document", json.loads(text)))
    except Exception as error:
        raise HeimdexError(
            f"{response.url} answered with something else than Heimdex does; check the URL of the API"
        ) from error


def _address(url: str) -> httpx.URL:
    try:
        address = httpx.URL(url)
    except httpx.InvalidURL:
        address = httpx.URL()
    # A user would be sent in place of the token.
    if address.scheme not in {"http", "https"} or not address.host or address.userinfo:
        raise InvalidInput("API", address if address.userinfo else url, "give http:// or https:// and a host")
    return address


def _checked(token: str) -> str:
    if not (token.isascii() and token.isprintable() and token and " " not in token):
        raise InvalidInput("API token", "***", "give it as it was issued: visible characters of ASCII")
    return token
