"""What goes wrong on the way to an API, or comes from something else, is an error of Heimdex that says what it is."""

import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from threading import Thread
from uuid import UUID

import pytest
from starlette.responses import PlainTextResponse, Response

from heimdex.adapters.http_client import HttpClient
from heimdex.bootstrap import connect
from heimdex.domain.errors import CommitOutcomeUnknown, DatabaseUnavailable, HeimdexError, InvalidInput
from heimdex.domain.new_job import NewJob
from tests.api_server import answering

NOBODY = UUID("018f3c6e-0000-7000-8000-0000000000ff")
TYPE = "mail.send"

CALLS: dict[str, Callable[[HttpClient], object]] = {
    "get": lambda client: client.statistics(),
    "post": lambda client: client.create(NewJob(TYPE)),
    "stream": lambda client: list(client.watch(NOBODY)),
}


@pytest.mark.parametrize("call", CALLS)
def test_an_api_that_is_not_there_is_unavailable_and_nothing_was_done(call: str) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        with (
            connect(f"http://127.0.0.1:{bound.getsockname()[1]}", "t") as client,
            pytest.raises(DatabaseUnavailable, match=r"the API cannot be reached \(ConnectError\)"),
        ):
            CALLS[call](client)


@contextmanager
def _hanging_up(answer: bytes) -> Iterator[str]:
    """Give the URL of a server that takes one request, answers with these bytes and closes the connection."""

    def serve() -> None:
        connection, _ = listening.accept()
        with connection:
            connection.recv(65_536)
            connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listening:
        thread = Thread(target=serve)
        thread.start()
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        thread.join()


CUT = [b"", b"HTTP/1.1 202 Acc", b"HTTP/1.1 202 Accepted\r\nContent-Length: 9\r\n\r\n{", b"?\r\n"]


@pytest.mark.parametrize("answer", CUT)
def test_whether_a_change_was_made_is_not_known_where_the_connection_was_lost(answer: bytes) -> None:
    with (
        _hanging_up(answer) as url,
        connect(url, "t") as client,
        pytest.raises(
            CommitOutcomeUnknown, match=r"the connection to the API was lost \((RemoteProtocolError|ReadError)\)"
        ),
    ):
        client.create(NewJob(TYPE))


@pytest.mark.parametrize("call", ["get", "stream"])
def test_a_question_whose_answer_was_lost_may_be_asked_again(call: str) -> None:
    with _hanging_up(b"") as url, connect(url, "t") as client, pytest.raises(DatabaseUnavailable):
        CALLS[call](client)


def test_a_stream_that_is_cut_off_is_no_end() -> None:
    cut = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\n: \n\n\r\n"
    with _hanging_up(cut) as url, connect(url, "t") as client, pytest.raises(DatabaseUnavailable):
        list(client.watch(NOBODY))


OTHERS: dict[str, tuple[Response, type[HeimdexError], str]] = {
    "a page": (PlainTextResponse("<html>"), HeimdexError, "answered with something else than Heimdex does"),
    "other JSON": (PlainTextResponse("[1]"), HeimdexError, "answered with something else than Heimdex does"),
    "a proxy": (PlainTextResponse("Bad Gateway", 502), DatabaseUnavailable, "answered with status 502"),
    "another API": (PlainTextResponse('{"type": "x"}', 404), DatabaseUnavailable, "answered with status 404"),
    "a redirect": (PlainTextResponse("", 307, {"Location": "/"}), HeimdexError, "something else than Heimdex does"),
    "a later version": (
        PlainTextResponse('{"type": "urn:heimdex:problem:too_blue", "detail": "it is too blue"}', 422),
        InvalidInput,
        "is not accepted; it is too blue",
    ),
    "a later form": (
        PlainTextResponse('{"type": "urn:heimdex:problem:job_not_found", "detail": "no such job"}', 404),
        InvalidInput,
        "is not accepted; no such job",
    ),
}


@pytest.mark.parametrize("call", ["get", "post"])
@pytest.mark.parametrize("case", OTHERS)
def test_whatever_answers_is_an_error_that_says_what_came(case: str, call: str) -> None:
    response, kind, said = OTHERS[case]

    with answering(response) as url, connect(url, "t") as client, pytest.raises(kind, match=said) as raised:
        CALLS[call](client)

    assert type(raised.value) is kind


@pytest.mark.parametrize(
    "url", ["", "localhost:8000", "ftp://h", "http://", "http://h:port", "http://me:pw@h", "http://h\n"]
)
def test_a_url_of_no_api_is_refused_and_shows_no_password(url: str) -> None:
    with pytest.raises(InvalidInput, match="give http:// or https:// and a host") as raised:
        connect(url, "t")

    assert "pw" not in str(raised.value)


@pytest.mark.parametrize("token", ["", "a b", "a\n", "é"])
def test_a_token_that_no_header_takes_is_refused_and_not_shown(token: str) -> None:
    with pytest.raises(InvalidInput, match=r"API token: '\*\*\*' is not accepted"):
        connect("http://h", token)
