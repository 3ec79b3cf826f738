"""An issuer's public keys: fetched rarely whatever is asked, and used a while longer where it is down."""

import json
import logging
from collections.abc import Callable, Mapping
from threading import Lock
from typing import cast

import httpx
import jwt

from heimdex.domain.errors import KeysUnavailable

FRESH_FOR = 300.0
"""Seconds for which keys are used without looking again: as long as a key that was taken away may still count."""

BETWEEN_FETCHES = 30.0
"""Seconds at least between two fetches, however many unknown keys are named meanwhile."""

STALE_FOR = 3_600.0
"""Seconds for which keys are used while the issuer does not answer."""

_FETCH_SECONDS = 3.0
_MOST_BYTES = 256 * 1024
_KINDS = {"RS256": "RSA", "ES256": "EC"}

_log = logging.getLogger("heimdex.api")


class KeySet:
    """Any number of threads may ask at once; one of them fetches, and the others go on with what is there.

    Args:
        fetch: returns the text of the issuer's key set, or raises.
        now: a clock in seconds that only moves forward.
    """

    def __init__(self, fetch: Callable[[], bytes], *, algorithm: str, now: Callable[[], float]) -> None:
        self._fetch = fetch
        self._algorithm = algorithm
        self._now = now
        self._lock = Lock()
        self._keys: Mapping[str, jwt.PyJWK] | None = None
        self._fetched_at = self._tried_at = -STALE_FOR

    def find(self, name: str) -> jwt.PyJWK | None:
        """Return the key of a name; None where the issuer has none.

        Raises:
            KeysUnavailable: they were never fetched, or too long ago.
        """
        now = self._now()
        if name not in (self._keys or {}) or now - self._fetched_at >= FRESH_FOR:
            self._refresh(now)
        if self._keys is None or now - self._fetched_at >= STALE_FOR:
            raise KeysUnavailable
        return self._keys.get(name)

    def knows(self, name: str) -> bool:
        """Return whether `find` would answer without a fetch."""
        return name in (self._keys or {}) and self._now() - self._fetched_at < FRESH_FOR

    def _refresh(self, now: float) -> None:
        # Where there are keys to go on with, nobody waits for whoever fetches.
        if not self._lock.acquire(blocking=self._keys is None):
            return
        try:
            if now - self._tried_at < BETWEEN_FETCHES:
                return
            self._tried_at = now
            self._keys = _keys(self._fetch(), self._algorithm)
            self._fetched_at = now
        except (httpx.HTTPError, jwt.PyJWTError, ValueError, TypeError) as error:
            _log.warning("the keys of the issuer could not be fetched: %s", type(error).__name__)
        finally:
            self._lock.release()


def fetch_from(url: str) -> Callable[[], bytes]:
    """Return what fetches a key set over HTTP, of bounded length and time, without following redirects."""

    def fetch() -> bytes:
        parts, length = [], 0
        with httpx.stream("GET", url, timeout=_FETCH_SECONDS, follow_redirects=False) as response:
            response.raise_for_status()
            if response.status_code != httpx.codes.OK:
                raise ValueError(response.status_code)
            for part in response.iter_bytes():
                length += len(part)
                if length > _MOST_BYTES:
                    raise ValueError("too long")
                parts.append(part)
        return b"".join(parts)

    return fetch


def _keys(text: bytes, algorithm: str) -> Mapping[str, jwt.PyJWK]:
    """Return the usable keys by their names. Those that are for something else are left out."""
    document = json.loads(text)
    entries = cast("list[dict[str, object]]", document["keys"] if isinstance(document, dict) else [])
    keys = {
        cast("str", entry["kid"]): jwt.PyJWK(entry, algorithm)
        for entry in entries
        if isinstance(entry.get("kid"), str)
        and entry.get("kty") == _KINDS[algorithm]
        and entry.get("use", "sig") == "sig"
        and entry.get("alg", algorithm) == algorithm
    }
    if not keys:
        raise ValueError("no usable key")
    return keys
