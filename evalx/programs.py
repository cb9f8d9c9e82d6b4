"""Compiled programs: from the cache, or compiled, once however many batches ask for the same one at a time.

Theory of operation
===================
A contest begins with many batches of few sources. Whoever asks first compiles; whoever asks meanwhile waits for that,
without a container. If it fails through our fault, or is ended, the next of those who wait compiles. Nobody waits for a
compile of a lower lane that has not had its turn, since that one may have to wait itself for all that is above it; he
compiles instead, and when the other one's turn comes, that one finds the program there. A program that another worker
compiles at this moment is compiled here, too: that costs one compile a worker, and no word between them for each batch.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import msgspec
import structlog

from evalx.cache.decoded import Decoded
from evalx.cache.rules import is_conclusive
from evalx.cache.store import StoreLevel
from evalx.cache.values import trimmed
from evalx.execution import Artifact, Sandbox, compile_program
from evalx.languages import Language
from evalx.messages import Submission
from evalx.stages import mark

log = structlog.get_logger(__name__)

_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Artifact)


class ArtifactCache(Protocol):
    """Where compiled programs are kept."""

    async def get(self, level: StoreLevel, key: str) -> bytes | None:
        """The value of a key, None when there is none."""

    async def put(self, level: StoreLevel, key: str, value: bytes) -> None:
        """Keep a value."""


class _OvertakenError(Exception):
    """A higher lane compiles the same program, or has compiled it."""


class _Compile(msgspec.Struct):
    """One that is under way; the outcome is None when others cannot use it."""

    rank: int
    outcome: asyncio.Future[Artifact | None]
    has_turn: bool = False

    def is_worth_waiting_for(self, rank: int) -> bool:
        """Whether somebody of this rank has it sooner than by a compile of his own."""
        return self.has_turn or self.rank <= rank


class Programs:
    """Brings the compiled program of a submission."""

    def __init__(self, sandbox: Sandbox, cache: ArtifactCache) -> None:
        self._sandbox = sandbox
        self._cache = cache
        self._decoded: Decoded[Artifact] = Decoded()
        self._under_way: dict[str, _Compile] = {}

    async def of(self, submission: Submission, language: Language, key: str, rank: int) -> Artifact:
        """The program of a submission, known by this key; its report says ``cached`` unless it was compiled for it.

        Raises:
            JudgeFaultError: our fault, never the program's.
        """
        if language.compile is None or submission.cache != "use":
            artifact = await compile_program(self._sandbox, language, submission.code, rank)
            if language.compile is not None and submission.cache != "bypass":
                await self._keep(key, artifact)
            return artifact
        while True:
            if (known := await self._known(key)) is not None:
                return known
            under_way = self._under_way.get(key)
            if under_way is None or not under_way.is_worth_waiting_for(rank):
                try:
                    return await self._compile(submission, language, key, rank)
                except _OvertakenError:
                    continue
            await asyncio.wait([under_way.outcome])
            mark("compile")
            if not under_way.outcome.cancelled() and (shared := under_way.outcome.result()) is not None:
                return shared

    async def _compile(self, submission: Submission, language: Language, key: str, rank: int) -> Artifact:
        mine = self._under_way[key] = _Compile(rank, asyncio.get_running_loop().create_future())

        def on_turn() -> None:
            if self._under_way.get(key) is not mine:
                raise _OvertakenError
            mine.has_turn = True

        try:
            artifact = await compile_program(self._sandbox, language, submission.code, rank, on_turn)
            mine.outcome.set_result(_as_cached(artifact) if is_conclusive(artifact.report) else None)
            await self._keep(key, artifact)
            return artifact
        finally:
            mine.outcome.cancel()
            if self._under_way.get(key) is mine:
                del self._under_way[key]

    async def _keep(self, key: str, artifact: Artifact) -> None:
        if not is_conclusive(artifact.report):
            return
        value = trimmed(_encoder.encode(artifact))
        self._decoded.put(key, value, _as_cached(artifact))
        await self._cache.put("artifact", key, value)

    async def _known(self, key: str) -> Artifact | None:
        value = await self._cache.get("artifact", key)
        if value is None:
            return None
        if (known := self._decoded.get(key, value)) is not None:
            return known
        try:
            artifact = _decoder.decode(value)
        except msgspec.DecodeError:
            log.warning("cache_value_damaged", key=key)
            return None
        known = _as_cached(artifact)
        self._decoded.put(key, value, known)
        return known


def _as_cached(artifact: Artifact) -> Artifact:
    report = artifact.report and msgspec.structs.replace(artifact.report, cached=True)
    return Artifact(report, artifact.files)
