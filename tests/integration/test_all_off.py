"""Every feature that can be switched off is: verdicts are the same, only slower.

The tests are those of ``test_kafka_verdicts``, which ask for ``topics`` and get those of this module.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest
from integration_stack import Topics, submission
from test_kafka_verdicts import *  # noqa: F403

from evalx.settings import Settings

#: Every setting that exists to switch a feature off; docs/operating.md has what each of them does.
OFF = (
    "fork_server",
    "warm_interpreters",
    "direct_sockets",
    "result_cache",
    "test_cache",
    "single_flight",
    "priorities",
    "elastic_pool",
)


@pytest.fixture(scope="module")
async def topics(open_topics: Callable[..., Topics]) -> AsyncIterator[Topics]:
    """Topics with a worker of which everything is off."""
    async with open_topics("off") as topics:
        worker = await topics.worker(**dict.fromkeys(OFF, False)).ready()
        yield topics
        assert (await worker.stop())[0] == 0


def test_nothing_else_can_be_switched_off():
    assert set(OFF) == {name for name, field in Settings.model_fields.items() if field.default is True}


async def test_a_batch_that_was_judged_before_is_run_again(topics: Topics):
    first, second = [(await topics.judge(submission()))[0] for _ in range(2)]
    assert [first["source"], second["source"]] == ["executed", "executed"]
    assert not second["tests"][0]["cached"]
