"""When to try again after a failure. Pure: time is passed in, in seconds of a monotonic clock.

A breaker opens at the first failure and stays open for a pause that doubles with each further one, up to a bound. After
the pause it admits one try at a time, each a pause after the other, until one succeeds. Tries that began before the
breaker opened say nothing new when they fail: ten starts that a daemon takes along are one failure.
"""

from __future__ import annotations


class Breaker:
    """Opens at a failure, closes at a success. ``first_s`` and ``longest_s`` are pauses in seconds."""

    def __init__(self, first_s: float, longest_s: float) -> None:
        self._first_s = first_s
        self._longest_s = longest_s
        self._opened_at = 0.0
        self._retry_at = 0.0
        #: Failures since the last success.
        self.failures = 0
        #: What the last failure said.
        self.reason = ""

    @property
    def is_closed(self) -> bool:
        """Whether the last try was a success, or there was none."""
        return self.failures == 0

    def waits(self, now: float) -> float:
        """Seconds until a try is admitted, 0 for at once."""
        return 0.0 if self.is_closed else max(0.0, self._retry_at - now)

    def admits(self, now: float) -> bool:
        """Whether a try may begin now; one that is admitted while the breaker is open keeps others from it."""
        if self.waits(now) > 0:
            return False
        if not self.is_closed:
            self._retry_at = now + self._pause()
        return True

    def failed(self, began_at: float, now: float, reason: str) -> None:
        """A try that began then has failed."""
        if not self.is_closed and began_at < self._opened_at:
            return
        self.failures += 1
        self.reason = reason
        self._opened_at = now
        self._retry_at = now + self._pause()

    def succeeded(self) -> None:
        """All is well again."""
        self.failures = 0
        self.reason = ""

    def _pause(self) -> float:
        # The exponent is bounded: an outage may last for days.
        return min(self._longest_s, self._first_s * 2.0 ** min(self.failures - 1, 30))
