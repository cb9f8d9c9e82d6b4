"""Lets a suspect submission be judged with nothing else in progress in this worker (see ``evalx.cache.claims``)."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator


class Quarantine:
    """Many at once, or one alone. Who wants to be alone is waited for: nobody new begins before."""

    def __init__(self) -> None:
        self._changed = asyncio.Condition()
        self._inside = 0
        self._wanting = 0

    @contextlib.asynccontextmanager
    async def enter(self, *, alone: bool) -> AsyncIterator[None]:
        """Be inside, together with others or alone."""
        await (self._enter_alone() if alone else self._enter())
        try:
            yield
        finally:
            await asyncio.shield(self._leave(alone))

    async def _enter(self) -> None:
        # The usual way takes no lock: nothing is awaited between the look and the step.
        if self._wanting:
            async with self._changed:
                await self._changed.wait_for(lambda: not self._wanting)
        self._inside += 1

    async def _enter_alone(self) -> None:
        self._wanting += 1
        try:
            async with self._changed:
                await self._changed.wait_for(lambda: not self._inside)
        except BaseException:
            self._wanting -= 1
            await asyncio.shield(self._notify())
            raise
        self._inside += 1

    async def _leave(self, alone: bool) -> None:
        self._inside -= 1
        self._wanting -= alone
        if alone or self._wanting:
            await self._notify()

    async def _notify(self) -> None:
        async with self._changed:
            self._changed.notify_all()
