"""Runs scenarios several at a time: most of one is waiting, for sessions to end, sleepers to wake, brokers to return.

Every test of this folder gets a stand-in. The first one to run begins all scenarios that are not marked ``alone``, a
few at a time and in their order, on the event loop that all tests of the session share. Each stand-in waits for its own
scenario, and has its outcome. What a scenario has to say is kept until then. A scenario that hangs is ended by itself,
at the line where it hangs: a limit on its stand-in would end neither it nor those that wait for it.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import pytest
from integration_stack import Worker


@dataclass
class Run:
    """What is known of one scenario while it runs, and after."""

    lines: list[str] = field(default_factory=list)
    workers: list[Worker] = field(default_factory=list)


_current: ContextVar[Run] = ContextVar("run")


def current_run() -> Run:
    """Of the scenario that calls this."""
    return _current.get()


class SideBySide:
    """``stand_in`` for each test, ``close`` at the end of the session.

    Args:
        at_once: how many scenarios run at the same time.
        limit_s: seconds for one of them, from the moment that it begins.
    """

    def __init__(self, at_once: int, limit_s: float) -> None:
        self._limit_s = limit_s
        self._places = asyncio.Semaphore(at_once)
        self._scenarios: dict[str, tuple[Callable[..., Awaitable[None]], dict[str, Any]]] = {}
        self._fixtures: dict[str, Any] = {}
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self.runs: dict[str, Run] = {}

    def stand_in(self, item: pytest.Function, *, alone: bool) -> None:
        """Let the test wait for its scenario, which others run beside; or for the others, if it is to run alone."""
        scenario, name = item.obj, item.nodeid
        parameters = dict(item.callspec.params) if hasattr(item, "callspec") else {}
        if not alone:
            self._scenarios[name] = (scenario, parameters)

        async def wait(**arguments: Any) -> None:
            self._fixtures |= {key: value for key, value in arguments.items() if key not in parameters}
            self._begin()
            if alone:
                await asyncio.gather(*self._tasks.values(), return_exceptions=True)
                self._tasks[name] = asyncio.create_task(self._perform(name, scenario, arguments))
            try:
                await self._tasks[name]
            finally:
                print("", *self.runs[name].lines, sep="\n")

        item.obj = wait

    def _begin(self) -> None:
        """Begin all whose fixtures are there; those of the stand-in that calls this are."""
        for name, (scenario, parameters) in list(self._scenarios.items()):
            wanted = inspect.signature(scenario).parameters.keys() - parameters.keys()
            if wanted <= self._fixtures.keys():
                arguments = {key: self._fixtures[key] for key in wanted}
                self._tasks[name] = asyncio.create_task(self._perform(name, scenario, arguments | parameters))
                del self._scenarios[name]

    async def _perform(self, name: str, scenario: Callable[..., Awaitable[None]], arguments: dict[str, Any]) -> None:
        _current.set(self.runs.setdefault(name, Run()))
        async with self._places, asyncio.timeout(self._limit_s):
            await scenario(**arguments)

    async def close(self) -> None:
        """End what still runs."""
        for task in self._tasks.values():
            task.cancel()
        await asyncio.gather(*self._tasks.values(), return_exceptions=True)
