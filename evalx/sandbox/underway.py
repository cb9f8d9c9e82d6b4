"""A job on its way: what its container is told meanwhile, of pointless runs and of slots that others need."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

from evalx.sandbox.container import Container
from evalx.sandbox.protocol import RunResult
from evalx.sandbox.slots import Grant

#: Called for each run as it ends; returns the index from which on runs are pointless, or None to go on.
OnResult = Callable[[RunResult], int | None]
#: Called when a job has its CPU slot, before it gets a container; what it raises ends the job.
OnTurn = Callable[[], None]


class Underway:
    """Between a container that runs a job, the slots that the job holds, and who wants its results."""

    def __init__(self, container: Container, grant: Grant, on_result: OnResult) -> None:
        self._container = container
        self._grant = grant
        self._on_result = on_result
        self._tasks: list[asyncio.Task[None]] = []

    def begun(self) -> None:
        """The container has the job. From now on its slots can be asked for."""
        self._grant.offer(self._go_on_with)

    def result(self, run: RunResult) -> None:
        """A run has ended."""
        if (from_index := self._on_result(run)) is not None:
            self._spawn(self._container.cancel(from_index))

    def running(self, count: int) -> None:
        """No more than so many runs are under way, as was asked for."""
        had = len(self._grant.numbers)
        self._grant.keep(count)
        if had and not self._grant.numbers:
            self._spawn(self._resume())

    async def end(self) -> None:
        """The job is over: nothing more is to be told, and nobody waits for a slot any more."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _go_on_with(self, slots: int) -> None:
        self._spawn(self._container.allow(slots))

    async def _resume(self) -> None:
        await self._grant.regain()
        await self._container.allow(self._grant.keeps)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.append(asyncio.create_task(work))
