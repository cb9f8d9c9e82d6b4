"""Judges one submission in a sandbox of this machine: the worker's engine and pool, without Kafka and Redis."""

from __future__ import annotations

import contextlib
import os
import socket
import time

from evalx.cache.store import Store
from evalx.cli.progress import Progress
from evalx.engine import Engine
from evalx.errors import DockerUnavailableError, JudgeFaultError
from evalx.languages import Registry
from evalx.messages import Result, Submission, TestResult, judge_error_result
from evalx.sandbox.runtime import SandboxRuntime
from evalx.sandbox.spec import LABEL_OWNER
from evalx.settings import Settings

LANE = "local"


async def judge_locally(settings: Settings, submission: Submission, progress: Progress) -> Result:
    """The result of a submission, a `judge_error` included; no container is left behind.

    Raises:
        ConfigurationError: the language's image is missing.
        DockerUnavailableError: the daemon does not answer.
    """
    registry = Registry.load()
    image = registry.resolve(submission.language, submission.version).image
    worker = f"{socket.gethostname()}:{os.getpid()}"
    # One submission is judged in one container at a time.
    settings = settings.model_copy(update={"container_pool_size": 1, "container_cap": 1})
    sandbox = SandboxRuntime(settings, [image], registry.interpreters)
    try:
        await sandbox.start(owner=f"judge:{worker}", warm=[image])
        store = Store(None, timeout_ms=settings.redis_timeout_ms, ttl_s=settings.result_cache_ttl_s)
        return await _judge(Engine(registry, sandbox, store), submission, worker, progress)
    finally:
        await _remove_leftovers(sandbox, f"judge:{worker}")
        await sandbox.close()


async def _judge(engine: Engine, submission: Submission, worker: str, progress: Progress) -> Result:
    def on_test(test: TestResult) -> None:
        progress.ended(test.id, test.verdict, test.cpu_time_ms)

    progress.say("judging")
    started = time.perf_counter()
    try:
        judgement = await engine.judge(submission, on_test=on_test)
    except JudgeFaultError as fault:
        return judge_error_result(
            submission.id,
            fault,
            language=submission.language,
            version=submission.version,
            lane=LANE,
            worker=worker,
            judged_ms=_ms_since(started),
            metadata=submission.metadata,
        )
    return judgement.result(submission, lane=LANE, worker=worker, judged_ms=_ms_since(started))


async def _remove_leftovers(sandbox: SandboxRuntime, owner: str) -> None:
    """A start that was interrupted may leave a container that was created and that nobody knows of."""
    with contextlib.suppress(DockerUnavailableError, AssertionError):
        for container in await sandbox.find_containers({LABEL_OWNER: owner}):
            await sandbox.remove_container(container.id)


def _ms_since(started: float) -> float:
    return (time.perf_counter() - started) * 1000
