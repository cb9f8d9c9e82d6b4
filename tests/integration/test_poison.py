"""A submission that is the death of its workers, by a defect that the test puts into them."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Callable
from pathlib import Path

import integration_stack
import pytest
from integration_stack import Services, Topics, submission

#: A worker in which judging a submission with this cue ends the process, as a crash in native code would.
DOOMED = f"""#!{sys.executable}
import os, signal
from evalx.cli import main
from evalx.engine import Engine

judge = Engine.judge

async def doomed(self, submission, **arguments):
    if "die" in submission.metadata:
        os.kill(os.getpid(), signal.SIGKILL)
    return await judge(self, submission, **arguments)

Engine.judge = doomed
main()
"""


@pytest.fixture
def _doomed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    command = tmp_path / "evalx-doomed"
    command.write_text(DOOMED)
    command.chmod(0o755)
    monkeypatch.setattr(integration_stack, "EVALX", command)


@pytest.mark.usefixtures("_doomed")
async def test_a_submission_that_killed_two_workers_is_a_dead_letter_of_the_third(
    open_topics: Callable[..., Topics], services: Services
):
    """Without it, the submission would go from worker to worker for ever, and its partition would stand still."""
    redis = services.next_redis()
    async with open_topics("doom") as topics:
        bad = {**submission(), "id": topics.new_id(), "metadata": {"die": "now"}}
        first = topics.worker(redis_url=redis, container_pool_size=0)
        await topics.submit(bad, partition=4)
        workers = [first]
        for _ in range(2):
            assert await asyncio.to_thread(workers[-1].process.wait, 90) == -9
            workers.append(topics.worker(redis_url=redis, container_pool_size=0))
        letter = await topics.dead_letter(4, 0)
        result = await topics.result(bad["id"])
        assert letter.headers["evalx-error-code"] == b"poison"
        assert (result["status"], result["error"]["code"], result["worker"]) == (
            "judge_error",
            "poison",
            workers[-1].name,
        )
        (behind,) = await topics.judge(submission(), partition=4)
        assert behind["verdict"] == "AC"
        assert (await workers[-1].stop())[0] == 0
        assert (await topics.committed())[4] == 2
        assert len(topics.dead_letters) == 1
