"""A client whose broker is a list, for the tests of the client."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import msgspec

from evalx.client import Client
from evalx.languages import Registry
from evalx.messages import (
    PLACE_HEADER,
    ErrorInfo,
    Result,
    Submission,
    TestCase,
    encode_result,
)
from evalx.settings import Settings
from evalx.verdicts import Verdict

RULES = Registry.load().rules(Settings())


def make(submission_id: str = "s-1") -> Submission:
    """As a service would: without the defaults that the worker fills in."""
    return Submission(id=submission_id, language="python", code="", tests=(TestCase(stdin="1"), TestCase(stdin="2")))


def make_with(**fields: Any) -> Submission:
    return msgspec.structs.replace(make(), **fields)


class Loopback(Client):
    """A client whose broker is a list. ``refusal`` is what it answers instead; ``gate`` holds its confirmations."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(Settings(**settings))
        self.produced: list[tuple[str, int, bytes]] = []
        self.headers: list[dict[str, bytes]] = []
        self.refusal: Exception | None = None
        self.gate = asyncio.Event()
        self.gate.set()

    async def _connect(self) -> None:
        pass

    async def _produce(
        self, submission_id: str, partition: int, value: bytes, headers: list[tuple[str, bytes]]
    ) -> tuple[int, int]:
        if self.refusal is not None:
            raise self.refusal
        self.produced.append((submission_id, partition, value))
        self.headers.append(dict(headers))
        offset = len(self.produced) - 1
        await self.gate.wait()
        return partition, offset

    def answer(self, submission_id: str, attempt: int = 1, place: tuple[int, int] | None = None, **fields: Any) -> None:
        given = {"status": "judged", "verdict": Verdict.OK, **fields}
        result = Result(id=submission_id, lane="normal", worker="w", attempt=attempt, **given)
        self.read(submission_id.encode(), encode_result(result), place)

    def reject(self, submission_id: str, place: tuple[int, int] | None = None) -> None:
        error = ErrorInfo("conflict", "used before", "id")
        self.answer(submission_id, place=place, status="rejected", verdict=None, error=error)

    def read(self, key: bytes | None, value: bytes | None, place: tuple[int, int] | None = None) -> None:
        headers = [] if place is None else [(PLACE_HEADER, b"%d:%d" % place)]
        self._waiting.take(SimpleNamespace(key=key, value=value, headers=headers))


async def until(condition: Callable[[], bool]) -> None:
    """Let the others have their turns."""
    for _ in range(1000):
        if condition():
            return
        await asyncio.sleep(0)
    raise AssertionError("it never came true")
