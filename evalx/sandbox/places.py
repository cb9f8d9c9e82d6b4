"""Places: how many containers may exist here. A container has one from before it is created until it is removed.

Places are bounded by the worker's own cap, and by what the *quota* grants it of the containers that all workers may
have together. The quota is asked for one more only when a container is to be started, and told in between what is
here, so what is not used here can be used elsewhere.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from typing import Protocol

from evalx.metrics import POOL_ALLOWANCE

#: Seconds between renewals of the quota.
QUOTA_INTERVAL_S = 5.0
#: Seconds after which a grant that was not renewed counts no more, two renewals having failed: the process was stopped
#: meanwhile, its containers have ended and its share may be another worker's.
GRANT_S = 3 * QUOTA_INTERVAL_S
#: Seconds before the quota is asked for more again after it refused.
REFUSED_PAUSE_S = 1.0


class Quota(Protocol):
    """This worker's part of the containers that all workers may have together."""

    async def claim(self, held: int, want: int) -> int:
        """How many of the ``want`` containers may exist here from now on; the ``held`` that exist are counted anyway.

        May be less than ``held``: then some are to be removed. Never raises.
        """

    async def release(self) -> None:
        """No container is here any more. Never raises."""


class Unshared:
    """The quota of a pool that shares with nobody."""

    async def claim(self, held: int, want: int) -> int:
        """All that is wanted."""
        return want

    async def release(self) -> None:
        """Nothing to do."""


class Signal:
    """Wakes all who wait for a change."""

    def __init__(self) -> None:
        self._waiters: list[asyncio.Future[None]] = []

    def fire(self) -> None:
        """Wake them."""
        waiters, self._waiters = self._waiters, []
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def wait(self, seconds: float) -> None:
        """Until the next change, but not for longer."""
        waiter = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        # Not ``wait_for``: before Python 3.12 that forgets a cancellation which comes together with the change.
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await waiter


class Places:
    """The places of one pool."""

    def __init__(self, cap: int, quota: Quota) -> None:
        self._cap = cap
        self._quota = quota
        self._granted = 0
        self._granted_at = -GRANT_S
        self._refused_at = -REFUSED_PAUSE_S
        self._claiming = asyncio.Lock()
        #: Places that are taken.
        self.taken = 0
        #: Whether the quota granted less than was wanted when it was asked last.
        self.is_short = False

    @property
    def allowance(self) -> int:
        """Containers that may exist here: the cap, unless the quota has refused some."""
        return max(1, self._granted) if self.is_short else self._cap

    @property
    def is_overdrawn(self) -> bool:
        """Whether more exist than may."""
        return self.taken > min(self._cap, self._granted)

    def take(self) -> bool:
        """Take a place if there is one."""
        fresh = time.monotonic() - self._granted_at < GRANT_S
        if not fresh or self.taken >= min(self._cap, self._granted):
            return False
        self.taken += 1
        return True

    def free(self) -> None:
        """Give one back."""
        self.taken -= 1

    async def take_more(self) -> bool:
        """Take a place that the quota has to be asked for."""
        if self.taken >= self._cap or time.monotonic() - self._refused_at < REFUSED_PAUSE_S:
            return False
        await self.renew(self.taken + 1)
        if self.take():
            return True
        self._refused_at = time.monotonic()
        return False

    async def renew(self, want: int) -> None:
        """Tell the quota what is here, and learn what may be."""
        async with self._claiming:
            asked_at = time.monotonic()
            want = min(self._cap, max(want, self.taken))
            # What is taken while we ask must be part of what we ask for.
            self._granted = min(self._granted, want)
            self._granted = await self._quota.claim(self.taken, want)
            self._granted_at = asked_at
            self.is_short = self._granted < want
        POOL_ALLOWANCE.set(self.allowance)

    async def release(self) -> None:
        """Tell the quota that nothing is here any more."""
        await self._quota.release()
