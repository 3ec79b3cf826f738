"""The real machine's time."""

import time
from datetime import UTC, datetime, timedelta

from heimdex.service_layer.ports import Clock


class SystemClock(Clock):
    def now(self) -> datetime:
        return datetime.now(UTC)

    def monotonic(self) -> float:
        return time.monotonic()


def sleep(length: timedelta) -> None:
    time.sleep(length.total_seconds())
